package h1

import (
	"sync"
	"sync/atomic"

	"wproxy/core/exchange"
)

// A presence knows whether the client is still there, as told by the Watcher,
// and whom to tell when it is not (architecture, rule 11).
type presence struct {
	bits atomic.Uint32

	mu sync.Mutex
	// Guarded by mu.
	gone bool
	r    exchange.Resetter
}

const (
	presFIN   = 1 << iota // the client has sent a FIN
	presHUP               // the connection is dead in both directions
	presArmed             // a request is complete and nothing but its answer is due
	presAlone             // it was pipelined neither behind nor in front of another one
)

// requestComplete is called by the reader when it has read a whole request. A
// FIN now means that the client is gone, unless the request is one of several
// that were pipelined: those are still answered, because clients such as
// "printf ... | nc" send them so, and are given up only when the connection is
// dead in both directions.
func (c *serverConn) requestComplete() {
	if c.watch == 0 {
		return
	}
	set := uint32(presArmed)
	if !c.pipelined && len(c.buffered()) == 0 {
		set |= presAlone
	}
	if bits := c.presence.bits.Or(set) | set; bits&(presFIN|presHUP) != 0 {
		c.judge(bits)
	}
}

// requestOver ends what requestComplete began. It may be called more than once,
// and from the writer's goroutine.
func (c *serverConn) requestOver() {
	if c.watch == 0 {
		return
	}
	c.presence.bits.And(^uint32(presArmed | presAlone))
	c.presence.notify(nil)
}

// otherEndGone implements watched.
func (c *serverConn) otherEndGone(dead bool) {
	set := uint32(presFIN)
	if dead {
		set |= presHUP
	}
	if bits := c.presence.bits.Or(set) | set; bits&presArmed != 0 {
		c.judge(bits)
	}
}

// judge decides whether the client is gone, given that a FIN or worse has come
// while an answer is due.
func (c *serverConn) judge(bits uint32) {
	if bits&presHUP == 0 && (bits&presAlone == 0 || c.peek() != peekEnd) {
		return
	}
	c.cancel(exchange.ErrClientGone)
	c.presence.setGone()
}

func (p *presence) setGone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.r != nil {
		p.r.Reset(exchange.CodeCancel)
		p.r = nil
	}
}

// notify makes r the one to reset.
func (p *presence) notify(r exchange.Resetter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.r = r; r != nil && p.gone {
		r.Reset(exchange.CodeCancel)
		p.r = nil
	}
}
