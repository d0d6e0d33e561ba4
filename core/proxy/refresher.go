package proxy

import (
	"net/netip"

	"wproxy/core/exchange"
)

// A refresher is the client of an exchange that has none: whatever it is answered, it takes.
type refresher struct {
	request exchange.Request
	route   *Route // with the filters from the one that asked on
	addr    netip.Addr
	ip, id  string
}

// Head implements exchange.Sink.
func (*refresher) Head(*exchange.Response, bool) error { return nil }

// Data implements exchange.Sink.
func (*refresher) Data([]byte, bool) error { return nil }

// Trailer implements exchange.Sink.
func (*refresher) Trailer(*exchange.Fields) error { return nil }

// Feed implements exchange.Stream. Nobody calls it: the request is pushed.
func (*refresher) Feed(exchange.Sink[*exchange.Request]) error { return nil }

// Reset implements exchange.Stream.
func (*refresher) Reset(exchange.Code) {}
