package host

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"wproxy/abi"
	"wproxy/host/meter"
)

// HostOptions are what all plugins of a process share. The zero value works.
//
//nolint:revive // Options alone would not tell it from PluginOptions.
type HostOptions struct {
	// CacheDir is where compiled machine code is kept between runs. It is
	// executable code: the directory is made with mode 0700, and one that is not
	// a directory of this user with that mode is not used; the cache is then in
	// memory and a log entry says why. "" means in memory.
	CacheDir string

	// Log receives the log lines of guests and what the host has to say about
	// them (traps, restarts, misuse). It may be called from any goroutine, while a
	// VM is locked: it must not block and must not call back. nil drops them.
	Log func(LogEntry)

	// Metrics receives the metrics of guests. nil: they live in the process
	// only, for the guests themselves.
	Metrics MetricSink

	// Caller makes the HTTP calls that guests ask for. nil: none can be made.
	Caller Caller

	// GRPC makes the gRPC calls that guests ask for. nil: none can be made.
	GRPC GRPCCaller

	// Now is the wall clock of guests. nil means time.Now.
	Now func() time.Time

	// SharedBytes bounds the shared data of one vm_id, keys and bookkeeping
	// included; the entries least recently used go first. 0 means 16 MiB.
	SharedBytes int64

	// ManualTicks keeps timers from running: on_tick is called by
	// Plugin.RunTicks alone, with due times by Now, and on_queue_ready by
	// Plugin.RunQueues. For tests of plugins and for
	// checks of a configuration.
	ManualTicks bool

	// Rewritten keeps rewritten modules for hosts that load the same ones. nil: each load rewrites.
	// For tests, which make a host each.
	Rewritten *meter.Cache

	// Without has names of foreign functions that are not there, as on another host. For
	// tests of what plugins do then.
	Without []string
}

// A LogEntry is one line for the log.
type LogEntry struct {
	Time    time.Time
	Plugin  string // name of the plugin; "" for the host itself
	Level   abi.LogLevel
	Context uint32 // id of the context whose callback was running; 0: none
	Guest   bool   // the guest's own line, as opposed to the host's about it
	Message string
	Trap    *TrapError // set on the entry about a trap
}

// A MetricSink makes metrics visible outside. Its methods are called while a VM
// is locked and must not block. The host calls Metric once per plugin name, name
// and kind, and bounds how many there are.
type MetricSink interface {
	// Metric returns the metric that a guest calls name. name is as the guest
	// wrote it: "name;key=value;key=value" has labels. nil: not exported.
	Metric(plugin, name string, kind abi.MetricKind) Metric
}

// A Metric is one metric of a guest. route is the name of the route whose
// exchange the guest was working for, "" outside of one; it is borrowed, and so is
// what a label called route may be filled from.
type Metric interface {
	Add(delta int64, route string)    // counter (delta > 0) or gauge
	Set(value int64, route string)    // gauge
	Sample(value int64, route string) // histogram
}

// HeadersPause is what Pause, returned by a headers callback, holds back.
type HeadersPause uint8

// Meanings of Pause in a headers callback.
const (
	HeadersPauseDefault HeadersPause = iota // by the marker: 0.2.100 hold, others stop-all
	HeadersPauseStopAll                     // everything; no body callbacks meanwhile
	HeadersPauseHold                        // the head only; body callbacks go on
)

// PluginOptions say how one plugin is run. They do not change afterwards.
type PluginOptions struct {
	Name     string            // in logs, metrics and the property plugin_name; required
	VMID     string            // namespace of shared data and queues; "" means Name
	RootID   string            // property plugin_root_id; which of its plugins a binary runs
	VMConfig []byte            // VM configuration, buffer 6
	Env      map[string]string // the guest's environment; nothing else is in it
	LogLevel abi.LogLevel      // lines below are dropped; what proxy_get_log_level tells

	// Grants is what the plugin may use beyond its own stream, a set: GrantLog and so
	// on, and GrantCall with the name of an upstream. nil means DefaultGrants, and
	// GrantEnv if there is an Env; an empty list means nothing.
	Grants []string

	// Memory is the most linear memory of one instance, in bytes, rounded up to
	// pages of 64 KiB. 0 means 64 MiB; at most 4 GiB.
	Memory int64

	// CPU is how much work one callback may do, and Start how much one of on_vm_start,
	// on_configure, a start function or a start section may. It is counted in units of
	// work, of which a microsecond has a fixed number, and not in time: waiting costs
	// nothing, and a call costs the same on every machine. Beyond it the call traps.
	// 0 means 10ms and 10s; at least 100µs.
	CPU, Start time.Duration

	// Stack is how deep calls of the guest's functions may go, in bytes of stack,
	// as the functions are taken to need; beyond it the call traps. 0 means 1 MiB; 64
	// KiB to 16 MiB.
	Stack int64

	// Instances is how many VMs there are at most. 0 means GOMAXPROCS. One is
	// started with the first root, others when callbacks find all busy.
	Instances int

	// RestartMin and RestartMax bound the time between replacements of VMs that
	// died. Five a minute come at once; beyond that the next one comes RestartMin
	// later, then twice as long each time up to RestartMax, until a minute has been
	// quiet. A VM that does not start is tried again after RestartMin at the
	// earliest. 0 means 1s and 30s.
	RestartMin, RestartMax time.Duration

	// RecycleRequests and RecycleMemory have a VM replaced when it has been given so
	// many streams, or its linear memory has grown to so many bytes: another one is
	// started, and it serves out the streams that it has. 0: never.
	RecycleRequests int64
	RecycleMemory   int64

	// HeadersPause overrides what the plugin's ABI version means by Pause.
	HeadersPause HeadersPause

	// OnCall, if set, is told how long each outermost callback took. It is
	// called while the VM is locked and must not block.
	OnCall func(Callback, time.Duration)

	// OnCallout, if set, is told what has become of each call to an upstream that
	// the plugin was granted. It is called from any goroutine, maybe while a VM is
	// locked, and must not block.
	OnCallout func(upstream string, o CallOutcome)

	// OnFuel, if set, is told of the units of work that guests have done, in
	// portions of ten microseconds and more; 6,000 units are a microsecond of CPU. It
	// is called like OnCall.
	OnFuel func(units int64)
}

