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
	second int64 // Unix time of stamp; 0 with an empty stamp
	stamp  [len("2006-01-02T15:04:05.")]byte
	filled bool

	columns []column // nil: those of the default
	hide    Hide
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

// appendTime appends t as RFC 3339 has it, in UTC with milliseconds. Most lines
// have the second of the line before.
func (e *encoder) appendTime(b []byte, t time.Time) []byte {
	if s := t.Unix(); s != e.second || !e.filled {
		e.second, e.filled = s, true
		t.UTC().AppendFormat(e.stamp[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, e.stamp[:]...)
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
	b = strconv.AppendInt(b, us/1e6, 10)
	if us %= 1e6; us == 0 {
		return b
	}
	var digits [7]byte
	digits[0] = '.'
	for i := len(digits) - 1; i > 0; i-- {
		digits[i] = byte('0' + us%10)
		us /= 10
	}
	n := len(digits)
	for digits[n-1] == '0' {
		n--
	}
	return append(b, digits[:n]...)
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
	for i := range len(s) {
		if !plain[s[i]] {
			return appendRest(append(b, s[:i]...), s[i:])
		}
	}
	return append(b, s...)
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
