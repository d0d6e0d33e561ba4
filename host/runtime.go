package host

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wproxy/abi"
	"wproxy/host/meter"
)

// A Host runs plugins. Its methods are safe for concurrent use.
type Host struct {
	// Immutable.
	o      HostOptions
	born   time.Time // where the guests' monotonic clock starts
	made   time.Time // the same on the process's own clock
	shared sharedStore

	clockBase atomic.Int64 // of the clock of counters
	frozen    atomic.Int64 // what it shows for ever; 0: it goes

	disk   wazero.CompilationCache // nil: no usable directory
	memory wazero.CompilationCache // for all plugins without disk, or when it fails

	level atomic.Int32 // abi.LogLevel; see SetLogLevel
	slow  slowSlots

	wg sync.WaitGroup // every goroutine of the host, and every Load

	// Guarded by mu, which is a leaf lock.
	mu      sync.Mutex
	closed  bool
	plugins map[*Plugin]struct{}
	metrics map[string]*metricSet // by the name of open plugins

	adopted []string // vm_ids that AdoptFirst has brought; of who starts the process
}

// NewHost returns a Host without plugins. It fails only when o cannot be met; a
// cache directory that cannot be used is no error (HostOptions.CacheDir).
func NewHost(o HostOptions) (*Host, error) {
	if o.SharedBytes < 0 {
		return nil, fmt.Errorf("host: shared data of %d bytes: want no negative number", o.SharedBytes)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SharedBytes == 0 {
		o.SharedBytes = defaultSharedBytes
	}
	h := &Host{
		o:       o,
		made:    time.Now(),
		memory:  wazero.NewCompilationCache(),
		plugins: map[*Plugin]struct{}{},
		metrics: map[string]*metricSet{},
	}
	h.born = h.made
	if o.ManualTicks {
		h.born = o.Now()
	}
	h.shared.limit = o.SharedBytes
	if !o.ManualTicks {
		h.shared.spawn = h.spawn
	}
	if o.CacheDir != "" {
		cache, err := openCache(o.CacheDir)
		if err != nil {
			h.log("", abi.LogWarn, fmt.Sprintf("compiled plugins are cached in memory only: %v", err))
		}
		h.disk = cache
	}
	return h, nil
}

// elapsed returns how long the host has been there. It is what durations are measured
// with: it reads one clock of the system, and time.Now reads two.
func (h *Host) elapsed() time.Duration { return time.Since(h.made) }

// openCache returns the cache in dir. What is in there runs as machine code of this
// process, so nobody else may be able to write to it.
func openCache(dir string) (wazero.CompilationCache, error) {
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	return wazero.NewCompilationCacheWithDir(dir)
}

// Close ends all plugins at once, without further callbacks, and returns when
// every goroutine of the host has ended; a guest that is running is ended at its next
// refill. Streams that are still open get a
// *ClosedError from their next callback. Closing again has no effect.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	plugins := make([]*Plugin, 0, len(h.plugins))
	for p := range h.plugins {
		plugins = append(plugins, p)
	}
	h.mu.Unlock()
	for _, p := range plugins {
		p.shut()
		p.free()
	}
	h.wg.Wait()
	ctx := context.Background()
	err := h.memory.Close(ctx)
	if h.disk != nil {
		if e := h.disk.Close(ctx); err == nil {
			err = e
		}
	}
	return err
}

// spawn runs f on a goroutine that Close waits for; f must end soon after the
// plugin it works for has been shut. It reports false, and runs nothing, when the
// host is closed.
func (h *Host) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Go(f) // waited for by Close
	return true
}

// begin keeps Close from going on until wg.Done; false when the host is closed.
func (h *Host) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.wg.Add(1)
	}
	return !h.closed
}

// log writes a line of the host's own.
func (h *Host) log(plugin string, level abi.LogLevel, message string) {
	h.logEntry(LogEntry{Plugin: plugin, Level: level, Message: message})
}

func (h *Host) logEntry(e LogEntry) {
	if h.o.Log != nil {
		e.Time = h.o.Now()
		h.o.Log(e)
	}
}

// Load compiles a module and checks that it can run here: ABI marker, allocator,
// memory, imports with their types, types of the callbacks. No code of it runs
// yet. The error of a module that is refused is a *LoadError, with all problems in
// one list. wasm is not kept.
func (h *Host) Load(ctx context.Context, wasm []byte, o PluginOptions) (*Plugin, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if !h.begin() {
		return nil, &ClosedError{Plugin: o.Name}
	}
	defer h.wg.Done()
	p := newPlugin(h, o.withDefaults())
	if err := p.load(ctx, wasm); err != nil {
		p.discard()
		return nil, err
	}
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.plugins[p] = struct{}{}
		h.useMetricsLocked(p)
	}
	h.mu.Unlock()
	if closed {
		p.discard()
		return nil, &ClosedError{Plugin: o.Name}
	}
	p.shared = h.shared.acquire(p.o.VMID)
	return p, nil
}

// load compiles wasm and prepares everything that instances share.
func (p *Plugin) load(ctx context.Context, wasm []byte) error {
	refuse := func(format string, args ...any) error {
		return &LoadError{Plugin: p.o.Name, Problems: []string{shownText(fmt.Sprintf(format, args...))}}
	}
	rewrite := meter.Rewrite
	if c := p.h.o.Rewritten; c != nil {
		rewrite = c.Rewrite
	}
	metered, info, err := rewrite(wasm, meter.Options{})
	if err != nil {
		return refuse("%v", err)
	}
	if limit := uint64(p.memoryPages()); info.MinPages > limit {
		return refuse("the module declares %d pages (%d MiB) of memory, its limit is %d pages (%d MiB): raise sandbox.memory",
			info.MinPages, info.MinPages/16, limit, limit/16)
	}
	if err := p.compile(ctx, metered); err != nil {
		return refuse("the module does not compile: %v", err)
	}
	if problems := p.check(info); len(problems) > 0 {
		return &LoadError{Plugin: p.o.Name, Problems: problems}
	}
	return p.link(ctx)
}

// compile turns the bytes of a module, which has been rewritten to count its work, into
// machine code, on a runtime of the plugin's own. The cache goes by the bytes, so code
// made by another version of the rewriting is not found in it.
func (p *Plugin) compile(ctx context.Context, wasm []byte) error {
	caches := []wazero.CompilationCache{p.h.memory}
	if p.h.disk != nil {
		caches = []wazero.CompilationCache{p.h.disk, p.h.memory}
	}
	var first error
	for _, cache := range caches {
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
			WithCoreFeatures(api.CoreFeaturesV2).
			WithCompilationCache(cache).
			WithMemoryLimitPages(p.memoryPages()).
			WithDebugInfoEnabled(false)) // offsets are wrong once a module is rewritten; names are kept
		code, err := rt.CompileModule(ctx, wasm)
		if err == nil {
			p.rt, p.code = rt, code
			if first != nil {
				p.h.log(p.o.Name, abi.LogWarn, fmt.Sprintf("compiled without the cache on disk: %v", first))
			}
			return nil
		}
		_ = rt.Close(ctx) // nothing is instantiated
		if first == nil {
			first = err
		}
	}
	return first
}

// memoryPages is the cap of one instance's memory.
func (p *Plugin) memoryPages() uint32 {
	return uint32(min((p.o.Memory+pageSize-1)/pageSize, maxPages))
}
