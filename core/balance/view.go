package balance

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"wproxy/core/upstream"
)

// members are the endpoints of a cluster, and the view of them as they are.
type members struct {
	// Immutable.
	cluster   *upstream.Cluster
	tiers     []rank // best first
	slowStart time.Duration
	marked    bool // views have tier.out

	view     atomic.Pointer[view]
	deriving atomic.Bool // somebody is at it
}

// A rank is the whole of a tier.
type rank struct {
	endpoints []*upstream.Endpoint // each once
	order     []*upstream.Endpoint // each as often as its weight says
}

// A view is what can be picked, derived from the states of the endpoints. It is
// immutable.
type view struct {
	changes uint64 // the cluster's count, from before the states were read
	panic   bool   // those that are down are in it
	warm    int64  // until when some are warming up, in ns since 1970; 0: none is
	tiers   []tier // those in which there is somebody, best first
}

// A tier is the available part of a rank.
type tier struct {
	rank
	index  int     // of the rank in members.tiers
	weight float64 // of all endpoints together
	out    marks   // with members.marked, endpoints of the rank that are not in the tier
}

// marks are a set of indices; nil is none.
type marks []uint64

func (m marks) has(i int) bool { return m != nil && m[i/64]&(1<<(i%64)) != 0 }

// with returns m with i of n marked; it changes m.
func (m marks) with(i, n int) marks {
	if m == nil {
		m = make(marks, (n+63)/64)
	}
	m[i/64] |= 1 << (i % 64)
	return m
}

func newMembers(c *upstream.Cluster, slowStart time.Duration) *members {
	m := &members{cluster: c, slowStart: slowStart}
	sorted := slices.SortedStableFunc(slices.Values(c.Endpoints), func(a, b *upstream.Endpoint) int {
		return cmp.Compare(a.Tier, b.Tier)
	})
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].Tier == sorted[0].Tier {
			n++
		}
		m.tiers = append(m.tiers, rank{endpoints: sorted[:n:n], order: sequence(sorted[:n])})
		sorted = sorted[n:]
	}
	m.view.Store(m.derive())
	return m
}

// current returns the view to pick from.
func (m *members) current() *view {
	v := m.view.Load()
	if v.warm == 0 && v.changes == m.cluster.Changes().Count() {
		return v
	}
	return m.renew(v)
}

// renew derives a new view if v is out of date. One goroutine does so at a time;
// the others go on with v, as they would have a moment earlier.
func (m *members) renew(v *view) *view {
	if v.changes == m.cluster.Changes().Count() && now() < v.warm {
		return v
	}
	if !m.deriving.CompareAndSwap(false, true) {
		return v
	}
	v = m.derive()
	m.view.Store(v)
	m.deriving.Store(false)
	return v
}

// derive reads the states. When a state changes meanwhile, the count of changes
// tells the next pick.
func (m *members) derive() *view {
	v := &view{changes: m.cluster.Changes().Count(), panic: m.cluster.Panic()}
	m.fill(v)
	if len(v.tiers) == 0 && !v.panic {
		v.panic = true
		m.fill(v)
	}
	return v
}

// fill adds the tiers in which there is somebody.
func (m *members) fill(v *view) {
	now := now()
	for i, r := range m.tiers {
		t := tier{index: i, rank: rank{endpoints: make([]*upstream.Endpoint, 0, len(r.endpoints))}}
		for i, e := range r.endpoints {
			if !v.usable(e) {
				if m.marked {
					t.out = t.out.with(i, len(r.endpoints))
				}
				continue
			}
			t.endpoints = append(t.endpoints, e)
			t.weight += float64(e.Weight)
			if until := m.warmUntil(e, now); until > now {
				v.warm = max(v.warm, until)
			}
		}
		switch {
		case len(t.endpoints) == 0:
			continue
		case len(t.endpoints) == len(r.endpoints): // nothing is left out: what has been made will do
			t.rank = r
		case len(r.order) == len(r.endpoints): // each has one turn
			t.order = t.endpoints
		default:
			t.order = make([]*upstream.Endpoint, 0, len(r.order))
			for _, e := range r.order {
				if v.usable(e) {
					t.order = append(t.order, e)
				}
			}
			if len(t.order) == 0 { // they have gone down in between; the next pick derives again
				t.order = t.endpoints
			}
		}
		v.tiers = append(v.tiers, t)
	}
}

// usable reports whether e can be picked.
func (v *view) usable(e *upstream.Endpoint) bool {
	if !v.panic {
		return e.Available()
	}
	return e.Reasons()&upstream.Drained == 0
}

// warmUntil returns when the slow start of e ends, in ns since 1970; 0: it needs none.
// What has been up from the beginning is warm: a start of wproxy is no slow start of all.
// So is what has come up at a time that is still to come: the clock was set back.
func (m *members) warmUntil(e *upstream.Endpoint, now int64) int64 {
	if m.slowStart <= 0 {
		return 0
	}
	state, since := e.State()
	if state != upstream.Up || since.IsZero() {
		return 0
	}
	if at := since.UnixNano(); at-now < int64(clockSlack) {
		return at + int64(m.slowStart)
	}
	return 0
}

// warmth returns the share of its weight that e has in its slow start, up to 1.
func (m *members) warmth(e *upstream.Endpoint, now int64) float64 {
	until := m.warmUntil(e, now)
	if until == 0 {
		return 1
	}
	return min(1, max(minWarmth, 1-float64(until-now)/float64(m.slowStart)))
}

// now returns the time in ns since 1970, by the clock that states and latencies are
// written with: one that is counted on from a start goes wrong when that is set, or the
// machine sleeps.
func now() int64 { return time.Now().UnixNano() }

// untried returns an endpoint of t that is not in tried, beginning at from; nil: there
// is none.
func (t *tier) untried(from uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	n := uint64(len(t.endpoints))
	for i := range n {
		if e := t.endpoints[(from+i)%n]; !slices.Contains(tried, e) {
			return e
		}
	}
	return nil
}
