package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"wproxy/abi"
)

// A vm is one instance of a plugin's module. Everything that happens in it, guest
// code and host functions alike, happens under mu. mu is a leaf lock: under it
// nothing waits, and effects on the outside are deferred to unlock.
type vm struct {
	// Immutable.
	p   *Plugin
	ctx *vmContext

	waiting atomic.Int32 // goroutines that wait for mu
	bound   atomic.Int32 // streams
	bytes   atomic.Int64 // linear memory, as of the last unlock
	serving atomic.Bool  // in the pool; its roots are called for their queues

	mu sync.Mutex

	// Guarded by mu. While an instance starts it is not shared yet.
	mod      api.Module
	mem      api.Memory // nil once dead
	region   reservation
	fns      [callbacks]api.Function
	alloc    api.Function
	joined   bool  // in the pool, or has been
	dead     error // why no call is made any more: a *TrapError or *ClosedError
	stack    [8]uint64
	allocArg [1]uint64

	// Of recycle.go.
	served  int64  // streams that it was given
	size    uint32 // bytes of its memory when it joined the pool
	rebuild bool   // the guest wants to be replaced
	worn    bool   // a replacement was asked for
	retired bool   // and has come: no more streams

	contexts map[uint32]*Context
	roots    map[*Root]*rootContext
	nextID   uint32
	reused   bool     // nextID has been through all numbers once
	lastSlot uint32   // the highest number of a slot so far
	slots    []uint32 // last ids of slots that belong to no root

	meter fuelGauge

	// The call in progress.
	starting   bool // a start function
	allocating bool // the allocator, called by a host function
	allocFault error
	callback   Callback
	active     *Context      // whose callback it is; nil between calls
	effective  *Context      // chosen by proxy_set_effective_context; nil: active
	clock      time.Duration // Host.elapsed, as it was read last

	// Deferred to the end of the outermost call, and to after mu is unlocked.
	ended []*Context
	after []func()

	objects []byte // room for a result of objectFunc

	calls    map[uint32]*httpCall // under way, by id
	rpcs     map[uint32]*GRPCCall // the same of gRPC
	lastCall uint32

	delayed []*Context // streams waiting for proxy_done, oldest first
	waiters int        // bytes that they hold
	timer   vmTimer
	logs    logState
	out     [2]partialLine // what the guest wrote to fd 1 and 2
	warned  map[string]struct{}

	// What a guest reads in one callback only; nil outside of it.
	callData []byte      // arguments of on_foreign_function, buffer 8
	answer   *callAnswer // that on_http_call_response is called for
	rpc      *grpcView   // that a callback of gRPC is called for

	// Scratch of host functions, and what they keep between calls.
	buf      []byte
	pairs    []abi.Pair
	collect  func(name, value string) bool
	fields   fieldCache
	edits    editCache
	lines    lineCount
	notes    noteCache
	replies  replyCache
	records  recordCache
	counters *counterTable // used last
}

// A vmContext is the context.Context that host functions get, by which they find
// their VM: many instances share the host modules of a plugin.
type vmContext struct {
	context.Context
	v *vm
}

type vmKey struct{}

// Value implements context.Context.
func (c *vmContext) Value(key any) any {
	if _, ok := key.(vmKey); ok {
		return c.v
	}
	return nil // below there is only context.Background
}

func vmOf(ctx context.Context, mod api.Module) *vm {
	if c, ok := ctx.(*vmContext); ok {
		return c.v
	}
	return startingVM(ctx, mod)
}

// startingVM returns the VM whose instance is being made: wazero has wrapped the context,
// and in a start section the VM does not know its memory yet.
func startingVM(ctx context.Context, mod api.Module) *vm {
	v, _ := ctx.Value(vmKey{}).(*vm) // always there: every call passes vm.ctx
	if v.mem == nil {
		v.mem = mod.Memory()
		v.gauge(mod)
	}
	return v
}

// time returns when the call in progress began, or the last one ended.
func (v *vm) time() time.Time { return v.p.h.made.Add(v.clock) }

// deadlineClock is the same on the clock of deadlines.
func (v *vm) deadlineClock() time.Time { return v.p.now(v.time()) }

