package pool

import (
	"context"

	"wproxy/core/exchange"
)

// A Conn is one connection to an upstream, any protocol (cf. net/http.ClientConn).
// Implemented by the codecs; safe for concurrent use.
type Conn interface {
	// Reserve takes a slot for one exchange; false if there is none (busy h1
	// connection, stream limit, closing, or the peer has closed, or has said
	// something that nobody asked for). It may make a system call.
	Reserve() bool

	// Open turns a reserved slot into a stream. The slot is given back when
	// the stream has ended on both sides, or was reset.
	Open(ctx context.Context) (exchange.Upstream, error)

	// Reused reports whether an exchange has completed on it before.
	Reused() bool

	// Idle reports whether it is alive, at rest and may serve another exchange.
	Idle() bool

	// Close closes the connection; streams on it fail.
	Close() error
}

// A Multiplexer is a Conn that carries many exchanges at a time. Its Reserve, Usable, Idle
// and Close do not block and call nothing of the pool: they are called with the
// pool's lock held.
type Multiplexer interface {
	Conn

	// Usable reports whether it has slots, or will have some when exchanges end: it is
	// alive and its peer has not said that it leaves.
	Usable() bool
}
