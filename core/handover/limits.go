package handover

import "time"

const (
	// frameBytes bounds one message between the two processes: a state of all that plugins
	// share, which is bounded by its sender to less (MaxState), or a short text.
	frameBytes = MaxState + 1<<20

	// MaxState is how many bytes a sealed state may have: the shared data, queues and
	// counters of a handful of plugins that have filled theirs. Both processes hold it for
	// the moment of the handover.
	MaxState = 128 << 20

	// helloTime is how long the new process waits for the first message, which the old one
	// has ready when it starts it; frameTime, how long one message may take to be written.
	helloTime = 10 * time.Second
	frameTime = 10 * time.Second

	// maxSockets bounds the descriptors that are taken at the start: far more than listeners
	// there are.
	maxSockets = 4096
)
