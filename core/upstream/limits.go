package upstream

import "time"

const (
	// latencyWindow is the time constant of the average of an endpoint's times to
	// the first byte: what is older than that counts for a third.
	latencyWindow = 10 * time.Second

	// latencyHalfLife is how long an endpoint must not have answered for its average
	// to be halved: a server that was 16 times slower than the others gets a
	// request again after 40 s.
	latencyHalfLife = 10 * time.Second

	// budgetWindow is how long what requests have paid into a [Budget] can be used. With
	// the default share of 20 % one of three servers may refuse everything for 2.7 s
	// before a request is not retried, which is longer than it takes to notice; and when
	// all of them fail, the load is at most doubled, for 0.7 s.
	budgetWindow = 3 * time.Second
)
