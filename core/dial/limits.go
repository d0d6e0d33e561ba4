package dial

import "time"

const (
	// DefaultConnectTimeout bounds one attempt to connect: longer than any
	// healthy network needs, with one lost SYN (1 s) on the way.
	DefaultConnectTimeout = 2 * time.Second

	// DefaultConnectTotal bounds name resolution and all attempts together, so
	// that a name with many dead addresses does not hold a request for minutes.
	DefaultConnectTotal = 10 * time.Second
)

// keepAlive is how long a connection is silent before the kernel asks whether
// the other host is still there: one that vanished is found out in about three minutes.
const keepAlive = 30 * time.Second
