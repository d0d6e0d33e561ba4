package host

import (
	"time"

	"wproxy/abi"
)

// A Context is the guest's view of one stream. Memory for it belongs to the
// caller, typically inside the filter that handles the exchange. Its methods may be
// called from any goroutine, but one at a time, from Open to Finish; each locks the
// VM, calls the guest and unlocks. A callback that the guest does not export
// answers abi.Continue at once.
//
// After an error no callback is made for this stream any more. The errors are:
// *TrapError when the VM has died, in this callback or in one of another stream;
// *ClosedError when the host is closing, or c is not open; *NoVMError when no VM is alive at the
// moment.
//
// A Stream that implements Failer is told when its VM dies in between.
type Context struct {
	// Owned by the caller's goroutine.
	root *Root // nil: not open
	vm   *vm   // nil: not bound yet
	err  error // the answer to everything from now on

	// Guarded by vm.mu.
	id      uint32
	stream  Stream // nil in a root context
	base    *rootContext
	ending  bool // on_done returned false; proxy_done is awaited
	late    bool // a copy made by Finish, which counts in root.refs by itself
	expires time.Time
	size    int // bytes that stream holds, of a late one
	spent   time.Duration
	fuel    int64    // units of work, see fuel.go
	held    []uint64 // places that go back when the stream ends (place.go)
}

// A rootContext is a Root in one VM.
type rootContext struct {
	Context
	tick     time.Duration // 0: off
	due      time.Time
	closing  bool
	props    map[string][]byte
	idle     []uint32            // ids of ended streams whose slots are free (slots.go)
	declared map[string]declared // properties, by path (hostcall_foreign.go)
	queues   []*queue            // that it has registered for (queue.go)
	edits    []StandingEdits     // that it has asked for
	editSums editSums            // of these
}

// A Failer is a Stream that wants to hear at once that its VM has died while no
// callback of its own was running; a stream that a guest has paused would wait for
// ever otherwise. Failed obeys the rules of Stream: it marks and wakes, and does
// not block or call back.
type Failer interface{ Failed(err error) }

// RequestHeaders calls on_request_headers. n is the number of header lines, pseudo
// headers included; end means that neither body nor trailers follow.
func (c *Context) RequestHeaders(n int, end bool) (abi.Action, error) {
	return c.callback(CallRequestHeaders, n, end)
}

// RequestBody calls on_request_body. n is the number of bytes that the body buffer
// holds; end marks the last call of the message.
func (c *Context) RequestBody(n int, end bool) (abi.Action, error) {
	return c.callback(CallRequestBody, n, end)
}

// RequestTrailers calls on_request_trailers. n is the number of trailer lines.
func (c *Context) RequestTrailers(n int) (abi.Action, error) {
	return c.callback(CallRequestTrailers, n, false)
}

// ResponseHeaders calls on_response_headers, see RequestHeaders.
func (c *Context) ResponseHeaders(n int, end bool) (abi.Action, error) {
	return c.callback(CallResponseHeaders, n, end)
}

// ResponseBody calls on_response_body, see RequestBody.
func (c *Context) ResponseBody(n int, end bool) (abi.Action, error) {
	return c.callback(CallResponseBody, n, end)
}

// ResponseTrailers calls on_response_trailers, see RequestTrailers.
func (c *Context) ResponseTrailers(n int) (abi.Action, error) {
	return c.callback(CallResponseTrailers, n, false)
}

// NewConnection calls on_new_connection.
func (c *Context) NewConnection() (abi.Action, error) {
	return c.callback(CallNewConnection, 0, false)
}

// DownstreamData calls on_downstream_data. n is the number of bytes that the buffer of what
// the client has sent holds; end means that it sends no more.
func (c *Context) DownstreamData(n int, end bool) (abi.Action, error) {
	return c.callback(CallDownstreamData, n, end)
}

// UpstreamData calls on_upstream_data, see DownstreamData.
func (c *Context) UpstreamData(n int, end bool) (abi.Action, error) {
	return c.callback(CallUpstreamData, n, end)
}

// DownstreamClose calls on_downstream_connection_close. by says who has closed the connection
// to the client.
func (c *Context) DownstreamClose(by abi.PeerType) error {
	_, err := c.callback(CallDownstreamClose, int(by), false)
	return err
}

// UpstreamClose calls on_upstream_connection_close, see DownstreamClose.
func (c *Context) UpstreamClose(by abi.PeerType) error {
	_, err := c.callback(CallUpstreamClose, int(by), false)
	return err
}

func (c *Context) callback(cb Callback, n int, end bool) (abi.Action, error) {
	if c.root == nil {
		return abi.Continue, &ClosedError{}
	}
	if c.err != nil {
		return abi.Continue, c.err
	}
	if !c.root.p.exports[cb].present || callbackSet(c.root.skips.Load()).has(cb) {
		return abi.Continue, nil
	}
	v, err := c.lock()
	if err != nil {
		return abi.Continue, err
	}
	var last uint64
	if end {
		last = 1
	}
	action, ok := v.call(c, cb, uint64(c.id), uint64(uint32(n)), last)
	if !ok {
		c.err = v.dead
	}
	v.unlock()
	return abi.Action(action), c.err
}

