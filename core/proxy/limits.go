package proxy

import "time"

const (
	// DefaultTimeout bounds a whole exchange, retries included; not tunnels.
	DefaultTimeout = 60 * time.Second

	// DefaultRetries is how many tries follow the first.
	DefaultRetries = 1

	// DefaultBudget is how many of an upstream's live exchanges may be retries,
	// in percent: when a server dies, retries must not double the load of the rest.
	DefaultBudget = 20

	// minBudget is how many retries are allowed however few exchanges are
	// live: 20 % of one exchange would be none.
	minBudget = 3

	// maxHeldBody is how many bytes of a request's body are held so that it can
	// be sent again. It is per exchange that streams a body.
	maxHeldBody = 64 << 10

	// duplexAfter is how many body bytes are pushed upstream before the response
	// is read at the same time. It is less than what a server's receive window
	// and our send buffer take without being read, so that a server that answers
	// before it reads cannot lock both directions.
	duplexAfter = 32 << 10

	// maxRequestID is the longest x-request-id that is passed on, in bytes. A UUID has 36.
	maxRequestID = 128

	// maxRefreshes is how many exchanges without a client there may be at the same time.
	// What is not refreshed now is by the next request for it.
	maxRefreshes = 256

	// maxForwarded is how many addresses of a forwarding chain are looked at.
	maxForwarded = 32
)
