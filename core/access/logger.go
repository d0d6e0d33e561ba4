package access

import "time"

// Format is how a line looks.
type Format uint8

const (
	// JSON: one object per line.
	JSON Format = iota
	// Combined: the format of Apache and nginx with that name.
	Combined
)

// Options of a Logger.
type Options struct {
	// To is "stdout", "stderr", "none" or the path of a file, which is created
	// (mode 0640) or appended to.
	To     string
	Format Format
	// FlushEvery is how long a line may stay in the buffer; 0: the default.
	FlushEvery time.Duration
}

// A Logger writes lines. It is safe for concurrent use. A nil Logger writes nothing.
type Logger struct{}

// Open makes a Logger. It starts one goroutine that flushes; Close ends it.
func Open(o Options) (*Logger, error) { panic("not yet") }

// Log writes the line of r, which is borrowed. It never fails: a line that
// cannot be written is counted ([Logger.Dropped]).
func (l *Logger) Log(r *Record) {}

// Reopen opens the file again under its name, for rotation. Without a file it
// only flushes.
func (l *Logger) Reopen() error { return nil }

// Flush writes what is in the buffer.
func (l *Logger) Flush() error { return nil }

// Dropped returns how many lines could not be written.
func (l *Logger) Dropped() uint64 { return 0 }

// Close flushes and closes. Lines logged afterwards are dropped.
func (l *Logger) Close() error { return nil }