// newVM makes an instance and runs its start functions.
func (p *Plugin) newVM() (*vm, error) {
	v := &vm{p: p, contexts: map[uint32]*Context{}, roots: map[*Root]*rootContext{}}
	v.ctx = &vmContext{Context: context.Background(), v: v}
	v.collect = func(name, value string) bool {
		v.pairs = append(v.pairs, abi.Pair{Name: name, Value: value})
		return true
	}
	v.timer.wake = make(chan struct{}, 1)
	v.clock = v.p.h.elapsed()
	v.starting = true
	v.meter.slice = mostSlice
	if err := v.instantiate(); err != nil {
		return nil, v.startFailed(err)
	}
	for _, f := range p.start {
		if err := v.callStart(f); err != nil {
			return nil, v.startFailed(err)
		}
	}
	v.starting = false
	v.setBytes(int64(v.mem.Size()))
	return v, nil
}

func (v *vm) instantiate() (err error) {
	defer func() { // wazero panics when the first pages cannot be had
		if r := recover(); r != nil {
			err = fmt.Errorf("no memory for an instance: %v", r)
		}
	}()
	ctx := experimental.WithMemoryAllocator(v.ctx, &v.region)
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	v.startCall(units(v.p.o.Start))
	v.mod, err = v.p.rt.InstantiateModule(ctx, v.p.code, config)
	if err == nil {
		v.mem = v.mod.Memory()
		v.gauge(v.mod)
	}
	if err = v.endCall(err); err != nil {
		return err
	}
	v.functions()
	v.shallow()
	return nil
}

// functions finds the functions that the host calls. Each has a stack of its own.
func (v *vm) functions() {
	for cb, e := range v.p.exports {
		if e.present {
			v.fns[cb] = v.mod.ExportedFunction(e.name)
		}
	}
	v.alloc = v.mod.ExportedFunction(v.p.allocator)
}

// callStart runs a start function. proc_exit(0) in one is its normal end: wazero
// has unwound the guest, and the instance is as good as before.
func (v *vm) callStart(f startFunc) error {
	clear(v.stack[:])
	v.clock = v.p.h.elapsed()
	v.startCall(units(v.p.o.Start))
	err := v.mod.ExportedFunction(f.name).CallWithStack(v.ctx, v.stack[:max(f.params, 1)])
	err = v.endCall(err)
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		err = nil
	}
	if err == nil {
		v.shallow()
	}
	return err
}

// startFailed ends an instance that did not start and returns why as a
// *StartError.
func (v *vm) startFailed(err error) error {
	lines := v.logs.kept()
	if closed := v.closed(err); closed != nil {
		v.close()
		return &StartError{Plugin: v.p.o.Name, Callback: CallStart, Log: lines, Err: closed}
	}
	trap := v.trapError(CallStart, 0, err)
	v.close()
	return &StartError{Plugin: v.p.o.Name, Callback: CallStart, Trap: trap, Log: lines}
}

// close frees the instance. mu is held, or the instance is not shared.
func (v *vm) close() {
	v.book()
	if v.mod != nil {
		_ = v.mod.Close(context.Background()) // frees the memory; nothing else can fail
	}
	v.region.Free() // when instantiation failed half way
	v.mod, v.mem, v.alloc = nil, nil, nil
	v.fns = [callbacks]api.Function{}
	v.bytes.Store(0)
}

// lock locks the VM; it counts the wait for the choice of the least loaded one.
func (v *vm) lock() {
	if !v.mu.TryLock() {
		v.waiting.Add(1)
		v.mu.Lock()
		v.waiting.Add(-1)
	}
	v.clock = v.p.h.elapsed()
}

