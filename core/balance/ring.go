package balance

import (
	"math/bits"
	"slices"

	"wproxy/core/upstream"
)

// A ring is consistent hashing (Karger et al. 1997): endpoints have points on a
// circle, and a key belongs to the first point behind it. When an endpoint leaves, its
// keys and no others move, to whoever has the next points; the same happens when it is
// only down, so that it costs no second move when it is then taken out.
//
// The points of an endpoint depend on its name and weight alone (but for the scale, see
// newRing), so the order of the servers in the file means nothing.
type ring struct {
	points []uint64 // sorted: 32 bits of hash, and the index of the endpoint
	starts []uint32 // first point of each slice of the circle: one look instead of a search
	shift  int      // hash>>shift is its slice
}

const ownerBits = 32

// newRing makes the ring of endpoints, which are sorted by name.
func newRing(endpoints []*upstream.Endpoint) locator {
	r := &ring{}
	total := 0
	for _, e := range endpoints {
		total += e.Weight
	}
	// A power of two: as servers come and go the scale mostly stays, and with it the
	// points of all others. It is below 1 where the weights are huge.
	scale := float64(pointsPerWeight)
	for scale*float64(total) > maxPoints {
		scale /= 2
	}
	for i, e := range endpoints {
		seed := Key(e.Name)
		for j := range max(1, int(float64(e.Weight)*scale)) {
			h := mix(seed + uint64(j+1)*golden)                            //nolint:gosec // not negative
			r.points = append(r.points, h>>ownerBits<<ownerBits|uint64(i)) //nolint:gosec // not negative
		}
	}
	slices.Sort(r.points)
	sliceBits := bits.Len(uint(len(r.points) - 1))
	r.shift = 64 - sliceBits
	r.starts = make([]uint32, 1<<sliceBits)
	at := 0
	for i := range r.starts {
		for at < len(r.points) && r.points[at]>>r.shift < uint64(i) { //nolint:gosec // not negative
			at++
		}
		r.starts[i] = uint32(at) //nolint:gosec // maxPoints, and the number of servers
	}
	return r
}

func (r *ring) first(key uint64) uint64 {
	i, n := uint64(r.starts[key>>r.shift]), uint64(len(r.points))
	for i < n && r.points[i] < key {
		i++
	}
	if i == n {
		return 0
	}
	return i
}

func (r *ring) owner(place uint64) int {
	return int(r.points[place] & (1<<ownerBits - 1)) //nolint:gosec // ownerBits
}

func (r *ring) next(place uint64) uint64 {
	if place++; place == uint64(len(r.points)) {
		return 0
	}
	return place
}
