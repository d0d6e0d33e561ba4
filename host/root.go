package host

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

// A Root is a plugin with one configuration, present in every VM of the plugin.
// Its methods are safe for concurrent use.
type Root struct {
	p      *Plugin
	config []byte

	refs      atomic.Int64 // handles, in units of handle, and streams
	instances atomic.Int64 // root contexts alive

	skips    atomic.Uint64 // a callbackSet: what the guest has no use for
	standing atomic.Pointer[[]StandingEdits]
	gate     atomic.Pointer[Gate]
	watch    atomic.Pointer[Watch]          // as gate, one of which is nil
	lookup   atomic.Pointer[StandingLookup] // nil: none was ordered
}

// handle is what a handle counts in Root.refs, and an open stream counts 1: with the
// two in one word, a stream can be refused as soon as the last handle is gone, and
// the end of both is one event.
const handle = 1 << 32

// NewRoot starts a root context with a configuration (on_context_create,
// on_vm_start, on_configure), first in a spare VM: code that has not been tried
// with these settings never runs in a VM that serves streams. When that went well
// the spare VM joins the pool if there is room, and the root is started in the
// VMs there are. The error is a *StartError with the plugin's last log lines, a
// *ClosedError, or ctx's. The Root has one reference, the caller's. config is
// copied.
func (p *Plugin) NewRoot(ctx context.Context, config []byte) (*Root, error) {
	p.startMu.Lock()
	defer p.startMu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &Root{p: p, config: slices.Clone(config)}
	r.refs.Store(handle)
	p.mu.Lock()
	closing := p.closing
	others := p.liveRootsLocked()
	if !closing {
		p.roots[r] = struct{}{}
		p.want = max(p.want, 1)
	}
	p.mu.Unlock()
	if closing {
		return nil, &ClosedError{Plugin: p.o.Name}
	}
	if err := p.tryRoot(r, others); err != nil {
		r.Close()
		return nil, err
	}
	if err := p.spreadRoot(ctx, r); err != nil {
		r.Close()
		return nil, err
	}
	p.maintain() // the spare VM may not have got into the pool
	return r, nil
}

// tryRoot starts r in a spare VM, which joins the pool if it can and is thrown
// away otherwise. startMu is held.
func (p *Plugin) tryRoot(r *Root, others []*Root) error {
	spare, err := p.startVM([]*Root{r})
	if err != nil {
		return err
	}
	if len(p.list()) < p.o.Instances {
		for _, o := range others {
			spare.lock()
			err = errors.Join(err, spare.startRoot(o))
			spare.unlock()
		}
		if err == nil {
			if err = p.join(spare, nil); err == nil {
				return nil
			}
		}
		p.mu.Lock()
		p.lastErr = err
		p.mu.Unlock()
		p.warnf("a spare VM is not used, because it did not start with all roots, or died: %v", err)
	}
	spare.drain(r)
	spare.kill(&ClosedError{Plugin: p.o.Name})
	return nil
}

