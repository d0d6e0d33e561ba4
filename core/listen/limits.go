package listen

import "time"

const (
	// DefaultConnections is the most connections of one listener that are
	// open at once when Options.Connections is 0. At 4 KiB a connection that
	// rests, and 11 KiB with TLS, it is 80 or 220 MiB, and it stays below the usual limit
	// of open files.
	DefaultConnections = 20_000

	// acceptBackoffMin and acceptBackoffMax bound the pause after an Accept
	// that failed (EMFILE, ENFILE, ENOBUFS, ENOMEM: somebody else has to give
	// something back first, so trying at once only burns a CPU). The pause doubles.
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second

	// lookUpTime bounds looking up a listener's own name, which is in a file on
	// this machine or close by; without it, it counts as another address.
	lookUpTime = 2 * time.Second

	// keepAliveIdle, keepAliveInterval and keepAliveCount find peers that
	// vanished without a FIN: after 15 s of silence, then 9 probes 15 s apart.
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9

	// maxProxyHeader is the size in bytes of the largest PROXY header: addresses, and TLVs
	// of which a client's certificate is the largest, with 1 to 2 KiB.
	maxProxyHeader = 4 << 10

	// usualProxyHeader is how many bytes of it there is room for to begin with: one of
	// version 1, or of version 2 with IPv6 addresses and some TLVs.
	usualProxyHeader = 128

	// drainHeader is how long a PROXY header may take from Drain on. Balancers send it with the
	// connection, so that it is on its way, and as fast as a packet, or it does not come.
	drainHeader = 250 * time.Millisecond

	// maxAuthority is the length in bytes of the longest name of a host (RFC 1035 2.3.4).
	maxAuthority = 255
)