const (
	defaultMemory     = 64 << 20
	maxMemory         = 4 << 30 // the address space of 32-bit wasm
	defaultCPU        = 10 * time.Millisecond
	defaultStart      = 10 * time.Second
	minCPU            = 100 * time.Microsecond // some slices
	maxCPU            = time.Hour
	defaultStack      = 1 << 20
	minStack          = 64 << 10 // what every instance starts with
	maxStack          = 16 << 20 // far below where wazero ends calls by itself
	maxInstances      = 1024     // far above any machine's use; each reserves Memory of address space
	defaultRestartMin = time.Second
	defaultRestartMax = 30 * time.Second
)

// Validate reports the first option that is out of its range.
func (opts *PluginOptions) Validate() error {
	switch {
	case opts.Name == "":
		return fmt.Errorf("host: plugin without a name")
	case opts.Memory < 0 || opts.Memory > maxMemory:
		return fmt.Errorf("host: plugin %s: memory %d: want 0 to %d bytes", opts.Name, opts.Memory, int64(maxMemory))
	case opts.CPU != 0 && (opts.CPU < minCPU || opts.CPU > maxCPU):
		return fmt.Errorf("host: plugin %s: CPU %v: want %v to %v", opts.Name, opts.CPU, minCPU, maxCPU)
	case opts.Start != 0 && (opts.Start < minCPU || opts.Start > maxCPU):
		return fmt.Errorf("host: plugin %s: start %v: want %v to %v", opts.Name, opts.Start, minCPU, maxCPU)
	case opts.Stack != 0 && (opts.Stack < minStack || opts.Stack > maxStack):
		return fmt.Errorf("host: plugin %s: stack %d: want %d to %d bytes", opts.Name, opts.Stack, minStack, maxStack)
	case opts.Instances < 0 || opts.Instances > maxInstances:
		return fmt.Errorf("host: plugin %s: instances %d: want 0 to %d", opts.Name, opts.Instances, maxInstances)
	case opts.RestartMin < 0 || opts.RestartMax < 0:
		return fmt.Errorf("host: plugin %s: restart %v..%v: want no negative time", opts.Name, opts.RestartMin, opts.RestartMax)
	case opts.RecycleRequests < 0 || opts.RecycleMemory < 0:
		return fmt.Errorf("host: plugin %s: recycle after %d requests, %d bytes: want no negative number", opts.Name, opts.RecycleRequests, opts.RecycleMemory)
	case !opts.LogLevel.Known():
		return fmt.Errorf("host: plugin %s: log level %d: want 0 to %d", opts.Name, opts.LogLevel, abi.LogCritical)
	case opts.HeadersPause > HeadersPauseHold:
		return fmt.Errorf("host: plugin %s: headers pause %d: want 0 to %d", opts.Name, opts.HeadersPause, HeadersPauseHold)
	}
	for _, g := range opts.Grants {
		if err := checkGrant(g); err != nil {
			return fmt.Errorf("host: plugin %s: %w", opts.Name, err)
		}
	}
	for k, v := range opts.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return fmt.Errorf("host: plugin %s: environment variable %q: a name without = and NUL and a value without NUL are needed", opts.Name, k)
		}
	}
	return nil
}

// withDefaults returns a copy of o with defaults filled in.
func (opts *PluginOptions) withDefaults() PluginOptions {
	o := *opts
	if o.VMID == "" {
		o.VMID = o.Name
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.CPU == 0 {
		o.CPU = defaultCPU
	}
	if o.Start == 0 {
		o.Start = defaultStart
	}
	if o.Stack == 0 {
		o.Stack = defaultStack
	}
	if o.Instances == 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	if o.RestartMin == 0 {
		o.RestartMin = defaultRestartMin
	}
	if o.RestartMax == 0 {
		o.RestartMax = defaultRestartMax
	}
	o.RestartMax = max(o.RestartMax, o.RestartMin)
	o.VMConfig = slices.Clone(o.VMConfig)
	o.Env = maps.Clone(o.Env)
	o.Grants = slices.Clone(o.Grants)
	return o
}
