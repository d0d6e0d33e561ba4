package server

import "time"

const (
	// restTime is how long connections that rest may take to end when they are closed.
	restTime = 100 * time.Millisecond
	// DefaultGenerations is how many old configurations may have exchanges at a time.
	// Each keeps its plugins alive with the memory of their instances if they were
	// changed since; streams that never end, and a reload every few seconds, would
	// gather any number of them.
	DefaultGenerations = 32

	// hangUpTime is how long an exchange that is cut short may take to notice
	// that nobody waits for it any more, before its socket is closed.
	hangUpTime = 500 * time.Millisecond

	// abortTime is how long it may take to end after that. Nothing should come
	// near: it is what keeps a bug from holding up the end of the process.
	abortTime = 5 * time.Second
)
