package access

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// An encoder turns records into lines of JSON (RFC 8259). It appends to the log's
// buffer and nowhere else: a line is written for every exchange, and a general
// encoder took twice the time of all else that a line costs (RATIONALE.md). It
// belongs to one goroutine at a time.
type encoder struct {
	stamp   stamp
	columns []column // nil: those of the default
	hide    Hide
}

// A stamp is the text of a second. Most lines have that of the line before.
type stamp struct {
	second int64                   // Unix time of text
	zone   *time.Location          // that text was made for; nil: there is no text yet
	text   [len(combinedTime)]byte // of the longer layout
}

// The layouts of a stamp.
const (
	jsonTime     = "2006-01-02T15:04:05." // RFC 3339; milliseconds follow
	combinedTime = "02/Jan/2006:15:04:05 -0700"
)

// of returns the text of t's second in layout, which is always the same.
func (s *stamp) of(t time.Time, layout string) []byte {
	if second, zone := t.Unix(), t.Location(); second != s.second || zone != s.zone {
		s.second, s.zone = second, zone
		t.AppendFormat(s.text[:0], layout)
	}
	return s.text[:len(layout)]
}

// appendJSON appends the line of r.
func (e *encoder) appendJSON(b []byte, r *Record) []byte {
	columns := e.columns
	if columns == nil {
		columns = defaultColumns
	}
	start := len(b)
	for i := range columns {
		if c := &columns[i]; r.TCP {
			b = e.appendTCP(b, r, c)
		} else {
			b = e.appendColumn(b, r, c)
		}
	}
	if len(b) == start {
		b = append(b, ',')
	}
	b[start] = '{' // for the comma
	return append(b, "}\n"...)
}

// appendList appends the rest of an array of strings.
func appendList(b []byte, list []string) []byte {
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(appendEscaped(b, s), '"')
	}
	return append(b, ']')
}

func appendPlugins(b []byte, plugins []Plugin) []byte {
	b = append(b, '[')
	for i := range plugins {
		if i > 0 {
			b = append(b, ',')
		}
		p := &plugins[i]
		b = append(b, `{"name":"`...)
		b = appendEscaped(b, p.Name)
		b = append(b, `","us":`...)
		b = strconv.AppendInt(b, p.Took.Microseconds(), 10)
		if p.Verdict != "" {
			b = append(b, `,"verdict":"`...)
			b = append(appendEscaped(b, cut(p.Verdict)), '"')
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendTime appends t as RFC 3339 has it, in UTC with milliseconds.
func (e *encoder) appendTime(b []byte, t time.Time) []byte {
	b = append(b, e.stamp.of(t.UTC(), jsonTime)...)
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendSeconds appends d in seconds, as a number of at most six decimals: finer
// is noise, and longer to write.
func appendSeconds(b []byte, d time.Duration) []byte {
	us := d.Microseconds()
	if us < 0 {
		b, us = append(b, '-'), -us
	}
	if us < 1e6 {
		b = append(b, '0')
	} else {
		b = strconv.AppendInt(b, us/1e6, 10)
	}
	rest := uint32(us % 1e6) //nolint:gosec // less than a million
	if rest == 0 {
		return b
	}
	b = append(b, '.', byte('0'+rest/100_000), byte('0'+rest/10_000%10), byte('0'+rest/1000%10),
		byte('0'+rest/100%10), byte('0'+rest/10%10), byte('0'+rest%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// cut bounds s to maxValue bytes, at the border of a character.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for n > maxValue-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	t[0x7f] = false // allowed, but no reader of a log wants to see it raw
	return t
}()

// appendEscaped appends s as it stands inside of a JSON string (RFC 8259 7). Bytes
// that are not UTF-8 become U+FFFD.
func appendEscaped(b []byte, s string) []byte {
	if isPlain(s) {
		return append(b, s...)
	}
	i := 0
	for plain[s[i]] {
		i++
	}
	return appendRest(append(b, s[:i]...), s[i:])
}

// isPlain reports whether all bytes of s are plain. It looks at eight at once.
func isPlain(s string) bool {
	if len(s) < 8 {
		for i := range len(s) {
			if !plain[s[i]] {
				return false
			}
		}
		return true
	}
	marks := notPlain(load(s[len(s)-8:]))
	for ; len(s) > 8; s = s[8:] {
		marks |= notPlain(load(s))
	}
	return marks == 0
}

// load returns the first eight bytes of s.
func load(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// notPlain returns 0 if all bytes of w are plain. Each of the five has the highest bit of a
// byte set that is not: because it is not ASCII, is DEL, is less than a space, or is
// one of the two. Other bytes may have it by a carry or a borrow from below, but those begin
// at such a byte only.
func notPlain(w uint64) uint64 {
	const each = 0x0101010101010101 // times c: c in each byte
	return (w | (w + each) | (w - ' '*each) | ((w ^ '"'*each) - each) | ((w ^ '\\'*each) - each)) & (0x80 * each)
}

// appendRest is appendEscaped for what has something to escape.
func appendRest(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plain[c]:
			b = append(b, c)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < utf8.RuneSelf:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return b
}
