package h2

import (
	"wproxy/core/exchange"
)

// ParseRequest is parseRequest for tests of other packages' view: status 0 is
// accepted.
func ParseRequest(list []exchange.Field, scheme string, end bool) (r *exchange.Request, status int, reason string) {
	b := &block{fields: list}
	r = new(exchange.Request)
	f := parseRequest(r, new(requestHead), b, scheme, end)
	return r, f.status, f.reason
}
