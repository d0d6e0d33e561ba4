package route

import (
	"strings"

	"wproxy/core/exchange"
)

// A Request is what a match looks at. It is a view: nothing is copied.
type Request struct {
	// Host in lower case, without port and without the dot of the DNS root.
	Host string
	// Path in canonical form, without query; "*" for OPTIONS *.
	Path string
	// Query without "?", as sent.
	Query string
	// Method as sent.
	Method string
	// Listener is the name of the listener.
	Listener string
	// Fields of the head; nil: none.
	Fields *exchange.Fields
}

// View returns the view of r.
func View(r *exchange.Request) Request {
	q, _ := r.Query()
	v := Request{
		Host:   strings.TrimSuffix(r.Hostname(), "."),
		Path:   r.Path(),
		Query:  q,
		Method: r.Method,
		Fields: &r.Fields,
	}
	if r.Conn != nil {
		v.Listener = r.Conn.Listener
	}
	return v
}