// lock returns the stream's VM, locked and alive. The first call binds the stream
// to a VM and creates the guest's context.
func (c *Context) lock() (*vm, error) {
	v := c.vm
	if v != nil {
		v.lock()
	} else {
		var base *rootContext
		var err error
		if v, base, err = c.root.p.bind(c.root); err != nil {
			c.err = err
			return nil, err
		}
		id, known, ok := v.streamID(base)
		if !ok {
			v.unlock()
			c.err = &NoVMError{Plugin: c.root.p.o.Name, Err: errStreams}
			return nil, c.err
		}
		c.vm, c.base, c.id = v, base, id
		v.contexts[id] = c
		v.bound.Add(1)
		v.served++
		if !known {
			v.call(c, CallContextCreate, uint64(id), uint64(base.id))
		}
	}
	if v.dead != nil {
		c.err = v.dead
		v.unlock()
		return nil, c.err
	}
	return v, nil
}

// Finish ends the stream: on_done, on_log, on_delete. It is called exactly once for
// each Open, also after an error and when no callback was made. The Stream is used
// until Finish returns, with one exception: a guest may put off the end
// (on_done returns false, proxy_done comes later; capped in time and number).
// Then keep is called, under the VM's lock, for a Stream that stays valid on its own
// (a copy of the heads), and that one is used from then on. With keep nil the end
// is not put off. c may be opened again afterwards.
//
// The error is a *TrapError if the guest died in one of these calls; everything
// else there is to know about a VM that is gone already is not repeated.
func (c *Context) Finish(keep func() Stream) error {
	r := c.root
	if r == nil {
		return nil
	}
	var err error
	ended := false
	// A guest that was not called so far may have no callback for what has
	// happened; it is told of the end of every stream all the same.
	if c.err == nil && (c.vm != nil || r.p.watchesEnd()) {
		var v *vm
		if v, err = c.lock(); err == nil {
			if v.finish(c, keep); v.dead != nil {
				err = v.dead
			}
			c.unhold(r.p.shared.places)
			ended = true
			v.unlock()
		}
	}
	if v := c.vm; v != nil {
		v.bound.Add(-1)
		if !ended { // the VM has died, or is dying
			v.mu.Lock()
			c.unhold(r.p.shared.places)
			v.mu.Unlock()
		}
	}
	*c = Context{spent: c.spent, fuel: c.fuel, held: c.held}
	r.streamEnded()
	return err
}

// watchesEnd reports whether the guest wants to know of every stream, which it is told of
// at the end if nothing else has been (abi.md 4.4). With slots on_context_create and
// on_delete are not about streams.
func (p *Plugin) watchesEnd() bool {
	return p.exports[CallDone].present || p.exports[CallLog].present ||
		!p.slots && (p.exports[CallContextCreate].present || p.exports[CallDelete].present)
}

// GuestTime returns the time spent in callbacks of this stream so far. It stays
// readable after Finish, until the next Open.
func (c *Context) GuestTime() time.Duration { return c.spent }

// GuestCost is GuestTime, and the units of work that were done in it
// (PluginOptions.OnFuel).
func (c *Context) GuestCost() (took time.Duration, fuel int64) { return c.spent, c.fuel }

// finish calls on_done and then ends the stream, or leaves a copy of it behind that
// waits for proxy_done.
func (v *vm) finish(c *Context, keep func() Stream) {
	done, ok := v.call(c, CallDone, uint64(c.id))
	if !ok {
		return
	}
	if done != 0 || keep == nil {
		v.end(c)
		return
	}
	if len(v.delayed) >= maxDelayedDone {
		v.warn("more than the allowed number of streams wait for proxy_done: this one is ended without it")
		v.end(c)
		return
	}
	s := keep()
	if s == nil {
		v.end(c)
		return
	}
	c.root.refs.Add(1)
	late := &Context{
		root: c.root, vm: v, id: c.id, stream: s, base: c.base,
		ending: true, late: true, expires: v.deadlineClock().Add(delayedDone),
	}
	v.contexts[c.id] = late
	if z, ok := s.(Sizer); ok {
		late.size = z.Size()
	}
	v.delayed, v.waiters = append(v.delayed, late), v.waiters+late.size
	for v.waiters > maxDelayedBytes && len(v.delayed) > 0 {
		v.warn("the streams that wait for proxy_done hold too much: the oldest are ended without it")
		v.doneLate(v.delayed[0])
	}
	v.kickTimer()
}

// end makes the last calls of a context: on_log for a stream, never for a root
// (AssemblyScript's SDK would cast it to a stream), and on_delete.
func (v *vm) end(c *Context) {
	root := c.stream == nil
	if !root {
		if _, ok := v.call(c, CallLog, uint64(c.id)); !ok {
			return
		}
	}
	if !v.deleteContext(c) {
		return
	}
	delete(v.contexts, c.id)
	switch {
	case root:
		v.cancelCalls(c.base)
		v.cancelGRPC(c.base)
		delete(v.roots, c.root)
		v.goneAfter(c.root)
	case c.late:
		v.releaseAfter(c.root)
	}
	c.stream = nil
}
