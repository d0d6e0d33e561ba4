package wasmfilter

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// A tcpFlow is one direction of a TCP connection as it passes a plugin: a filter.Flow, and the
// buffer that the guest sees of it.
type tcpFlow struct {
	// Immutable once the connection has begun.
	f    *tcpFilter
	side abi.StreamType // StreamDownstream or StreamUpstream
	next filter.Flow
	wake chan struct{} // one token: look at the marks

	// The direction lock: see half.
	mu sync.Mutex

	// Owned by the holder of mu.
	err    error // what ended the direction
	opened bool  // next is

	// Guarded by Exchange.Mu.
	body    body
	opening bool // it is the connection that is held, and not bytes of it
	held    bool // the guest holds something back
	inside  bool // a goroutine is in the direction and looks at the marks before it leaves or pushes
	parked  bool // the goroutine in the direction waits for wake
	resume  bool // mark: let go of what is held
	ended   bool // the end has been seen
	pauses  uint64
	pause   *time.Timer // of the pause that goes on; nil: there is none
}

var (
	_ filter.Flow = (*tcpFlow)(nil)
	_ host.Buffer = (*tcpFlow)(nil)
)

func (d *tcpFlow) init(f *tcpFilter, side abi.StreamType) {
	d.f, d.side, d.wake = f, side, make(chan struct{}, 1)
}

// Open implements filter.Flow. A guest that pauses in on_new_connection holds everything:
// nothing is read, and no upstream connected to; with hold, it is called with what the client
// sends, and lets go by Continue.
func (d *tcpFlow) Open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, x := d.f, d.f.x
	if d.side == abi.StreamUpstream {
		x.Mu.Lock()
		f.joined = true
		x.Mu.Unlock()
		d.opened = true
		return d.keepErr(d.next.Open())
	}
	if !f.factory.calls.NewConnection {
		return d.keepErr(d.openNext())
	}
	x.Mu.Lock()
	d.inside, d.opening = true, true
	x.Mu.Unlock()
	action, err := f.call((*host.Context).NewConnection)
	x.Mu.Lock()
	if err != nil {
		f.failLocked(err)
	}
	return d.keepErr(d.settle(action != abi.Continue))
}

// Data implements filter.Flow.
func (d *tcpFlow) Data(p []byte, end bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	f, x := d.f, d.f.x
	calls := &f.factory.calls
	wants := calls.DownstreamData
	if d.side == abi.StreamUpstream {
		wants = calls.UpstreamData || end && calls.UpstreamClose
	}
	x.Mu.Lock()
	d.ended = d.ended || end
	d.body.show(p)
	d.inside = true
	n, failed := len(d.body.visible), f.failed != nil
	x.Mu.Unlock()
	if !wants || failed || len(p) == 0 && !end {
		x.Mu.Lock()
		return d.keepErr(d.settle(wants && d.held && !failed))
	}
	action, err := d.callData(n, end)
	x.Mu.Lock()
	d.opening = false
	if err != nil {
		f.failLocked(err)
	}
	return d.keepErr(d.settle(action != abi.Continue))
}

// callData makes the callbacks of bytes that have come. The guest hears at once of the end
// of the upstream's direction, as with the reference host.
func (d *tcpFlow) callData(n int, end bool) (abi.Action, error) {
	return d.f.call(func(c *host.Context) (abi.Action, error) {
		if d.side == abi.StreamDownstream {
			return c.DownstreamData(n, end)
		}
		action, err := c.UpstreamData(n, end)
		if err == nil && end {
			d.f.x.Mu.Lock()
			d.f.ended = true
			d.f.x.Mu.Unlock()
			err = c.UpstreamClose(abi.PeerRemote)
		}
		return action, err
	})
}

// keepErr keeps what has ended the direction.
func (d *tcpFlow) keepErr(err error) error {
	if err != nil {
		d.err = err
	}
	return err
}

func (d *tcpFlow) openNext() error {
	if d.opened {
		return nil
	}
	d.opened = true
	return d.next.Open()
}

// settle acts on the marks, and then lets go of what there is or, with pause, holds it back:
// it returns if there is room for more, and otherwise waits. It is called with Exchange.Mu
// held, and returns without.
func (d *tcpFlow) settle(pause bool) error {
	f, x := d.f, d.f.x
	for {
		switch {
		case f.abort != "":
			reason := f.abort
			f.abort, f.aborted = "", true
			d.dropLocked()
			x.Mu.Unlock()
			x.Engine.Abort(reason)
			return exchange.ErrAnswered
		case f.failed != nil && !f.open():
			err := f.failure(f.failed)
			d.dropLocked()
			x.Mu.Unlock()
			x.Engine.Fail(err)
			return exchange.ErrAnswered
		case !pause || d.resume || f.failed != nil:
			return d.letGoLocked()
		}
		d.body.own()
		d.held, d.inside = true, false
		d.startPauseLocked()
		full := d.ended || len(d.body.visible) >= f.factory.o.BodyBuffer || d.opening && !f.holds()
		if !full {
			x.Mu.Unlock()
			return nil
		}
		d.parked = true
		x.Mu.Unlock()
		ok := d.park()
		x.Mu.Lock()
		d.parked, d.inside = false, true
		if !ok {
			d.dropLocked()
			x.Mu.Unlock()
			return exchange.ErrAnswered
		}
	}
}

