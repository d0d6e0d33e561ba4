package main

// lately remembers what was read last of fields that one answer after the other has with the same
// value: those of a route mostly have one Cache-Control, and those of a second one Date.
type lately struct {
	text    [maxLately]byte // of a Cache-Control, which was the only line
	length  int             // of it; 0: none
	control control

	date  [len("Sun, 06 Nov 1994 08:49:37 GMT")]byte
	dated bool // there is one
	time  int64
}

// maxLately is the longest Cache-Control that is remembered, in bytes; few are as long.
const maxLately = 96

// controlOf is resp.control(name).
func (l *lately) controlOf(resp *head, name string) control {
	value := resp.get(name)
	if value == "" || len(value) > maxLately || name == cdnControl || resp.count(name) > 1 {
		return resp.control(name)
	}
	if string(l.text[:l.length]) == value {
		return l.control
	}
	c := resp.control(name)
	if c.noCacheFields == nil { // those are parts of the value
		l.length, l.control = copy(l.text[:], value), c
	}
	return c
}

// dateOf reads the Date of a response, see parseDate.
func (l *lately) dateOf(resp *head, now int64) (int64, bool) {
	value := resp.get("date")
	if len(value) != len(l.date) {
		return parseDate(value, now)
	}
	if l.dated && string(l.date[:]) == value {
		return l.time, true
	}
	t, ok := parseDate(value, now)
	if ok && value[3] == ',' { // the year is all there: it is the same at any time
		copy(l.date[:], value)
		l.dated, l.time = true, t
	}
	return t, ok
}