// spreadRoot starts r in the VMs that serve already. startMu is held.
func (p *Plugin) spreadRoot(ctx context.Context, r *Root) error {
	for _, v := range p.list() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.lock()
		var err error
		if v.dead == nil && v.roots[r] == nil {
			err = v.startRoot(r)
		}
		v.unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// startRoot creates r's context in v and configures it (abi.md 4.2). mu is held.
// The error is a *StartError; unless the VM has died, nothing of r is left.
func (v *vm) startRoot(r *Root) error {
	if v.dead != nil {
		return &StartError{Plugin: v.p.o.Name, Callback: CallContextCreate, Err: v.dead}
	}
	base := &rootContext{}
	base.Context = Context{root: r, vm: v, id: v.newID(), base: base}
	v.contexts[base.id] = &base.Context
	v.roots[r] = base
	r.instances.Add(1)

	id := uint64(base.id)
	v.call(&base.Context, CallContextCreate, id, 0)
	for _, s := range [...]struct {
		cb  Callback
		arg int
	}{{CallVMStart, len(v.p.o.VMConfig)}, {CallConfigure, len(r.config)}} {
		accepted, ok := v.call(&base.Context, s.cb, id, uint64(s.arg))
		if ok && accepted == 0 {
			err := &StartError{Plugin: v.p.o.Name, Callback: s.cb, Log: v.logs.kept()}
			v.drainLocked(base)
			return err
		}
	}
	if trap, ok := errors.AsType[*TrapError](v.dead); ok {
		return &StartError{Plugin: v.p.o.Name, Callback: trap.Callback, Trap: trap, Log: trap.Log}
	}
	if v.dead != nil { // the plugin is being closed
		return &StartError{Plugin: v.p.o.Name, Callback: CallConfigure, Err: v.dead}
	}
	edits := base.edits
	r.standing.Store(&edits)
	return nil
}

// drain ends r's context in v if it has one.
func (v *vm) drain(r *Root) {
	v.lock()
	if base := v.roots[r]; base != nil {
		v.drainLocked(base)
	}
	v.unlock()
}

// drainLocked calls on_done and on_delete; on_delete waits for proxy_done if
// on_done returns false. No stream of the root is left.
func (v *vm) drainLocked(base *rootContext) {
	if base.closing {
		return
	}
	base.closing, base.tick = true, 0
	v.leaveQueues(base)
	done, ok := v.call(&base.Context, CallDone, uint64(base.id))
	if !ok {
		return
	}
	if done != 0 {
		v.end(&base.Context)
		return
	}
	base.ending, base.expires = true, v.deadlineClock().Add(delayedDone)
	v.kickTimer()
}

// liveRootsLocked returns the roots that somebody uses; p.mu is held.
func (p *Plugin) liveRootsLocked() []*Root {
	var roots []*Root
	for r := range p.roots {
		if r.refs.Load() > 0 {
			roots = append(roots, r)
		}
	}
	return roots
}

// Plugin returns the plugin that r belongs to.
func (r *Root) Plugin() *Plugin { return r.p }

// Callbacks returns which callbacks are made for streams of r: those that the guest
// exports, without what it has said on_configure that r has no use for.
func (r *Root) Callbacks() Callbacks { return r.p.callbacks(callbackSet(r.skips.Load())) }

// Retain adds a reference and returns r: whoever keeps a Root across a reload
// holds a reference of its own and ends it with Close.
func (r *Root) Retain() *Root {
	r.refs.Add(handle)
	return r
}

// Close ends one reference. After the last one no new streams can be opened; in
// each VM the root is drained when its last stream has ended (on_done, proxy_done,
// on_delete). Close does not wait for streams.
func (r *Root) Close() { r.drop(handle) }

// streamEnded takes back what Open, or a stream that waits for proxy_done, counts.
func (r *Root) streamEnded() { r.drop(1) }

func (r *Root) drop(n int64) {
	if r.refs.Add(-n) != 0 {
		return
	}
	for _, v := range r.p.all() {
		v.drain(r)
	}
	r.p.forget(r)
}

// Open makes c the context of a new stream of r. Nothing is called yet: the
// stream is bound to a VM, and on_context_create called, by the first callback that
// the guest exports. c must be zero or finished; it belongs to the host until
// Finish has returned and must not be copied or moved. The error is a
// *ClosedError.
func (r *Root) Open(c *Context, s Stream) error {
	for {
		n := r.refs.Load()
		if n < handle {
			return &ClosedError{Plugin: r.p.o.Name}
		}
		if r.refs.CompareAndSwap(n, n+1) {
			break
		}
	}
	*c = Context{root: r, stream: s, held: c.held[:0]}
	return nil
}

// instanceGone notes that one of r's contexts has ended, or its VM has.
func (r *Root) instanceGone() {
	r.instances.Add(-1)
	r.p.forget(r)
}

// forget drops r when nobody uses it and no VM has it; after the last root of a
// closed plugin the plugin goes too.
func (p *Plugin) forget(r *Root) {
	p.mu.Lock()
	last := false
	if _, known := p.roots[r]; known && r.refs.Load() == 0 && r.instances.Load() == 0 {
		delete(p.roots, r)
		last = p.closing && !p.stopped && len(p.roots) == 0
	}
	p.mu.Unlock()
	if last {
		p.h.spawn(p.free) // not here: the caller may hold startMu; Host.Close frees it otherwise
	}
}
