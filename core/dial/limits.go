package dial

import "time"

const (
	// DefaultConnectTimeout bounds one attempt to connect: longer than any
	// healthy network needs, with one lost SYN (1 s) on the way.
	DefaultConnectTimeout = 2 * time.Second

	// DefaultConnectTotal bounds name resolution, all attempts and TLS together, so
	// that a name with many dead addresses does not hold a request for minutes.
	DefaultConnectTotal = 10 * time.Second
)

// keepAlive is how long a connection is silent before the kernel asks whether
// the other host is still there: one that vanished is found out in about three minutes.
const keepAlive = 30 * time.Second

const (
	// maxSessions is how many TLS sessions an upstream keeps to resume, over all
	// servers: each is a few KiB, and one per server is what is used.
	maxSessions = 256

	// filesAge is how long certificate files are believed not to have changed: a dial
	// that comes later looks, which costs a few microseconds.
	filesAge = time.Second

	// maxFile is the size in bytes of the largest file of certificates: the bundles of
	// operating systems have about 300 KiB.
	maxFile = 4 << 20
)
