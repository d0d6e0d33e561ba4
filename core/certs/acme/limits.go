package acme

import "time"

const (
	// DefaultCA is the directory of Let's Encrypt's production service.
	DefaultCA = "https://acme-v02.api.letsencrypt.org/directory"

	// DefaultCheck is how often each certificate is looked at: a fifth of what
	// certmagic keeps as the least rest of a certificate's life.
	DefaultCheck = 10 * time.Minute

	// MaxHosts is the most hosts of one Manager. Each costs a goroutine that
	// sleeps, and an order of its own: Let's Encrypt takes 300 in three hours.
	MaxHosts = 1000

	// maxIssuing is the most orders of one Manager at a time. A first start with
	// many hosts is a burst for the CA and for its validation of our doors.
	maxIssuing = 4

	// attemptTime bounds one order from lock to stored certificate. CAs validate
	// within seconds and tell us to come again after some more.
	attemptTime = 5 * time.Minute

	// pollTime bounds the wait for one authorization or order within it.
	pollTime = 2 * time.Minute

	// requestTime bounds one HTTP request to the CA.
	requestTime = 30 * time.Second

	// retryFailed is the wait after the first order that failed on the way: the CA
	// is not there, or the storage. It doubles.
	retryFailed = time.Minute

	// retryRefused is the wait after the first order that the CA refused, mostly
	// because it could not validate the host. It doubles. Let's Encrypt allows five
	// failed validations of a host in an hour, and an order may cost two.
	retryRefused = 10 * time.Minute

	// maxRetry is the longest wait: certificates are renewed weeks, and those that
	// live for days a day, before they expire.
	maxRetry = 6 * time.Hour

	// minRenewed is how long a new certificate is kept whatever the CA says of its
	// renewal, or a third of its life if that is less: a CA whose
	// renewal windows lie in the past must not make us order without end.
	minRenewed = time.Hour

	// renewalInfoRetry is the wait after renewal information could not be had. The
	// certificate is renewed in time without it.
	renewalInfoRetry = time.Hour

	// warnEvery is how often the log says, per host, that a client asked for a
	// certificate that is not there.
	warnEvery = time.Minute

	// lockPoll is how often a lock that another process holds is tried again.
	lockPoll = 100 * time.Millisecond

	// maxPEM is the most bytes of a chain from the CA: a dozen certificates of 4 KiB and
	// room to spare. What certmagic stores beyond that would be read at every start.
	maxPEM = 256 << 10

	// maxWhy is the most bytes of a CA's reason that are logged and kept.
	maxWhy = 1 << 10
)
