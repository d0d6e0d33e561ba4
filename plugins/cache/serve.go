package main

import "wproxy/abi"

// serve answers with what was found. It reports whether it could.
func (x *exchange) serve(info abi.ObjectInfo, how result, now int64) bool {
	return x.serveWith(info, how, now, nil)
}

// serveWith is serve with edits of the head that come first.
func (x *exchange) serveWith(info abi.ObjectInfo, how result, now int64, edits []abi.FieldEdit) bool {
	m, r := &x.meta, &x.request
	s, list, b := &x.room.answer, append(x.room.edits, edits...), x.room.text
	*s = abi.ObjectServe{Key: x.found, Length: -1}
	set := func(name string, value []byte) {
		list = append(list, abi.FieldEdit{Op: abi.FieldSet, Name: name, Value: text(value)})
	}
	if how != revalidated {
		for _, name := range m.withhold {
			list = addEdit(list, abi.FieldRemove, name, "")
		}
	}
	b = appendDecimal(b, min(m.currentAge(now), maxSeconds))
	set("age", b)
	if x.c.status {
		at := len(b)
		b = x.appendStatus(b, how, now)
		set("cache-status", b[at:])
	}
	if m.status == 200 && notModified(r, m, now) {
		s.Status, s.HeadOnly = 304, true
		for _, name := range [...]string{"content-type", "content-encoding", "content-language", "content-range"} {
			list = addEdit(list, abi.FieldRemove, name, "")
		}
	} else if p := wanted(r, m, info.Length, now); p.status != 0 {
		s.Status, s.Offset, s.Length, s.HeadOnly = p.status, p.offset, p.length, p.status == 416
		at := len(b)
		b = appendRange(b, p, info.Length)
		set("content-range", b[at:])
	}
	// What was found is what a request like this one finds until it is another message, or not fresh; and no
	// condition or range is seen differently then. (The century of a year of two digits is, when 50 years are over.)
	if how == hit && x.c.repeats && m.promise().Lifetime > 0 {
		s.Repeat = x.chosen
	}
	s.Edits = list
	x.room.edits, x.room.text = list[:0], keep(b)
	if !x.host.serve(s) {
		return false
	}
	x.told.tell(how)
	return true
}

// appendRange appends the value of Content-Range of a part of a message of size bytes.
func appendRange(dst []byte, p part, size int64) []byte {
	if p.status != 206 {
		return appendDecimal(add(dst, "bytes */"), size)
	}
	dst = appendDecimal(add(dst, "bytes "), p.offset)
	dst = appendDecimal(add(dst, "-"), p.offset+p.length-1)
	return appendDecimal(add(dst, "/"), size)
}

// appendStatus appends the value of Cache-Status (RFC 9211) of an answer with what is stored.
func (x *exchange) appendStatus(dst []byte, how result, now int64) []byte {
	if x.meta.upstream != "" {
		dst = add(add(dst, x.meta.upstream), ", ")
	}
	var text string
	switch {
	case how == hit:
		return appendDecimal(add(dst, x.c.hit), x.meta.lifetime-x.meta.currentAge(now))
	case how == revalidated:
		text = "; fwd=stale; fwd-status=304; ttl="
	case how == stale && x.why == "upstream-error":
		text = "; fwd=stale; detail=upstream-error; ttl="
	case how == collapsed:
		text = "; hit; collapsed; ttl="
	default:
		text = "; hit; ttl="
	}
	return appendDecimal(add(add(dst, x.c.name), text), x.meta.lifetime-x.meta.currentAge(now))
}

// decimal returns a number as text.
func decimal(n int64) string { return string(appendDecimal(nil, n)) }

// appendDecimal appends a number as text.
func appendDecimal(dst []byte, n int64) []byte {
	var digits [20]byte
	i, minus := len(digits), n < 0
	if minus {
		n = -n
	}
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	if minus {
		i--
		digits[i] = '-'
	}
	return append(dst, digits[i:]...)
}
