package filter

import (
	"net/http"
	"strconv"

	"wproxy/core/exchange"
)

// AppendStatus appends to b the body of an answer that wproxy makes itself, and
// sets the fields of h that go with it: a short text that a person can act on, or
// the same as JSON for a client that prefers it. A person who sees it finds the
// exchange in the log by its request id. reason may be empty. The length is the
// caller's business. To a client that speaks gRPC a failure is told in gRPC: h has the
// status 200 then, there is no body, and h is to end the message.
func (x *Exchange) AppendStatus(b []byte, h *exchange.Response, status int, reason string) []byte {
	if status >= 400 && x.IsGRPC() {
		SetGRPCHead(h, GRPCCode(status, reason), string(x.AppendGRPCMessage(nil, status, reason)))
		return b
	}
	h.Status = status
	if prefersJSON(x.accept()) {
		h.Fields.Add("content-type", "application/json")
		b = append(b, `{"status":`...)
		b = strconv.AppendInt(b, int64(status), 10)
		b = appendMember(b, "error", http.StatusText(status))
		b = appendMember(b, "reason", reason)
		b = appendMember(b, "request_id", x.RequestID)
		b = append(b, "}\n"...)
	} else {
		h.Fields.Add("content-type", "text/plain; charset=utf-8")
		b = x.appendText(b, status, reason)
	}
	if status >= 400 {
		h.Fields.Add("cache-control", "no-store")
	}
	return b
}

func (x *Exchange) appendText(b []byte, status int, reason string) []byte {
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, '\n')
	if reason != "" {
		b = append(b, "reason: "...)
		b = append(b, reason...)
		if hint := hints(reason); hint != "" {
			b = append(b, " ("...)
			b = append(b, hint...)
			b = append(b, ')')
		}
		b = append(b, '\n')
	}
	b = append(b, "request id: "...)
	b = append(b, x.RequestID...)
	return append(b, '\n')
}

// accept returns the request's Accept.
func (x *Exchange) accept() string {
	if x.Request == nil {
		return ""
	}
	x.Mu.Lock() // a guest may be at the request
	defer x.Mu.Unlock()
	return x.Request.Fields.Joined("accept")
}

// hints says what to do about a reason whose name alone does not.
func hints(reason string) string {
	switch reason {
	case "encoded_slash":
		return `the path has an encoded slash, backslash or NUL; a route with encoded_slash = "keep" takes it`
	case "repick_policy":
		return `a plugin led to a route with plugins that have not run; repick = "trust" on that route allows it`
	}
	return ""
}

// appendMember appends a further member of a JSON object. Reasons and ids are
// ASCII; what would have to be escaped is replaced.
func appendMember(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	for i := range len(value) {
		c := value[i]
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			c = '_'
		}
		b = append(b, c)
	}
	return append(b, '"')
}
