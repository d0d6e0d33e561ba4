// Package balance chooses the server for a try. A [Picker] is immutable, never
// blocks and does no I/O (cf. grpc balancer.Picker): what it depends on is in
// the endpoints' counters and states, and a change of the set makes a new Picker.
//
// [New] makes the picker of an [Algorithm]. All of them work on a view of the
// cluster (view.go): the endpoints that are available, by tier, in an order that has
// each as often as its weight says. A change of an endpoint's state makes the next
// pick derive a new view, which takes microseconds, while picks on other goroutines
// go on with the one there is. roundrobin.go takes turns or draws from that order,
// load.go compares who was drawn, hash.go finds the endpoint of a key in a ring
// (ring.go) or a table (maglev.go). The limits are in limits.go.
package balance

import (
	"fmt"
	"time"

	"wproxy/core/upstream"
)

// A Picker chooses an endpoint. It is safe for concurrent use.
type Picker interface {
	// Pick returns an endpoint that is available and not in tried, or nil if none is
	// left. If no endpoint at all is available, or the cluster is in panic mode, those
	// that are down count as available. key is the hash of what ties requests to a
	// server, 0 for nothing; pickers that do not hash ignore it. tried is borrowed.
	Pick(key uint64, tried []*upstream.Endpoint) *upstream.Endpoint
}

// An Algorithm names a way of choosing, as the configuration does.
type Algorithm string

// The algorithms. All heed weights and tiers.
const (
	RoundRobin Algorithm = "round-robin" // each in its turn, spread evenly
	Random     Algorithm = "random"      // any
	Random2    Algorithm = "random-2"    // of two at random, the one with fewer requests
	LeastConn  Algorithm = "least-conn"  // the one with the fewest requests; of three at random above 32 endpoints
	LeastTime  Algorithm = "least-time"  // the one that should answer first; likewise
	HashRing   Algorithm = "hash"        // by key; a change of the set moves as few keys as can be
	Maglev     Algorithm = "maglev"      // by key; more even, and moves a few keys more
)

// Options are what a picker is made with.
type Options struct {
	// Algorithm is one of the constants; "": RoundRobin.
	Algorithm Algorithm
	// SlowStart is how long the weight of an endpoint that has come up again
	// grows to its full size; 0: it has it at once. HashRing and Maglev ignore it: keys
	// would move twice.
	SlowStart time.Duration
	// Bound is the most load of an endpoint as a multiple of its even share, for
	// HashRing and Maglev: beyond it, keys go on to the next endpoint (Mirrokni et al.,
	// Consistent Hashing with Bounded Loads). 0: no bound. Values up to 1 are as 1.01.
	Bound float64
}

// New makes a picker for c. It derives what the algorithm needs, which is the only
// costly part: 1,000 endpoints take milliseconds.
func New(c *upstream.Cluster, o Options) (Picker, error) {
	m := newMembers(c, o.SlowStart)
	switch o.Algorithm {
	case RoundRobin, "":
		return newTurns(m, false), nil
	case Random:
		return newTurns(m, true), nil
	case Random2, LeastConn, LeastTime:
		return newLoaded(m, o.Algorithm), nil
	case HashRing:
		return newHashed(m, o.Bound, newRing), nil
	case Maglev:
		if len(c.Endpoints) > maxMaglev {
			return nil, fmt.Errorf("%d servers are more than a table can have, %d", len(c.Endpoints), maxMaglev)
		}
		return newHashed(m, o.Bound, newMaglev), nil
	default:
		return nil, fmt.Errorf("there is no algorithm %q", o.Algorithm)
	}
}

// Hashes reports whether a picks by key.
func (a Algorithm) Hashes() bool { return a == HashRing || a == Maglev }