// holds reports whether a pause in on_new_connection lets the guest see what the client sends.
func (f *tcpFilter) holds() bool { return f.factory.hold && f.factory.calls.DownstreamData }

// letGoLocked passes on what there is. It is called with Exchange.Mu held, and returns without.
func (d *tcpFlow) letGoLocked() error {
	_, p := d.body.take()
	end := d.ended
	d.held, d.resume, d.inside, d.opening = false, false, false, false
	d.stopPauseLocked()
	d.f.x.Mu.Unlock()
	err := d.openNext()
	if err == nil && (len(p) > 0 || end) {
		err = d.next.Data(p, end)
	}
	if cap(d.body.store) > keepBuffer {
		d.f.x.Mu.Lock()
		d.body.store = nil
		d.f.x.Mu.Unlock()
	}
	return err
}

// dropLocked forgets what there is: the connection is over.
func (d *tcpFlow) dropLocked() {
	d.body.take()
	d.body.store = nil
	d.held, d.resume, d.inside = false, false, false
	d.stopPauseLocked()
}

// park waits for a mark; false: the connection is over.
func (d *tcpFlow) park() bool {
	x := d.f.x
	if !x.Park(d) {
		return false
	}
	defer x.Unpark(d)
	<-d.wake // by a mark, the end of the pause, or that of the connection
	return !x.Over()
}

// Wake implements filter.Waker.
func (d *tcpFlow) Wake() {
	select {
	case d.wake <- struct{}{}:
	default: // one token is enough: all marks are looked at
	}
}

// markLocked makes sure that somebody looks at the marks; false if nobody is in the direction.
func (d *tcpFlow) markLocked() bool {
	if d.parked {
		d.Wake()
	}
	return d.parked || d.inside
}

// resumeLocked marks what is held to be let go of.
func (d *tcpFlow) resumeLocked() {
	if d.resume || !d.held && !d.inside { // inside: the callback that is running may be about to pause
		return
	}
	d.resume = true
	if !d.markLocked() && d.f.x.StartLocked() {
		go d.resumed() // ends when what is held has been pushed; Close waits
	}
}

// resumed pushes what is held, where no goroutine is in the direction: its feeder waits for
// its socket.
func (d *tcpFlow) resumed() {
	x := d.f.x
	defer x.Pushed()
	d.mu.Lock()
	defer d.mu.Unlock()
	x.Mu.Lock()
	if !d.held || d.err != nil { // the feeder was first
		x.Mu.Unlock()
		return
	}
	d.inside = true
	err := d.keepErr(d.settle(true))
	if err == nil || errors.Is(err, exchange.ErrAnswered) {
		return
	}
	e, ok := errors.AsType[*exchange.Error](err)
	if !ok {
		e = &exchange.Error{Op: "resume", Reason: "internal", Err: err}
	}
	x.Engine.Fail(e)
}

// startPauseLocked starts the clock of a pause, unless one goes on already.
func (d *tcpFlow) startPauseLocked() {
	if d.pause != nil {
		return
	}
	d.pauses++
	n := d.pauses
	d.pause = time.AfterFunc(d.f.factory.o.Pause, func() { d.expire(n) })
}

func (d *tcpFlow) stopPauseLocked() {
	if d.pause != nil {
		d.pause.Stop()
		d.pause = nil
	}
}

// expire ends the connection because the n-th pause has lasted for too long.
func (d *tcpFlow) expire(n uint64) {
	f, x := d.f, d.f.x
	x.Mu.Lock()
	over := d.pause == nil || d.pauses != n
	if !over {
		d.pause = nil
		f.abortLocked("plugin_timeout:" + f.factory.name)
	}
	x.Mu.Unlock()
	if !over {
		f.factory.warn(fmt.Sprintf("the plugin has held a connection back for longer than sandbox.pause, %v: it is closed (route %s, request %s)",
			f.factory.o.Pause, x.Route.Name, x.RequestID))
	}
}

// Bytes implements host.Buffer. As in half.Bytes, the goroutine in the direction waits for
// the callback that asks.
func (d *tcpFlow) Bytes() []byte {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	return d.body.visible
}

// Append implements host.Buffer.
func (d *tcpFlow) Append(dst []byte) []byte {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	return append(dst, d.body.visible...)
}

// Replace implements host.Buffer. After a resume the bytes are on their way, and edits have no
// effect any more. What would make them more than the guest may hold ends the connection.
func (d *tcpFlow) Replace(start, size int, data []byte) bool {
	f := d.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if !d.body.open || d.resume && d.parked || f.x.ClosingLocked() {
		return true
	}
	if !d.body.replace(start, size, data, f.factory.o.BodyBuffer) {
		f.abortLocked("payload_too_large:" + f.factory.name)
	}
	return true
}

// End implements host.Buffer.
func (d *tcpFlow) End() bool {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	return d.ended
}
