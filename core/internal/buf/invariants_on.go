//go:build invariants

package buf

import "sync/atomic"

// Invariants tells whether the program was built with -tags invariants: packages
// then spend time on checks of their own rules and panic when one is broken.
const Invariants = true

var live atomic.Int64

// Live returns how many buffers are lent. It always returns 0 without -tags invariants.
func Live() int { return int(live.Load()) }

// poison is what released bytes are overwritten with: not zero, not ASCII, easy
// to see in a dump.
const poison = 0xDB

// A lease follows one Get. A Buf that was released stays so for ever: the bytes
// go on in a new Buf, or a stale owner could release them under the next one.
type lease struct{ over atomic.Bool }

func (l *lease) begin() { live.Add(1) }

func (l *lease) end(b *Buf) *Buf {
	if l.over.Swap(true) {
		panic("buf: released twice")
	}
	live.Add(-1)
	for i := range b.b {
		b.b[i] = poison
	}
	next := &Buf{b: b.b, class: b.class}
	b.b = nil // a late Bytes finds nothing
	return next
}
