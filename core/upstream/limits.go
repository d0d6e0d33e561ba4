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
)