// unlock lets deferred effects happen and unlocks the VM.
func (v *vm) unlock() {
	v.flushLines()
	v.endSome()
	v.wear()
	if v.retired {
		v.windUp()
	}
	if v.mem != nil {
		if n := int64(v.mem.Size()); n != v.bytes.Load() {
			v.setBytes(n)
		}
	}
	if v.meter.bill > leastBill {
		v.book()
	}
	if cap(v.buf) > keptScratch {
		v.buf = nil
	}
	after := v.after
	v.after = nil
	v.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// setBytes notes how much linear memory v has.
func (v *vm) setBytes(n int64) {
	v.bytes.Store(n)
	for {
		high := v.p.memoryHigh.Load()
		if n <= high || v.p.memoryHigh.CompareAndSwap(high, n) {
			return
		}
	}
}

// call makes an outermost call into the guest. ok is false when the VM is dead
// afterwards; without the callback the result is what its absence means.
func (v *vm) call(c *Context, cb Callback, args ...uint64) (result uint32, ok bool) {
	if v.dead != nil {
		return 0, false
	}
	e, f := v.p.exports[cb], v.fns[cb]
	if f == nil {
		return callbackSpecs[cb].missing, true
	}
	copy(v.stack[:], args)
	v.callback, v.active, v.effective = cb, c, nil
	v.lines.of = nil
	v.startCall(v.p.budget(cb))
	if cb.ownRow() || c.late {
		v.startRow()
	}
	err := f.CallWithStack(v.ctx, v.stack[:max(e.params, e.results)])
	v.active, v.effective = nil, nil
	err = v.endCall(err)
	v.p.work[cb].calls.Add(1)
	v.p.work[cb].fuel.Add(uint64(v.meter.used)) //nolint:gosec // not negative
	v.spend(c, cb)
	if v.meter.deep && err == nil {
		v.shallow()
	}
	if err != nil {
		v.fail(cb, c, err)
		return 0, false
	}
	if v.logs.panic != "" {
		v.logs.calmed()
	}
	if e.results == 0 {
		return callbackSpecs[cb].missing, true
	}
	return api.DecodeU32(v.stack[0]), true
}

// budget is how many units of work a callback may use.
func (p *Plugin) budget(cb Callback) int64 {
	if cb == CallVMStart || cb == CallConfigure {
		return units(p.o.Start)
	}
	return units(p.o.CPU)
}

// spend books the time since the clock was read last.
func (v *vm) spend(c *Context, cb Callback) {
	now := v.p.h.elapsed()
	took := now - v.clock
	v.clock = now
	c.spent += took
	c.fuel += v.meter.used
	if v.p.o.OnCall != nil {
		v.p.o.OnCall(cb, took)
	}
}

// allocate calls the guest's allocator from inside a host function; 0 means that
// the guest has no memory left. A trap in it unwinds the whole guest call.
func (v *vm) allocate(n uint32) uint32 {
	v.allocating = true
	v.allocArg[0] = uint64(n)
	err := v.alloc.CallWithStack(v.ctx, v.allocArg[:])
	v.allocating = false
	if err != nil {
		v.allocFault = err
		panic(guestFault("its allocator failed"))
	}
	return api.DecodeU32(v.allocArg[0])
}

// current returns the context that host functions act on.
func (v *vm) current() *Context {
	if v.effective != nil {
		return v.effective
	}
	return v.active
}

// stream returns the Stream of the current context; nil on a root.
func (v *vm) stream() Stream { return v.current().stream }

// fail ends a VM whose guest has trapped in a callback of c: it is never called
// again, and everybody who has a stream there is told.
func (v *vm) fail(cb Callback, c *Context, err error) {
	if closed := v.closed(err); closed != nil {
		v.die(closed, c)
		return
	}
	trap := v.trapError(cb, c.id, err)
	if t, ok := c.stream.(Teller); ok {
		trap.Route, trap.RequestID = t.Tell()
	}
	v.die(trap, c)
	if v.joined { // one that is still being tried fails with the root
		v.after = append(v.after, func() { v.p.vmDied(v, trap) })
	}
}

// kill ends a VM from outside.
func (v *vm) kill(err error) {
	v.lock()
	if v.dead == nil {
		v.die(err, nil)
	}
	v.unlock()
}

// die marks the VM dead, frees it and tells the streams, except for the one
// that gets the error as a result.
func (v *vm) die(err error, self *Context) {
	v.dead = err
	v.close()
	v.timer.poke()
	v.cancelCalls(nil)
	v.cancelGRPC(nil)
	for _, c := range v.contexts {
		c.unhold(v.p.shared.places)
		if f, ok := c.stream.(Failer); ok && c != self && !c.late {
			f.Failed(err)
		}
		if c.late {
			v.releaseAfter(c.root)
		}
	}
	for r, base := range v.roots {
		v.leaveQueues(base)
		v.goneAfter(r)
	}
	v.contexts, v.roots, v.ended, v.delayed = nil, nil, nil, nil
}

// releaseAfter and goneAfter defer to after mu is unlocked, because a root that is
// drained by it locks every VM.
func (v *vm) releaseAfter(r *Root) { v.after = append(v.after, r.streamEnded) }

func (v *vm) goneAfter(r *Root) { v.after = append(v.after, r.instanceGone) }
