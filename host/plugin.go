package host

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"wproxy/abi"
)

// A Plugin is a compiled module and the VMs that run it. Its methods are safe for
// concurrent use.
type Plugin struct {
	// Immutable after Load.
	h         *Host
	o         PluginOptions
	env       []string // "NAME=value", sorted
	rt        wazero.Runtime
	code      wazero.CompiledModule
	version   abi.Version
	exports   [callbacks]guestExport
	imports   []importedFunc
	grants    grantSet
	denied    []DeniedImport
	unknown   []string // see Unknown
	start     []startFunc
	slots     bool // the guest has abi.ExportStreamSlots
	allocator string
	metrics   *metricSet
	kinds     metricKinds
	shared    *sharedSpace
	lines     lineRate

	vms                              atomic.Pointer[[]*vm] // replaced as a whole under mu
	waits, misuse, dropped, restarts atomic.Uint64
	recycled, fuel                   atomic.Uint64
	work                             [callbacks]workCount
	memoryHigh                       atomic.Int64 // of one VM

	calls     atomic.Int64 // HTTP and gRPC calls under way
	callBytes atomic.Int64 // that they hold

	stop     chan struct{} // closed by shut
	freeOnce sync.Once

	// startMu serialises the starting of VMs and roots. It is taken before any
	// VM's lock and before mu.
	startMu sync.Mutex

	// Guarded by mu, which is a leaf lock.
	mu          sync.Mutex
	closing     bool      // Close was called: no new roots
	stopped     bool      // no more VMs
	maintaining bool      // runMaintain is running
	want        int       // VMs there shall be
	worn        []*vm     // of the pool, that wait for their replacement (recycle.go)
	retired     []*vm     // out of the pool, that serve out their streams
	recycledAt  time.Time // when a replacement came last
	roots       map[*Root]struct{}
	lastErr     error // why the last VM died or did not start
	crash       backoff
	traps       map[Cause]uint64
	warnedAt    time.Time // when Warn wrote a line last
	muted       int       // calls of Warn since that wrote none
}

// Callbacks says which stream callbacks a guest exports. One that it does not
// export is never called, and the Context method answers Continue at no cost.
type Callbacks struct {
	RequestHeaders, RequestBody, RequestTrailers    bool
	ResponseHeaders, ResponseBody, ResponseTrailers bool
	NewConnection, DownstreamData, UpstreamData     bool
	DownstreamClose, UpstreamClose                  bool

	// End: on_context_create, on_done, on_log or on_delete. Context.Finish makes
	// them, also for a stream of which the guest was told nothing else.
	End bool
}

// A Stats is a reading of a plugin's counters.
type Stats struct {
	Instances   int               // VMs alive, with those that serve out their streams
	MemoryBytes int64             // linear memory of all of them
	MemoryHigh  int64             // the most that one of them, or of those before, had
	Streams     int               // contexts bound to a VM
	Fuel        uint64            // units of work of all calls; 6,000 are a microsecond of PluginOptions.CPU
	Work        map[Callback]Work // what the calls of each callback have done; those that there were none of are not there
	Traps       map[Cause]uint64  // VMs that died, by cause
	Restarts    uint64            // VMs started after the first crash
	Recycled    uint64            // VMs replaced while they were alive
	Waits       uint64            // streams that found all VMs busy when they were bound
	Misuse      uint64            // host calls answered with BadArgument or InvalidMemoryAccess
	LogDropped  uint64            // log lines over the rate
	Calls       int               // HTTP and gRPC calls under way
	SharedBytes int64             // shared data of the plugin's vm_id
	Evicted     uint64            // entries of it that had to go for others
	QueueBytes  int64             // in shared queues of the plugin's vm_id
	QueueFull   uint64            // items that found no room in them
}

// Work is what the calls of one callback have done.
type Work struct {
	Calls uint64 // that have ended
	Fuel  uint64 // their units of work, as in Stats.Fuel
}

type workCount struct{ calls, fuel atomic.Uint64 }

func newPlugin(h *Host, o PluginOptions) *Plugin {
	p := &Plugin{
		h: h, o: o,
		stop:  make(chan struct{}),
		roots: map[*Root]struct{}{},
		traps: map[Cause]uint64{},
		crash: backoff{least: o.RestartMin, most: o.RestartMax},

		grants: grantSetOf(&o),
	}
	if !p.grants.has(GrantEnv) {
		return p
	}
	for _, k := range slices.Sorted(maps.Keys(o.Env)) {
		p.env = append(p.env, k+"="+o.Env[k])
	}
	return p
}

// Name returns PluginOptions.Name.
func (p *Plugin) Name() string { return p.o.Name }

// VMID returns the namespace of what the plugin shares, as its options have it.
func (p *Plugin) VMID() string { return p.o.VMID }

// Version returns the ABI version that the module's marker announces.
func (p *Plugin) Version() abi.Version { return p.version }

// Callbacks returns which callbacks the guest exports.
func (p *Plugin) Callbacks() Callbacks { return p.callbacks(0) }

