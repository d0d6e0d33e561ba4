package access

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Format is how a line looks.
type Format uint8

const (
	// JSON is one object per line.
	JSON Format = iota
	// Combined is the format of Apache and nginx with that name.
	Combined
)

// Options of a Logger.
type Options struct {
	// To is "stdout", "stderr", "none" or "" (nothing is written), or the path
	// of a file, which is created (mode 0640) or appended to.
	To     string
	Format Format
	// FlushEvery is how long a line may stay in the buffer; 0: DefaultFlush.
	FlushEvery time.Duration
	// Writer, if set, is written to instead of To.
	Writer io.Writer
}

// A Logger writes lines. It is safe for concurrent use. A nil Logger writes
// nothing.
type Logger struct {
	// Immutable.
	format Format
	path   string // "" without a file
	stop   chan struct{}
	done   chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	enc     *encoder
	buf     []byte
	w       io.Writer
	file    *os.File // w, if it is a file of ours
	dropped uint64
	held    uint64 // lines in buf
	closed  bool
}

// Open makes a Logger; nil for "none". It starts one goroutine that flushes;
// Close ends it.
func Open(o Options) (*Logger, error) {
	if o.FlushEvery <= 0 {
		o.FlushEvery = DefaultFlush
	}
	l := &Logger{
		format: o.Format, enc: newEncoder(), buf: make([]byte, 0, bufferSize),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	switch {
	case o.Writer != nil:
		l.w = o.Writer
	case o.To == "" || o.To == "none":
		return nil, nil //nolint:nilnil // a nil Logger is documented to write nothing
	case o.To == "stdout":
		l.w = os.Stdout
	case o.To == "stderr":
		l.w = os.Stderr
	default:
		f, err := openFile(o.To)
		if err != nil {
			return nil, err
		}
		l.path, l.file, l.w = o.To, f, f
	}
	go l.flusher(o.FlushEvery) // ended and waited for by Close
	return l, nil
}

func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}

func (l *Logger) flusher(every time.Duration) {
	defer close(l.done)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_ = l.Flush() // counted in dropped
		case <-l.stop:
			return
		}
	}
}

// Log writes the line of r, which is borrowed. It never fails and does not
// allocate: a line that cannot be written is counted ([Logger.Dropped]).
func (l *Logger) Log(r *Record) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.dropped++
		return
	}
	if l.format == Combined {
		l.buf = appendCombined(l.buf, r)
	} else {
		b, err := l.enc.line(r)
		if err != nil {
			l.dropped++
			return
		}
		l.buf = append(l.buf, b.Bytes()...)
		b.Free()
	}
	l.held++
	if len(l.buf) >= bufferSize/2 {
		_ = l.flushLocked() // counted in dropped
	}
}

// Flush writes what is in the buffer.
func (l *Logger) Flush() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushLocked()
}

// flushLocked drops lines that cannot be written: a full disk must not fill the memory.
func (l *Logger) flushLocked() error {
	if len(l.buf) == 0 {
		return nil
	}
	_, err := l.w.Write(l.buf)
	if err != nil {
		l.dropped += l.held
	}
	l.held = 0
	l.buf = l.buf[:0]
	if cap(l.buf) > 2*bufferSize { // one giant line must not keep its memory
		l.buf = make([]byte, 0, bufferSize)
	}
	return err
}

// Reopen opens the file again under its name, for rotation. Without a file it
// only flushes. If it fails, the Logger goes on with the file it has.
func (l *Logger) Reopen() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.flushLocked()
	if l.path == "" || l.closed {
		return err
	}
	f, openErr := openFile(l.path)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	err = errors.Join(err, l.file.Close())
	l.file, l.w = f, f
	return err
}

// Dropped returns how many lines could not be written.
func (l *Logger) Dropped() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Close flushes, ends the flushing goroutine and closes the file. Lines logged
// afterwards are dropped. Further calls do nothing.
func (l *Logger) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	err := l.flushLocked()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	l.mu.Unlock()
	close(l.stop)
	<-l.done
	return err
}
