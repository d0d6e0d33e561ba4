package access

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
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
	// Fields are the fields of a line of JSON, in this order (see [ColumnNames]); none:
	// "default", which can be one of them. Others are "header:NAME" and "response:NAME", of
	// the request as plugins have left it and of the answer, "cookie:NAME", and
	// "added:NAME", which plugins have added.
	Fields []string
	// Hide says what is not written down.
	Hide Hide
	// Leave is the share of lines that are left out, 0 to 1, of those that say nothing
	// special: lines of 5xx answers, of what wproxy has refused, of answers that broke off
	// and of plugins that have trapped are always written.
	Leave float64
	// FlushEvery is how long a line may stay in the buffer; 0: DefaultFlush.
	FlushEvery time.Duration
	// Writer, if set, is written to instead of To.
	Writer io.Writer
	// OnDrop, if set, is told about lines that are lost, as [Logger.Dropped]
	// counts them, from many goroutines. It must not block.
	OnDrop func(lines uint64)
}

// ErrStuck is returned when what a Logger writes to takes nothing: a pipe whose
// reader does not read, a file system that does not answer.
var ErrStuck = errors.New("the log cannot be written: nobody takes its lines")

// A Logger writes lines. It is safe for concurrent use. A nil Logger writes
// nothing.
//
// Exchanges append to one buffer while its own goroutine writes the other, so
// that nobody's request waits for a disk or for whoever reads the log. What
// comes when a buffer is full is dropped, and counted.
type Logger struct {
	// Immutable.
	format Format
	leave  float64
	reads  bool   // see ReadsResponse
	path   string // "" without a file
	onDrop func(lines uint64)
	wake   chan struct{} // capacity 1: there is something for the writer to do
	done   chan struct{} // closed when the writer has ended

	// Owned by the writer.
	w     io.Writer
	spare []byte

	mu sync.Mutex // never held while something is written
	// Guarded by mu.
	enc     encoder
	buf     []byte
	lines   uint64   // in buf
	file    *os.File // w, if it is a file of ours
	next    *os.File // takes file's place once buf is written
	waiting []chan<- error
	dropped uint64
	closed  bool
}

// Open makes a Logger; nil for "none". It starts one goroutine that writes;
// Close ends it.
func Open(o Options) (*Logger, error) {
	if o.FlushEvery <= 0 {
		o.FlushEvery = DefaultFlush
	}
	l := &Logger{
		format: o.Format, onDrop: o.OnDrop, leave: o.Leave,
		buf: make([]byte, 0, firstSize), spare: make([]byte, 0, firstSize),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	var err error
	if l.enc.columns, err = parseColumns(o.Fields); err != nil {
		return nil, err
	}
	l.enc.hide = o.Hide
	l.reads = slices.ContainsFunc(l.enc.columns, func(c column) bool { return c.what == colResponse })
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
	go l.writer(o.FlushEvery) // ended by Close
	return l, nil
}

// openFile does not wait for the other end of a named pipe: without a reader
// it is an error.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
}

// writer is the goroutine that writes, the only one.
func (l *Logger) writer(every time.Duration) {
	defer close(l.done)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-l.wake:
		}
		if l.writeOut() {
			return
		}
	}
}

// writeOut writes what has been collected and does what was asked for.
// closed means that it was the last time.
func (l *Logger) writeOut() (closed bool) {
	l.mu.Lock()
	out, lines, next, waiting := l.buf, l.lines, l.next, l.waiting
	l.buf, l.lines, l.next, l.waiting = l.spare, 0, nil, nil
	closed = l.closed
	l.mu.Unlock()

	var err error
	if len(out) > 0 {
		if _, err = l.w.Write(out); err != nil { // a full disk must not fill the memory
			l.drop(lines)
		}
	}
	if l.spare = out[:0]; cap(out) > 2*bufferSize && len(out) < bufferSize { // a burst must not keep its memory
		l.spare = make([]byte, 0, bufferSize)
	}
	l.mu.Lock()
	was := l.file
	if next != nil {
		l.file, l.w = next, next
	}
	now := l.file
	l.mu.Unlock()
	if was != nil && next != nil {
		err = errors.Join(err, was.Close())
	}
	if closed && now != nil {
		err = errors.Join(err, now.Close())
	}
	for _, c := range waiting {
		c <- err // has room
	}
	return closed
}

// drop counts lost lines.
func (l *Logger) drop(lines uint64) {
	l.mu.Lock()
	l.dropped += lines
	l.mu.Unlock()
	if l.onDrop != nil && lines > 0 {
		l.onDrop(lines)
	}
}