// callbacks is Callbacks without those of a set.
func (p *Plugin) callbacks(without callbackSet) Callbacks {
	has := func(cb Callback) bool { return p.exports[cb].present && !without.has(cb) }
	return Callbacks{
		RequestHeaders: has(CallRequestHeaders), RequestBody: has(CallRequestBody), RequestTrailers: has(CallRequestTrailers),
		ResponseHeaders: has(CallResponseHeaders), ResponseBody: has(CallResponseBody), ResponseTrailers: has(CallResponseTrailers),
		NewConnection: has(CallNewConnection), DownstreamData: has(CallDownstreamData), UpstreamData: has(CallUpstreamData),
		DownstreamClose: has(CallDownstreamClose), UpstreamClose: has(CallUpstreamClose),
		End: p.watchesEnd(),
	}
}

// HeadersPause returns what Pause in a headers callback means for this plugin;
// never HeadersPauseDefault.
func (p *Plugin) HeadersPause() HeadersPause {
	switch {
	case p.o.HeadersPause != HeadersPauseDefault:
		return p.o.HeadersPause
	case p.version == abi.VersionHigress:
		return HeadersPauseHold
	}
	return HeadersPauseStopAll
}

// Stats returns a reading of the plugin's counters.
func (p *Plugin) Stats() Stats {
	s := Stats{
		Calls: int(p.calls.Load()), Waits: p.waits.Load(), Misuse: p.misuse.Load(), LogDropped: p.dropped.Load(),
		Restarts: p.restarts.Load(), Recycled: p.recycled.Load(), Fuel: p.fuel.Load(),
	}
	s.MemoryHigh = p.memoryHigh.Load()
	s.Work = map[Callback]Work{}
	for cb := range p.work {
		if n := p.work[cb].calls.Load(); n > 0 {
			s.Work[Callback(cb)] = Work{n, p.work[cb].fuel.Load()}
		}
	}
	for _, v := range p.all() {
		s.Instances++
		s.MemoryBytes += v.bytes.Load()
		s.Streams += int(v.bound.Load())
	}
	s.SharedBytes, s.Evicted = p.shared.stats()
	s.QueueBytes, s.QueueFull = p.shared.queueBytes.Load(), p.shared.full.Load()
	p.mu.Lock()
	s.Traps = maps.Clone(p.traps)
	p.mu.Unlock()
	return s
}

// RunTicks calls on_tick of every root context whose time has come by
// HostOptions.Now, once each, on the caller's goroutine, and returns how many
// there were. It does nothing without HostOptions.ManualTicks.
func (p *Plugin) RunTicks() int {
	if !p.h.o.ManualTicks {
		return 0
	}
	n := 0
	for _, v := range p.all() {
		v.lock()
		n += v.runDue(p.h.o.Now())
		v.unlock()
	}
	return n
}

// now is the clock of deadlines: the monotonic one, read as mono, or that of tests.
func (p *Plugin) now(mono time.Time) time.Time {
	if p.h.o.ManualTicks {
		return p.h.o.Now()
	}
	return mono
}

// Close lets go of the plugin: no new roots. When the last root has been closed
// and drained, the VMs and the compiled code are freed; Host.Close waits for that
// and does not wait for streams. Closing again has no effect.
func (p *Plugin) Close() {
	p.mu.Lock()
	again := p.closing
	p.closing = true
	idle := len(p.roots) == 0
	p.mu.Unlock()
	if !again {
		p.closeMetrics()
	}
	if idle {
		p.free()
	}
}

// shut ends the plugin's goroutines and lets no new ones start.
func (p *Plugin) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	if !p.stopped {
		p.stopped = true
		close(p.stop)
	}
}

// free ends all VMs and gives back what the plugin holds. The compiled module is
// closed explicitly and first: with a shared cache, closing the runtime alone
// leaks the machine code.
func (p *Plugin) free() {
	p.freeOnce.Do(func() {
		p.shut()
		p.startMu.Lock() // nothing is being started
		defer p.startMu.Unlock()
		for _, v := range p.all() {
			v.kill(&ClosedError{Plugin: p.o.Name})
		}
		p.vms.Store(nil)
		p.discard()
		p.h.shared.release(p.o.VMID)
		p.h.mu.Lock()
		delete(p.h.plugins, p)
		p.h.mu.Unlock()
	})
}

// discard closes what compile has opened.
func (p *Plugin) discard() {
	ctx := context.Background()
	if p.code != nil {
		_ = p.code.Close(ctx) // cannot fail
		_ = p.rt.Close(ctx)   // closes host modules, which cannot fail
	}
}

func (p *Plugin) warnf(format string, args ...any) {
	p.h.log(p.o.Name, abi.LogWarn, fmt.Sprintf(format, args...))
}

// Warn logs what an exchange has to say about the plugin. As every exchange may say
// the same, there is one line in warnEvery; it tells how many there would have been.
func (p *Plugin) Warn(message string) {
	now := time.Now()
	p.mu.Lock()
	if !p.warnedAt.IsZero() && now.Sub(p.warnedAt) < warnEvery {
		p.muted++
		p.mu.Unlock()
		return
	}
	muted := p.muted
	p.warnedAt, p.muted = now, 0
	p.mu.Unlock()
	if muted > 0 {
		message = fmt.Sprintf("%s (and %d such lines before)", message, muted)
	}
	p.h.log(p.o.Name, abi.LogWarn, message)
}

func (p *Plugin) logTrap(t *TrapError) {
	p.h.logEntry(LogEntry{Plugin: p.o.Name, Level: abi.LogError, Context: t.Context, Message: t.Error(), Trap: t})
}
