package balance

import (
	"math/bits"

	"wproxy/core/upstream"
)

// maglevSizes are the sizes that a table may have: primes, as every step of a walk
// through a table must come to every entry.
var maglevSizes = [...]uint64{16381, 65537, 131071, 262139} //nolint:gochecknoglobals // constant

// A maglev is the table of Google's Maglev (Eisenbud et al. 2016, 3.4): each
// endpoint has an order of preference for the entries, and they take the entries
// in turns, by weight. A key belongs to the owner of its entry. Shares are even to a
// percent; when an endpoint leaves, its keys move and about as many in a hundred of
// the others. When it is only down, just its own keys do.
type maglev struct {
	owners []uint16 // of the entries: index of the endpoint, plus 1
}

// newMaglev makes the table of endpoints, which are sorted by name.
func newMaglev(endpoints []*upstream.Endpoint) locator {
	size := maglevSizes[len(maglevSizes)-1]
	for _, s := range maglevSizes {
		if s >= uint64(len(endpoints)*maglevEntries) { //nolint:gosec // not negative
			size = s
			break
		}
	}
	m := &maglev{owners: make([]uint16, size)}
	type walk struct{ at, skip uint64 }
	walks := make([]walk, len(endpoints))
	heaviest := 0
	for i, e := range endpoints {
		h := Key(e.Name)
		walks[i] = walk{at: h % size, skip: mix(h+golden)%(size-1) + 1}
		heaviest = max(heaviest, e.Weight)
	}
	// In each round, the heaviest takes an entry, and each other when its share of
	// that has added up to a whole one.
	credit := make([]int, len(endpoints))
	for taken := uint64(0); ; {
		for i, e := range endpoints {
			if credit[i] += e.Weight; credit[i] < heaviest {
				continue
			}
			credit[i] -= heaviest
			w := &walks[i]
			for m.owners[w.at] != 0 {
				w.at = step(w.at, w.skip, size)
			}
			m.owners[w.at] = uint16(i + 1) //nolint:gosec // maxMaglev
			w.at = step(w.at, w.skip, size)
			if taken++; taken == size {
				return m
			}
		}
	}
}

func step(at, skip, size uint64) uint64 {
	if at += skip; at >= size {
		at -= size
	}
	return at
}

func (m *maglev) first(key uint64) uint64 { return key }

func (m *maglev) owner(place uint64) int {
	i, _ := bits.Mul64(place, uint64(len(m.owners)))
	return int(m.owners[i]) - 1
}

// next hashes again rather than looking at the entry behind, so that the keys of an
// endpoint that is down spread over all others (Chen et al., Revisiting Consistent
// Hashing with Bounded Loads).
func (m *maglev) next(place uint64) uint64 { return mix(place + golden) }
