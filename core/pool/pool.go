// Package pool keeps connections to the servers of one upstream. A connection
// that is at rest is handed out last in, first out: the one used last is the least
// likely to have been closed by the server, and the others grow old and go.
//
// A caller gets a connection with a slot reserved, opens a stream on it, and puts
// it back when the exchange is over. The pool does not know what is said on it.
package pool

import (
	"context"
	"time"

	"wproxy/core/upstream"
)

// A DialFunc makes a connection to e. It is called without locks held.
type DialFunc func(ctx context.Context, e *upstream.Endpoint) (Conn, error)

// Options of a Pool. Zero means the default (limits.go), negative none.
type Options struct {
	Idle      int           // connections at rest over all servers; negative: none is kept
	IdleTime  time.Duration // how long one rests; negative: none is kept
	PerServer int           // open connections per server; 0: no limit
	Queue     int           // exchanges waiting for a connection, per server; negative: none waits
	QueueTime time.Duration // how long one waits
	Dial      DialFunc      // required
}

// A Pool keeps the connections of one upstream. Use [New].
type Pool struct{}

// New makes a Pool. It owns one sweeping goroutine while connections rest; [Pool.Close] ends it.
func New(o Options) *Pool { panic("not yet") }

// Get returns a connection to e with a slot reserved: one at rest unless fresh
// is set, or a new one. It waits when there may be no more. An error is an
// *exchange.Error, with reason queue_full or queue_timeout or from Dial, or ctx's.
func (p *Pool) Get(ctx context.Context, e *upstream.Endpoint, fresh bool) (Conn, error) {
	panic("not yet")
}

// Put gives back what Get returned, once its exchange is over.
func (p *Pool) Put(e *upstream.Endpoint, c Conn) { panic("not yet") }

// Close closes connections at rest, and those in use when they come back.
func (p *Pool) Close() { panic("not yet") }
