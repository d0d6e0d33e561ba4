package pool

import "wproxy/core/upstream"

// A Key says what makes two connections interchangeable: they lead to the same
// server in the same way. What a whole pool has in common (timeouts, and
// later TLS settings) is not in it, because a pool belongs to one upstream.
type Key struct {
	Network string
	Address string
	Scheme  string
}

// KeyOf returns the key of connections to e. Weight and name do not matter,
// so a pool outlives a reload that changes them.
func KeyOf(e *upstream.Endpoint) Key { return Key{e.Network, e.Address, e.Scheme} }
