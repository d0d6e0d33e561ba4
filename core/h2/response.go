package h2

import (
	"strings"

	"wproxy/core/exchange"
)

// parseResponse makes a response head of b (RFC 9113 8.3.2). method is that of the
// request. It returns how many bytes of DATA are to come, which is not what Length says
// where an answer has no body, or exchange.LengthUnknown.
func parseResponse(h *exchange.Response, b *block, method string) (body int64, f fault) {
	if !b.fault.ok() {
		return 0, b.fault
	}
	h.Version, h.Length = exchange.HTTP2, exchange.LengthUnknown
	lengths := 0
	for i := range b.fields {
		x := &b.fields[i]
		if strings.HasPrefix(x.Name, ":") {
			if x.Name != ":status" || h.Status != 0 || h.Fields.Len() > 0 {
				return 0, bad(ReasonPseudo)
			}
			if h.Status = parseStatus(x.Value); h.Status == 0 {
				return 0, bad(ReasonPseudo)
			}
			continue
		}
		if f := checkField(x); !f.ok() {
			return 0, f
		}
		if x.Name == "content-length" {
			n, ok := parseLength(x.Value)
			if !ok || x.Value == "" {
				return 0, bad(ReasonBadLength)
			}
			if lengths++; lengths > 1 {
				return 0, bad(ReasonManyLengths)
			}
			h.Length = n
		}
		h.Fields.Add(x.Name, x.Value)
	}
	switch {
	case h.Status == 0, h.Status == 101: // RFC 9113 8.6: there is no such answer
		return 0, bad(ReasonPseudo)
	case h.Status < 200, h.Status == 204:
		if lengths > 0 && h.Length > 0 { // RFC 9110 8.6: must not be sent
			return 0, bad(ReasonBadLength)
		}
		h.Length = 0
		return 0, fault{}
	case h.Status == 304, method == "HEAD":
		return 0, fault{}
	}
	return h.Length, fault{}
}

// parseStatus parses three digits from 100 to 599; 0: something else.
func parseStatus(s string) int {
	if len(s) != 3 {
		return 0
	}
	n := 0
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		n = n*10 + int(s[i]-'0')
	}
	if n < 100 || n > 599 {
		return 0
	}
	return n
}
