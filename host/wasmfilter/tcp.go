package wasmfilter

import (
	"errors"
	"sync"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// A TCPFactory makes the filters of one plugin with one configuration, for TCP connections.
type TCPFactory struct {
	name  string
	calls host.Callbacks
	hold  bool // Pause in on_new_connection holds the connection to the upstream only
	o     Options
	root  *host.Root
	warn  func(message string)
}

var _ filter.TCPFactory = (*TCPFactory)(nil)

// NewTCP is New for TCP connections. Of the options OnError, BodyBuffer and Pause mean
// something: a connection is closed where a request would be answered, and a pause that holds
// BodyBuffer bytes back stops reading. Pause 0 means five minutes.
func NewTCP(r *host.Root, o Options) *TCPFactory {
	p := r.Plugin()
	if o.BodyBuffer <= 0 {
		o.BodyBuffer = defaultBodyBuffer
	}
	if o.Pause <= 0 {
		o.Pause = defaultPause
	}
	return &TCPFactory{
		name: p.Name(), calls: r.Callbacks(), hold: p.HeadersPause() == host.HeadersPauseHold,
		o: o, root: r, warn: p.Warn,
	}
}

// Name implements filter.TCPFactory.
func (x *TCPFactory) Name() string { return x.name }

// NewTCP implements filter.TCPFactory. It never fails: see Factory.New.
func (x *TCPFactory) NewTCP(e *filter.Exchange) (filter.TCPFilter, error) {
	f := &tcpFilter{factory: x, x: e}
	f.stream.f = f
	f.down.init(f, abi.StreamDownstream)
	f.up.init(f, abi.StreamUpstream)
	return f, nil
}

// A tcpFilter is a plugin's part in one TCP connection. Its locks are in the order of those of
// a Filter.
type tcpFilter struct {
	// Immutable.
	factory *TCPFactory
	x       *filter.Exchange
	stream  tcpStream

	calls   sync.Mutex   // makes the calls into the guest one at a time
	opened  bool         // context is; guarded by calls
	context host.Context // guarded by calls

	down, up tcpFlow

	// Guarded by Exchange.Mu.
	failed  error  // the plugin has failed: callbacks are not made any more
	abort   string // reason for closing the connection, which is still to be done; "": none
	aborted bool   // it has been done
	joined  bool   // there has been a connection to the upstream
	ended   bool   // the guest has been told of its end
	verdict string
	final   bool
}

// Downstream implements filter.TCPFilter.
func (f *tcpFilter) Downstream(next filter.Flow) filter.Flow {
	if c := &f.factory.calls; !c.NewConnection && !c.DownstreamData {
		return next
	}
	f.down.next = next
	return &f.down
}

// Upstream implements filter.TCPFilter.
func (f *tcpFilter) Upstream(next filter.Flow) filter.Flow {
	if c := &f.factory.calls; !c.UpstreamData && !c.UpstreamClose {
		return next
	}
	f.up.next = next
	return &f.up
}

// call makes a call into the guest.
func (f *tcpFilter) call(do func(c *host.Context) (abi.Action, error)) (abi.Action, error) {
	f.calls.Lock()
	defer f.calls.Unlock()
	if !f.opened {
		if err := f.factory.root.Open(&f.context, &f.stream); err != nil {
			return abi.Continue, err
		}
		f.opened = true
	}
	return do(&f.context)
}

// open reports whether the connection goes on without a plugin that has failed.
func (f *tcpFilter) open() bool { return f.factory.o.OnError == OnErrorOpen }

// failure is why a connection is closed whose plugin has failed with err.
func (f *tcpFilter) failure(err error) *exchange.Error {
	reason := "plugin_failed:"
	if _, closed := errors.AsType[*host.ClosedError](err); closed {
		reason = "plugin_closed:"
	}
	return &exchange.Error{Op: "plugin " + f.factory.name, Side: exchange.Internal, Status: 503, Reason: reason + f.factory.name, Err: err}
}

// failLocked notes that the plugin has failed. What it asked for before is void; what it
// holds back is somebody else's to let go of, or to give up.
func (f *tcpFilter) failLocked(err error) {
	if f.failed == nil {
		f.failed = err
	}
	f.abort = ""
	f.nudgeLocked()
}

// nudgeLocked has both directions look at the marks.
func (f *tcpFilter) nudgeLocked() {
	for _, d := range [...]*tcpFlow{&f.down, &f.up} {
		if d.held && !d.markLocked() && f.x.StartLocked() {
			go d.resumed() // ends when what is held has been pushed; Close waits
		}
	}
}

// abortLocked asks for the end of the connection. Who is in a direction makes it, when the
// callback that is running is over, and else a goroutine that is started.
func (f *tcpFilter) abortLocked(reason string) {
	if f.x.ClosingLocked() || f.aborted || f.abort != "" {
		return
	}
	f.abort = reason
	down, up := f.down.markLocked(), f.up.markLocked()
	if !down && !up && f.x.StartLocked() {
		go f.abortAside() // ends at once: closing does not block
	}
}

func (f *tcpFilter) abortAside() {
	x := f.x
	defer x.Pushed()
	x.Mu.Lock()
	reason := f.abort
	f.abort, f.aborted = "", f.aborted || f.abort != ""
	x.Mu.Unlock()
	if reason != "" {
		x.Engine.Abort(reason)
	}
}

// Close implements filter.TCPFilter: what is left to be told, on_done, on_log, on_delete.
func (f *tcpFilter) Close(byClient bool) {
	x := f.x
	x.Quiesce()
	x.Mu.Lock()
	f.final = true
	f.down.stopPauseLocked()
	f.up.stopPauseLocked()
	failed, left := f.failed != nil, f.joined && !f.ended
	x.Mu.Unlock()
	if !failed {
		_, _ = f.call(func(c *host.Context) (abi.Action, error) { // the host has logged what is wrong; it is over
			by := abi.PeerLocal
			if byClient {
				by = abi.PeerRemote
			}
			err := c.DownstreamClose(by)
			if err == nil && left {
				err = c.UpstreamClose(abi.PeerLocal)
			}
			return abi.Continue, err
		})
	}
	f.calls.Lock()
	var took time.Duration
	opened := f.opened
	if opened {
		_ = f.context.Finish(f.keep) // as above
		took = f.context.GuestTime()
		f.opened = false
	}
	f.calls.Unlock()
	if opened {
		x.Mu.Lock()
		x.Verdicts = append(x.Verdicts, filter.Verdict{Plugin: f.factory.name, Verdict: f.verdict, Took: took})
		x.Mu.Unlock()
	}
}
