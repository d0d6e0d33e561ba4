//go:build !invariants

package buf

// Invariants tells whether the program was built with -tags invariants: packages
// then spend time on checks of their own rules and panic when one is broken.
const Invariants = false

// Live returns how many buffers are lent. It always returns 0 without -tags invariants.
func Live() int { return 0 }

type lease struct{}

func (lease) begin()          {}
func (lease) end(b *Buf) *Buf { return b }
