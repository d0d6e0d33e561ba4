package balance

import (
	"cmp"
	"math"
	"slices"

	"wproxy/core/upstream"
)

// A locator is where the keys of one tier belong. A place is anything; the first
// place of a key and those that follow are always the same. The owner of a place is an
// index into the endpoints of the tier, sorted by name.
type locator interface {
	first(key uint64) (place uint64)
	owner(place uint64) int
	next(place uint64) uint64
}

// hashed picks by key, and at random where there is none. What an endpoint that is
// out, tried or full would have got goes to the key's next places; no other key moves.
type hashed struct {
	*members
	bound float64 // of the load, as a multiple of the even share; 0: none
	tiers []locator
}

func newHashed(m *members, bound float64, locate func([]*upstream.Endpoint) locator) *hashed {
	h := &hashed{members: m, bound: bound}
	if bound > 0 {
		h.bound = max(bound, 1.01)
	}
	for i := range m.tiers {
		r := &m.tiers[i]
		r.endpoints = byName(r.endpoints)
		if len(r.endpoints) == 1 { // no table is worth it
			h.tiers = append(h.tiers, alone{})
			continue
		}
		h.tiers = append(h.tiers, locate(r.endpoints))
	}
	m.marked = true
	m.view.Store(m.derive())
	return h
}

// byName returns endpoints, sorted.
func byName(endpoints []*upstream.Endpoint) []*upstream.Endpoint {
	return slices.SortedFunc(slices.Values(endpoints), func(a, b *upstream.Endpoint) int {
		return cmp.Compare(a.Name, b.Name)
	})
}

// alone is where the keys of a tier with one endpoint belong.
type alone struct{}

func (alone) first(key uint64) uint64  { return key }
func (alone) owner(uint64) int         { return 0 }
func (alone) next(place uint64) uint64 { return place }

// Pick implements [Picker].
func (h *hashed) Pick(key uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	v := h.current()
	for i := range v.tiers {
		if e := h.pick(&v.tiers[i], key, tried); e != nil {
			return e
		}
	}
	return nil
}

func (h *hashed) pick(from *tier, key uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	if key == 0 {
		for range maxTurns {
			if e := draw(from); !slices.Contains(tried, e) {
				return e
			}
		}
		return from.untried(0, tried)
	}
	table, all := h.tiers[from.index], h.members.tiers[from.index].endpoints
	share := 0.0                 // not known yet
	var spare *upstream.Endpoint // the least loaded of those that are full
	least := math.Inf(1)
	place := table.first(key)
	for i := range maxProbes {
		if i > 0 {
			place = table.next(place)
		}
		owner := table.owner(place)
		// An endpoint is a cache miss, its mark is none: half of them may be out, and a pick
		// looks at two places on the average then.
		if from.out.has(owner) {
			continue
		}
		e := all[owner]
		if len(tried) > 0 && slices.Contains(tried, e) {
			continue
		}
		active := float64(e.Live.Active.Load() + 1)
		if h.bound == 0 || active <= minBound {
			return e
		}
		if share == 0 {
			share = h.share(from)
		}
		if active <= math.Ceil(share*float64(e.Weight)) {
			return e
		}
		if load := active / float64(e.Weight); load < least {
			spare, least = e, load
		}
	}
	if spare != nil {
		return spare
	}
	return from.untried(mix(key), tried)
}

// share returns how many requests an endpoint may have per unit of weight. The
// requests of the cluster include the one that is being picked for.
func (h *hashed) share(from *tier) float64 {
	return h.bound * float64(max(1, h.cluster.Live.Active.Load())) / from.weight
}
