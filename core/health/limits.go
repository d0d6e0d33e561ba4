package health

import "time"

const (
	// MaxChecks is how many checks of one process run at a time. Each holds a
	// connection; where more are due they wait, and a check comes later than its
	// interval says. 512 at the default timeout of 1 s see 10,000 servers that do
	// not answer in 20 s.
	MaxChecks = 512

	// firstPace is the time between the first checks of two servers of a process,
	// so that a start with 10,000 servers does not begin with 10,000 connections.
	// It never delays a first check by more than its interval.
	firstPace = 2 * time.Millisecond

	// jitter is the share by which an interval is shorter or longer at random, so
	// that many proxies do not check in step.
	jitter = 0.1

	// panicEnd is how many times the share of servers below which panic begins must be
	// available for it to end: 40 % for the 30 % of the default.
	panicEnd = 4. / 3

	// MaxBody is how many bytes of an answer's body are looked at. What is
	// expected has to be in them.
	MaxBody = 64 << 10

	// maxReason bounds a reason, which may hold words of a server.
	maxReason = 200

	// userAgent marks checks in the logs of the servers.
	userAgent = "wproxy-health"
)
