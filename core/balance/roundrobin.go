package balance

import (
	"math"
	"slices"
	"sync/atomic"

	"wproxy/core/upstream"
)

// A RoundRobin gives each endpoint its share by weight, spread as evenly as
// possible: weights 5, 1, 1 give a a b a c a a and not five times a in a row
// (nginx's smooth weighted round-robin). The order is computed once, so a pick
// is one atomic add and one load, whatever the number of servers, and two
// goroutines never get the same turn.
type RoundRobin struct {
	order []*upstream.Endpoint
	next  atomic.Uint64
}

// NewRoundRobin makes a picker over endpoints, which must not be empty.
func NewRoundRobin(endpoints []*upstream.Endpoint) *RoundRobin {
	return &RoundRobin{order: sequence(endpoints)}
}

// Pick implements [Picker]; key is ignored.
func (r *RoundRobin) Pick(_ uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	n := uint64(len(r.order))
	if len(tried) == 0 {
		return r.order[(r.next.Add(1)-1)%n]
	}
	// A retry: the next one in the order that has not been tried. It takes no turn, or
	// with two servers, one of them dead, the dead one would be the first for every request.
	at := r.next.Load() % n
	for i := range n {
		if e := r.order[(at+i)%n]; !slices.Contains(tried, e) {
			return e
		}
	}
	return nil
}

// sequence runs the smooth algorithm for one period: in each turn every
// endpoint gains its weight, the highest is picked and pays the total.
func sequence(endpoints []*upstream.Endpoint) []*upstream.Endpoint {
	weights := reduce(endpoints)
	total := 0
	for _, w := range weights {
		total += w
	}
	order := make([]*upstream.Endpoint, 0, total)
	current := make([]int, len(weights))
	for range total {
		best := 0
		for i, w := range weights {
			current[i] += w
			if current[i] > current[best] {
				best = i
			}
		}
		current[best] -= total
		order = append(order, endpoints[best])
	}
	return order
}

// reduce returns the weights divided by their greatest common divisor and
// scaled so that their sum fits maxSequence. No weight becomes less than 1.
func reduce(endpoints []*upstream.Endpoint) []int {
	weights := make([]int, len(endpoints))
	divisor, sum := 0, 0.0
	for i, e := range endpoints {
		weights[i] = max(e.Weight, 1)
		divisor = gcd(divisor, weights[i])
		sum += float64(weights[i])
	}
	scale := 1.0
	if reduced := sum / float64(divisor); reduced > maxSequence {
		scale = maxSequence / reduced
	}
	for i, w := range weights {
		weights[i] = max(1, int(math.Round(float64(w/divisor)*scale)))
	}
	return weights
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
