package server

import "time"

const (
	// restTime is how long connections that rest may take to end when they are closed.
	restTime = 100 * time.Millisecond

	// hangUpTime is how long an exchange that is cut short may take to notice
	// that nobody waits for it any more, before its socket is closed.
	hangUpTime = 500 * time.Millisecond

	// abortTime is how long it may take to end after that. Nothing should come
	// near: it is what keeps a bug from holding up the end of the process.
	abortTime = 5 * time.Second
)
