package access

import "strconv"

// appendCombined appends r in the combined format of Apache and nginx:
//
//	client - - [time] "method target protocol" status bytes "referer" "user agent"
//
// Bytes that could end a quoted part or a line are written as \xHH, as nginx does.
func (e *encoder) appendCombined(b []byte, r *Record) []byte {
	b = append(b, orDash(r.Client)...)
	b = append(b, " - - ["...)
	b = append(b, e.stamp.of(r.Time, combinedTime)...)
	b = append(b, `] "`...)
	b = appendQuoted(b, r.Method)
	b = append(b, ' ')
	b = appendQuoted(b, e.hide.Target(r.Path))
	b = append(b, ' ')
	b = append(b, r.Protocol...)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, ` "`...)
	b = appendQuoted(b, orDash(e.hide.Text("referer", r.Referer)))
	b = append(b, `" "`...)
	b = appendQuoted(b, orDash(e.hide.Text("user-agent", r.UserAgent)))
	return append(b, "\"\n"...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	if s = cut(s); isPlain(s) {
		return append(b, s...)
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
