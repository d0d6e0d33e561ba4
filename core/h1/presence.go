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
	gone bool          // guarded by mu; it stands here for the size of a connection at rest
	held atomic.Uint64 // what lacks of a request that is not complete; see hold

	mu sync.Mutex
	r  exchange.Resetter // guarded by mu
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
	if !c.pipelined && !c.pending() {
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
	bits := c.presence.bits.Or(set) | set
	if bits&presArmed != 0 {
		c.judge(bits)
	} else if v := c.presence.held.Load(); v&heldOn != 0 {
		c.judgeHeld(v, bits)
	}
}

// The parts of presence.held. The counter tells a call from the next one that
// lacks as much.
const (
	heldOn    = 1 << 63
	heldOpen  = 1 << 62 // it is not known how much lacks, but something does
	heldCount = 1 << 40 // one, in the counter
	heldBytes = heldCount - 1
	heldCalls = heldOpen - heldCount
)

// hold is called by the reader before it hands on a part of a request, which
// may take long: a plugin may hold it back for as long as it likes, and nobody
// reads meanwhile. lacks is how many bytes the socket must still bring to make
// the request complete; negative: an unknown number, at least one. letGo ends it.
func (c *serverConn) hold(lacks int64) {
	v := c.presence.held.Load()&heldCalls + heldCount
	v = v&heldCalls | heldOn
	switch {
	case c.tls != nil && c.tls.more:
		return // some of it may have been read and decrypted already
	case lacks < 0:
		v |= heldOpen
	case lacks > heldBytes:
		return // no connection lives so long
	default:
		v |= uint64(lacks)
	}
	c.presence.held.Store(v)
	if bits := c.presence.bits.Load(); bits&(presFIN|presHUP) != 0 {
		c.judgeHeld(v, bits)
	}
}

func (c *serverConn) letGo() { c.presence.held.Store(c.presence.held.Load() & heldCalls) }

// judgeHeld decides what a FIN or worse means for a request that is not complete,
// v being what lacks of it. Nothing follows a FIN: what the socket still holds is
// the rest of the request, or it is not enough and nobody will ever send the rest.
func (c *serverConn) judgeHeld(v uint64, bits uint32) {
	least, most, known := int64(0), int64(0), true
	if bits&presHUP == 0 {
		least, most, known = c.toCome()
	}
	if !known || c.presence.held.Load() != v {
		return // the reader is at work again and will see for itself
	}
	lacks := int64(v & heldBytes) //nolint:gosec // 40 bits
	switch {
	case bits&presHUP != 0, v&heldOpen == 0 && least == lacks && most == lacks:
		c.ctx.cancel(exchange.ErrClientGone)
		c.presence.setGone()
	case v&heldOpen != 0 && most == 0, v&heldOpen == 0 && most < lacks:
		c.presence.tellIncomplete()
	}
}

// judge decides whether the client is gone, given that a FIN or worse has come
// while an answer is due.
func (c *serverConn) judge(bits uint32) {
	if bits&presHUP == 0 && (bits&presAlone == 0 || !c.ended()) {
		return
	}
	c.ctx.cancel(exchange.ErrClientGone)
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

func (p *presence) tellIncomplete() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.r != nil {
		p.r.Reset(exchange.CodeIncomplete)
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
