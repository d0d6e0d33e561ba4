package access

import "time"

const (
	// DefaultFlush is how long a line may stay in the buffer.
	DefaultFlush = time.Second

	// bufferSize is how many bytes of lines are collected for one write: about a
	// thousand lines of 500 bytes. What a write costs besides its bytes is a hundred
	// microseconds: each wakes the scheduler's monitor, which then looks around some fifty
	// times before it sleeps again.
	bufferSize = 512 << 10

	// firstSize is how many bytes a buffer has room for at first. Most logs never have more in
	// one second.
	firstSize = 32 << 10

	// maxHeld is how many bytes of lines wait while others are written: a tenth
	// of a second at 100,000 lines a second, which is how long a disk may take
	// now and then. There are two such buffers at most.
	maxHeld = 4 << 20

	// stuckTime is how long Flush, Reopen and Close wait for a reader of the
	// log that does not read: they hold up reloads and the end of the process.
	stuckTime = time.Second

	// maxValue is the longest value from outside that is written, in bytes:
	// longer than any sane URL, so that one request cannot fill the disk.
	maxValue = 2048

	// maxFields is how many fields of plugins a line may have.
	maxFields = 32

	// perKind is how many exchanges of each of the five kinds a Recorder keeps: 200.
	perKind = 40

	// keptLine, keptHost, keptPath and keptPlugins bound what it keeps of one: in bytes,
	// and entries.
	keptLine    = 8 << 10
	keptHost    = 255
	keptPath    = 1024
	keptPlugins = 8

	// pendingTraps is how many requests at a time it knows to have had a trap: more
	// than plugins have instances.
	pendingTraps = 64

	// maxPlugins is how many plugins a line tells of.
	maxPlugins = 32
)
