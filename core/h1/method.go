package h1

import "wproxy/core/exchange"

// CheckMethod says whether a server accepts m as the method of a request: nil, or
// what a request with it would be refused with (RFC 9112 3: 400 for what is no
// token, 501 for what is too long; CONNECT is 501). It asks the parser of request
// heads, and is for explaining, not for the path of requests.
func CheckMethod(m string) *exchange.Error {
	refused := func(f fault) *exchange.Error {
		return &exchange.Error{Op: "read request", Side: exchange.ClientSide, Status: f.status, Reason: f.reason}
	}
	_, _, v, f := requestLine([]byte(m + " / HTTP/1.1"))
	if !f.ok() {
		return refused(f)
	}
	h := requestHead{facts: facts{said: said{hosts: 1, host: "localhost"}}}
	r := exchange.Request{Method: m, Scheme: "http", Version: v}
	if f := h.setTarget(&r, "/"); !f.ok() {
		return refused(f)
	}
	return nil
}
