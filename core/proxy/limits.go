package proxy

import "time"

const (
	// leastStates is how many states are noted before the list is looked through for
	// those that are gone: fewer cost nothing.
	leastStates = 64

	// DefaultTimeout bounds a whole exchange, retries included; not tunnels.
	DefaultTimeout = 60 * time.Second

	// DefaultRetries is how many tries follow the first.
	DefaultRetries = 1

	// DefaultBudget is how many tries after the first there may be, in percent of an
	// upstream's requests: when a server dies, retries must not double the load of the rest.
	DefaultBudget = 20

	// DefaultBudgetMin is how many a second are allowed however few requests there
	// are: 20 % of one request would be none.
	DefaultBudgetMin = 3

	// maxMoves is how many connections in a row may end before a request that was sent on
	// them was looked at, until that counts as a failure. More than two in a row are a
	// server that takes nothing.
	maxMoves = 4

	// failedLatency is the least time to the first byte that a failed try is taken for,
	// where servers are picked by that: a server that refuses at once would look like
	// the fastest of all.
	failedLatency = time.Second

	// DefaultBodyBuffer is how many bytes of a request's body are held so that it can
	// be sent again. It is per exchange that streams a body.
	DefaultBodyBuffer = 64 << 10

	// keptBody is the largest buffer for them that an exchange leaves to the next.
	keptBody = 64 << 10

	// DefaultBackoff is the longest wait before the second try where a server has seen
	// the first: not noticed by people, and enough to spread what has failed together.
	DefaultBackoff = 25 * time.Millisecond

	// DefaultMaxBackoff is the longest before any further try: a server that restarts
	// needs some hundred milliseconds, and a client does not wait much longer.
	DefaultMaxBackoff = 250 * time.Millisecond

	// DefaultRetryAfter is the longest retry-after that is waited for. It is the
	// shortest that a server can write which is not 0.
	DefaultRetryAfter = time.Second

	// maxDropped is how many bytes of the body of an answer that is not passed on are
	// read, if they are there already, so that its connection can be used again.
	maxDropped = 64 << 10

	// maxFull is how many servers that are full a request leaves for another one. If one in
	// ten has room, two requests of three find it; with all of 1,000 full, asking each would
	// cost 10 ms of CPU time to say no.
	maxFull = 10

	// maxTracedTries, maxTracedCalls and maxTracedTags bound the spans of one trace, and
	// the attributes that plugins give it: more than a route's retries and plugins make,
	// where nothing goes round in circles.
	maxTracedTries = 32
	maxTracedCalls = 96
	maxTracedTags  = 32

	// fullRetryAfter is the retry-after, in seconds, of the 503 for a full upstream:
	// its queue is over by then.
	fullRetryAfter = "1"

	// duplexAfter is how many body bytes are pushed upstream before the response
	// is read at the same time. It is less than what a server's receive window
	// and our send buffer take without being read, so that a server that answers
	// before it reads cannot lock both directions.
	duplexAfter = 32 << 10

	// maxMirrored is how many copies of a route's requests are held or under way at a time.
	// Each may hold as much body as the route's mirror.body says.
	maxMirrored = 64

	// mirrorTimeout is how long a copy may take. A mirror that hangs holds maxMirrored
	// connections for so long, and a reload's old configuration with them.
	mirrorTimeout = 10 * time.Second

	// maxRequestID is the longest x-request-id that is passed on, in bytes. A UUID has 36.
	maxRequestID = 128

	// maxRefreshes is how many exchanges without a client there may be at the same time.
	// What is not refreshed now is by the next request for it.
	maxRefreshes = 256

	// maxForwarded is how many addresses of a forwarding chain are looked at.
	maxForwarded = 32

	// maxGRPCDigits and maxGRPCValue bound the number in a grpc-timeout, maxGRPCTimeout
	// what it may come to: further off than any deadline needs to be, near enough that
	// adding it to a point in time does not overflow.
	maxGRPCDigits  = 8
	maxGRPCValue   = 100_000_000
	maxGRPCTimeout = 100 * 365 * 24 * time.Hour

	// grpcFieldBytes is what a field of metadata costs that is held, beside its name and
	// value: the two strings, twice. maxGRPCText bytes of what an upstream says are quoted.
	grpcFieldBytes = 64
	maxGRPCText    = 64
)
