package server

import (
	"context"
	"net"

	"wproxy/core/exchange"
)

// serveH2 serves a connection whose client has chosen h2 (ALPN). No listener offers it yet.
func (c *codec) serveH2(_ context.Context, nc net.Conn, _ *exchange.Conn) {
	_ = nc.Close() // nobody is waiting for anything
}
