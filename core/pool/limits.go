package pool

import "time"

// Reasons of who finds no room.
const (
	ReasonFull      = "queue_full"    // nor a place in the queue
	ReasonQueueTime = "queue_timeout" // in the time of the queue
)

const (
	// DefaultIdle is how many connections at rest a pool keeps, over all
	// servers. Each costs a descriptor here and there and some KiB.
	DefaultIdle = 256

	// DefaultIdleTime is how long a connection rests before it is closed. It is
	// below the keep-alive time of most servers (nginx: 75 s), so that it is
	// we who close and not they.
	DefaultIdleTime = 60 * time.Second

	// DefaultQueue is how many exchanges may wait for a connection when
	// PerServer is reached; more are refused at once.
	DefaultQueue = 100

	// DefaultQueueTime is how long one of them waits.
	DefaultQueueTime = time.Second

	// newsTime is how often who waits looks whether a Multiplexer has more slots, or none
	// any more, because its peer has said so: nobody tells the pool.
	newsTime = 50 * time.Millisecond

	// DefaultStreams is about how many exchanges one Multiplexer carries.
	DefaultStreams = 100

	// sweepsPerIdleTime is how often in one IdleTime connections at rest are
	// looked at: a dead or old one stays at most a quarter of it longer.
	sweepsPerIdleTime = 4

	// minSweep is the shortest time between two sweeps.
	minSweep = 50 * time.Millisecond

	// maxSweep is the longest: dead connections hold a descriptor until then.
	maxSweep = 10 * time.Second
)
