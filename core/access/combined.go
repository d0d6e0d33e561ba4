package access

import "strconv"

// appendCombined appends r in the combined format of Apache and nginx:
//
//	client - - [time] "method target protocol" status bytes "referer" "user agent"
//
// Bytes that could end a quoted part or a line are written as \xHH, as nginx does.
func appendCombined(b []byte, r *Record, hide *Hide) []byte {
	b = append(b, orDash(r.Client)...)
	b = append(b, " - - ["...)
	b = r.Time.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendQuoted(b, r.Method)
	b = append(b, ' ')
	b = appendQuoted(b, hide.Target(r.Path))
	b = append(b, ' ')
	b = append(b, r.Protocol...)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, ` "`...)
	b = appendQuoted(b, orDash(hide.Text("referer", r.Referer)))
	b = append(b, `" "`...)
	b = appendQuoted(b, orDash(hide.Text("user-agent", r.UserAgent)))
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
	s = cut(s)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
