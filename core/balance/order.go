package balance

import (
	"cmp"
	"math"
	"slices"

	"wproxy/core/upstream"
)

// sequence returns endpoints, each as often as its weight says and spread as
// evenly as possible: weights 5, 1, 1 give a a b a c a a and not five times a in a
// row. It runs nginx's smooth weighted round-robin for one period: in each turn every
// endpoint gains its weight, the highest is picked and pays the total.
func sequence(endpoints []*upstream.Endpoint) []*upstream.Endpoint {
	weights := reduce(endpoints)
	total, equal := 0, true
	for _, w := range weights {
		total += w
		equal = equal && w == weights[0]
	}
	switch {
	case equal:
		return endpoints // and weights[0] is 1, or as good
	case total > maxSmooth/len(weights):
		return deadlines(endpoints, weights, total)
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

// deadlines makes a sequence in less time: the turns of an endpoint are at even
// distances, in the middle of its share of the period, and all are merged by time. Where
// several fall on one time they stand in a row, which with so many endpoints
// means nothing.
func deadlines(endpoints []*upstream.Endpoint, weights []int, total int) []*upstream.Endpoint {
	heap := make([]due, len(weights))
	for i, w := range weights {
		step := 1 / float64(w)
		heap[i] = due{at: step / 2, step: step, index: i}
	}
	slices.SortFunc(heap, func(a, b due) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index)) })
	order := make([]*upstream.Endpoint, 0, total)
	for range total {
		order = append(order, endpoints[heap[0].index])
		heap[0].at += heap[0].step
		sink(heap)
	}
	return order
}

// A due is an endpoint's next turn.
type due struct {
	at, step float64
	index    int
}

// before orders turns at one time by endpoint.
func (d due) before(o due) bool { return d.at < o.at || d.at == o.at && d.index < o.index }

// sink restores the order of a heap whose first element has grown.
func sink(heap []due) {
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].before(heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
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