// Log writes the line of r, which is borrowed, unless it is one of those that are left
// out. It never fails, does not wait for
// what it writes to, and does not allocate: a line that cannot be written is
// counted ([Logger.Dropped]).
func (l *Logger) Log(r *Record) {
	if l == nil || l.leave > 0 && !keeps(r) && rand.Float64() < l.leave {
		return
	}
	if !l.add(r) {
		l.drop(1)
	}
}

// ReadsResponse reports whether lines have something of Record.Response.
func (l *Logger) ReadsResponse() bool { return l != nil && l.reads }

// keeps reports whether the line of r is always written.
func keeps(r *Record) bool {
	switch kindOf(r) {
	case Trapped, Failed, Refused:
		return true
	default:
		return r.Trapped
	}
}

// add puts the line of r into the buffer, if it can.
func (l *Logger) add(r *Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.buf) >= maxHeld {
		return false
	}
	if l.format == Combined {
		l.buf = l.enc.appendCombined(l.buf, r)
	} else {
		l.buf = l.enc.appendJSON(l.buf, r)
	}
	l.lines++
	if len(l.buf) >= bufferSize {
		l.rouse()
	}
	return true
}

// Write adds p, one line with its end, as it is and without waiting for the next
// flush: a Logger is also what wproxy's own log writes to. It does not wait either.
// The error is ErrStuck if the line is lost, which is counted, or os.ErrClosed, which
// is not.
func (l *Logger) Write(p []byte) (int, error) {
	if l == nil {
		return len(p), nil
	}
	l.mu.Lock()
	closed, full := l.closed, len(l.buf) >= maxHeld
	if !closed && !full {
		l.buf = append(l.buf, p...)
		l.lines++
	}
	l.mu.Unlock()
	switch {
	case closed:
		return 0, os.ErrClosed
	case full:
		l.drop(1)
		return 0, ErrStuck
	}
	l.rouse()
	return len(p), nil
}

// rouse gives the writer something to do. One call suffices for many.
func (l *Logger) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Flush writes what is in the buffer. It returns ErrStuck if that takes too long.
func (l *Logger) Flush() error {
	if l == nil {
		return nil
	}
	return l.ask(func() {})
}

// ask makes the writer write, and waits for it, but not for ever. set is called
// with the lock held.
func (l *Logger) ask(set func()) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	set()
	err := make(chan error, 1)
	l.waiting = append(l.waiting, err)
	l.mu.Unlock()
	l.rouse()
	t := time.NewTimer(stuckTime)
	defer t.Stop()
	select {
	case err := <-err:
		return err
	case <-t.C:
		return ErrStuck
	}
}

// Reopen opens the file again under its name, for rotation. Without a file it
// only flushes. If it fails, the Logger goes on with the file it has; after
// ErrStuck it takes the new one when the old one is written.
func (l *Logger) Reopen() error {
	if l == nil {
		return nil
	}
	if l.path == "" {
		return l.Flush()
	}
	f, err := openFile(l.path)
	if err != nil {
		return errors.Join(l.Flush(), err)
	}
	unused := f // a file that never got its turn; f itself if closed
	err = l.ask(func() { unused, l.next = l.next, f })
	if unused != nil {
		_ = unused.Close() // nothing was written to it
	}
	return err
}

// Dropped returns how many lines are lost: they could not be written, or came
// faster than they could.
func (l *Logger) Dropped() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// Close flushes, ends the writing goroutine and closes the file. Lines logged
// afterwards are dropped. Further calls only wait. If nobody takes the lines, it
// gives up and returns ErrStuck: the goroutine then ends when its last write does.
func (l *Logger) Close() error {
	if l == nil {
		return nil
	}
	closing := make(chan error, 1)
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.waiting = append(l.waiting, closing)
	}
	l.mu.Unlock()
	l.rouse()
	t := time.NewTimer(stuckTime)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
		l.giveUp()
		return ErrStuck
	}
	select {
	case err := <-closing:
		return err
	default:
		return nil // somebody else closed it
	}
}

// giveUp drops what nobody takes.
func (l *Logger) giveUp() {
	l.mu.Lock()
	lines, f := l.lines, l.file
	l.buf, l.lines = l.buf[:0], 0
	l.mu.Unlock()
	l.drop(lines)
	if f != nil {
		_ = f.Close() // ends a write to a pipe; the writer counts its lines
	}
}
