package main

import "time"

const (
	// loadConnections is the number of connections wrk holds: enough to keep a
	// proxy busy, few enough that the load generator does not measure itself.
	loadConnections = 64

	// idleConnections is how many keep-alive connections the memory scenario
	// holds. The acceptance is stated for this number; it fits into the
	// ephemeral ports of one loopback address.
	idleConnections = 10_000

	// idleBatch is how many connections are opened at the same time; more
	// would overflow listen backlogs, which are 511 in nginx.
	idleBatch = 64

	// idleLost is the share, one in so many, of the idle connections that a
	// proxy may have closed: the figure is per connection that is left.
	idleLost = 100

	// openFiles is the descriptor limit asked for; the memory scenario needs
	// one per connection here and one in the proxy.
	openFiles = 65_536

	// reserveFiles is what a process needs besides the idle connections.
	reserveFiles = 512

	// startTimeout bounds the time from starting a program to its first answer.
	// Compiling plugins without a warm cache takes the longest.
	startTimeout = 30 * time.Second

	// stopGrace is how long a program may take to end after SIGTERM before it
	// is killed.
	stopGrace = 3 * time.Second

	// settle is the pause before resident memory is read, so that what is
	// freed after the load has gone is not counted.
	settle = 3 * time.Second

	// startPoll is how often the start scenario asks for an answer; it is the
	// resolution of that figure.
	startPoll = time.Millisecond

	// ioTimeout bounds one exchange of the measuring client itself.
	ioTimeout = 5 * time.Second

	// maxAnswer bounds what is read of one answer by the measuring client
	// (metrics pages are the largest).
	maxAnswer = 4 << 20
)
