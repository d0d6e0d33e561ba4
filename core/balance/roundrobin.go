package balance

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"wproxy/core/upstream"
)

// turns gives each endpoint its share by weight: in turn or, if random is set, by
// chance. A pick in turn is one atomic add and one load, whatever the number of
// endpoints, and two goroutines never get the same turn.
//
// It begins anywhere, so that a hundred instances that are started, or reloaded, at the
// same time do not all send their first requests to the first server.
type turns struct {
	*members
	random bool
	next   atomic.Uint64
}

func newTurns(m *members, random bool) *turns {
	t := &turns{members: m, random: random}
	t.next.Store(rand.Uint64() >> 1) // far from overflow, where the remainder would jump
	return t
}

// Pick implements [Picker]; key is ignored.
func (t *turns) Pick(_ uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	v := t.current()
	for i := range v.tiers {
		if e := t.pick(v, &v.tiers[i], tried); e != nil {
			return e
		}
	}
	return nil
}

// pick picks from one tier. An endpoint that cannot be had gives up its turn: if the
// next one had it, that one would get twice its share.
func (t *turns) pick(v *view, from *tier, tried []*upstream.Endpoint) *upstream.Endpoint {
	if !t.random && len(tried) == 0 && v.warm == 0 {
		return from.order[(t.next.Add(1)-1)%uint64(len(from.order))]
	}
	for range maxTurns {
		// A retry takes no turn: with two servers, one of them dead, the dead one would
		// be the first for every request.
		e := t.turn(from, len(tried) > 0)
		if slices.Contains(tried, e) {
			continue
		}
		if v.warm == 0 || t.accept(e) {
			return e
		}
	}
	if len(tried) > 0 {
		return from.untried(rand.Uint64()>>1, tried)
	}
	return from.untried(t.next.Add(1), tried)
}

func (t *turns) turn(from *tier, retry bool) *upstream.Endpoint {
	if t.random || retry {
		return draw(from)
	}
	return from.order[(t.next.Add(1)-1)%uint64(len(from.order))]
}

// draw returns an endpoint at random, by weight.
func draw(from *tier) *upstream.Endpoint { return from.at(rand.Uint64()) }

// at returns the endpoint of a random number, by weight.
func (t *tier) at(r uint64) *upstream.Endpoint {
	i, _ := bits.Mul64(r, uint64(len(t.order)))
	return t.order[i]
}

// accept throws dice for an endpoint that may be warming up.
func (m *members) accept(e *upstream.Endpoint) bool {
	w := m.warmth(e, now())
	return w >= 1 || rand.Float64() < w
}
