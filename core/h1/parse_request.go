package h1

import (
	"bytes"
	"errors"
	"net/http"

	"wproxy/core/exchange"
)

// A requestHead is scratch for parsing request heads. After a fault, what was
// found before it can be read from r.
type requestHead struct {
	section
	facts
}

// reset forgets a head.
func (h *requestHead) reset() {
	h.section.reset()
	h.facts.reset()
}

// parse parses the complete head b, whose lines have been scanned, into r. Names
// in b are put in lower case; r holds no reference to b. scheme is the
// connection's.
func (h *requestHead) parse(b []byte, r *exchange.Request, scheme string) fault {
	if len(h.lines) == 0 {
		return bad(ReasonBadRequestLine)
	}
	first := h.lines[0]
	m, t, version, f := requestLine(b[:first.end])
	if !f.ok() {
		return f
	}
	ff := fields(b, h.lines[1:])
	s := string(b) // the one allocation of a head
	r.Method, r.Target, r.Version, r.Scheme = s[:m], s[m+1:t], version, scheme
	if !ff.ok() {
		return ff
	}
	if f := h.collect(&r.Fields, s, h.lines[1:]); !f.ok() {
		return f
	}
	if f := h.setTarget(r, s[m+1:t]); !f.ok() {
		return f
	}
	return h.setFraming(r)
}

// requestLine splits a request line (RFC 9112 3): b[:m] is the method,
// b[m+1:t] the target.
func requestLine(b []byte) (m, t int, v exchange.Version, f fault) {
	m = bytes.IndexByte(b, ' ')
	if m < 0 {
		m = len(b)
	}
	for _, c := range b[:m] {
		if lowerToken[c] == 0 {
			return 0, 0, 0, bad(ReasonBadMethod)
		}
	}
	switch {
	case m == 0:
		return 0, 0, 0, bad(ReasonBadRequestLine)
	case m > maxMethod:
		// RFC 9112 3: "SHOULD respond with a 501".
		return 0, 0, 0, fault{501, ReasonBadMethod}
	case m == len(b):
		return 0, 0, 0, bad(ReasonBadRequestLine)
	}
	n := bytes.IndexByte(b[m+1:], ' ')
	if n <= 0 {
		return 0, 0, 0, bad(ReasonBadRequestLine) // HTTP/0.9, or two spaces
	}
	t = m + 1 + n
	if n > maxTarget {
		return 0, 0, 0, fault{414, ReasonTargetTooLong}
	}
	v, f = version(b[t+1:], ReasonBadRequestLine)
	return m, t, v, f
}

// version parses an HTTP version (RFC 9112 2.3). It is case-sensitive.
func version(b []byte, reason string) (exchange.Version, fault) {
	switch {
	case string(b) == "HTTP/1.1":
		return exchange.HTTP11, fault{}
	case string(b) == "HTTP/1.0":
		return exchange.HTTP10, fault{}
	case len(b) == len("HTTP/1.1") && string(b[:5]) == "HTTP/" && b[6] == '.' && isDigit(b[5]) && isDigit(b[7]):
		return 0, fault{505, ReasonBadVersion}
	}
	return 0, bad(reason)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// setTarget parses target and host (RFC 9112 3.2, 3.3) into r.
func (h *requestHead) setTarget(r *exchange.Request, target string) fault {
	switch {
	case h.hosts > 1:
		return bad(ReasonRepeatedHost)
	case h.hosts == 0 && r.Version != exchange.HTTP10:
		return bad(ReasonNoHost)
	case r.Method == http.MethodConnect:
		return fault{501, ReasonConnect}
	}
	if h.hosts == 1 {
		// An invalid Host is refused even where the target's authority
		// replaces it (RFC 9112 3.2: "invalid field value").
		if err := r.ParseAuthority(h.host); err != nil {
			return faultOf(err)
		}
	}
	if n := absolute(target); n > 0 {
		if target[:n-3] != r.Scheme && !equalFold(target[:n-3], r.Scheme) {
			return bad(ReasonScheme)
		}
		end := n
		for end < len(target) && target[end] != '/' && target[end] != '?' {
			end++
		}
		// RFC 9112 3.2.2: a proxy MUST ignore the received Host and replace it.
		if err := r.ParseAuthority(target[n:end]); err != nil {
			return faultOf(err)
		}
		target = target[end:]
		switch {
		case target == "" && r.Method == http.MethodOptions:
			target = "*" // RFC 9112 3.2.4
		case target == "" || target[0] == '?':
			target = "/" + target
		}
	}
	if err := r.ParseTarget(target); err != nil {
		return faultOf(err)
	}
	return fault{}
}

// absolute returns the length of the "http://" or "https://" that target starts
// with, or 0.
func absolute(target string) int {
	for _, p := range [...]string{"http://", "https://"} {
		if len(target) >= len(p) && equalFold(target[:len(p)], p) {
			return len(p)
		}
	}
	return 0
}

func faultOf(err error) fault {
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		return fault{e.Status, e.Reason}
	}
	return bad(ReasonBadTarget)
}

// setFraming decides how the body is framed (RFC 9112 6.3), and what HTTP/1.0
// cannot have.
func (h *requestHead) setFraming(r *exchange.Request) fault {
	old := r.Version == exchange.HTTP10
	switch {
	case h.chunked && old:
		// RFC 9112 6.1: "MUST treat the message as if the framing is faulty".
		return bad(ReasonBadTE)
	case h.chunked:
		r.Length = exchange.LengthUnknown
	default:
		r.Length = max(h.length, 0)
	}
	if old {
		return fault{} // RFC 9110 7.8, 10.1.1: Upgrade and Expect are to be ignored
	}
	if h.unknownExpect {
		return fault{417, ReasonBadExpect}
	}
	r.ExpectContinue = h.expect && r.Length != 0
	// A body would have to be read before the switch (RFC 9110 7.8); a server
	// may ignore Upgrade, and with a body we do.
	if h.upgrade && r.Length == 0 {
		r.Upgrade = h.protocol
	}
	return fault{}
}

// keepAlive reports whether the client wants the connection to be kept
// (RFC 9112 9.3).
func (h *requestHead) keepAlive(v exchange.Version) bool {
	return !h.close && (v != exchange.HTTP10 || h.alive)
}
