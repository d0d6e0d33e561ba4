package host

import (
	"context"

	"wproxy/abi"
)

// A Plugin is a compiled module and the VMs that run it. Its methods are safe for
// concurrent use.
type Plugin struct{}

// Callbacks says which stream callbacks a guest exports. One that it does not
// export is never called, and the Context method answers Continue at no cost.
type Callbacks struct {
	RequestHeaders, RequestBody, RequestTrailers    bool
	ResponseHeaders, ResponseBody, ResponseTrailers bool
	NewConnection, DownstreamData, UpstreamData     bool
}

// A Stats is a reading of a plugin's counters.
type Stats struct {
	Instances   int              // VMs alive
	MemoryBytes int64            // linear memory of all of them
	Streams     int              // contexts bound to a VM
	Traps       map[Cause]uint64 // VMs that died, by cause
	Restarts    uint64           // VMs started in place of dead ones
	Waits       uint64           // callbacks that found all VMs busy
	Misuse      uint64           // host calls answered with a status that means a mistake of the guest
	LogDropped  uint64           // log lines over the rate
}

// Name returns PluginOptions.Name.
func (p *Plugin) Name() string { panic("todo") }

// Version returns the ABI version that the module's marker announces.
func (p *Plugin) Version() abi.Version { panic("todo") }

// Callbacks returns which callbacks the guest exports.
func (p *Plugin) Callbacks() Callbacks { panic("todo") }

// HeadersPause returns what Pause in a headers callback means for this plugin;
// never HeadersPauseDefault.
func (p *Plugin) HeadersPause() HeadersPause { panic("todo") }

// Stats returns a reading of the plugin's counters.
func (p *Plugin) Stats() Stats { panic("todo") }

// RunTicks calls on_tick of every root context whose time has come by
// HostOptions.Now, once each, on the caller's goroutine, and returns how many
// there were. It does nothing without HostOptions.ManualTicks.
func (p *Plugin) RunTicks() int { panic("todo") }

// Close lets go of the plugin: no new roots. When the last root has been closed
// and drained, the VMs and the compiled code are freed; Host.Close waits for that
// and does not wait for streams. Closing again has no effect.
func (p *Plugin) Close() { panic("todo") }

// NewRoot starts a root context with a configuration (on_context_create,
// on_vm_start, on_configure), first in a spare VM: code that has not been tried
// with these settings never runs in a VM that serves streams. When that went well
// the spare VM joins the pool if there is room, and the root is started in the
// VMs there are. The error is a *StartError with the plugin's last log lines, a
// *ClosedError, or ctx's. The Root has one reference, the caller's. config is
// copied.
func (p *Plugin) NewRoot(ctx context.Context, config []byte) (*Root, error) { panic("todo") }

// A Root is a plugin with one configuration, present in every VM of the plugin.
// Its methods are safe for concurrent use.
type Root struct{}

// Plugin returns the plugin that r belongs to.
func (r *Root) Plugin() *Plugin { panic("todo") }

// Retain adds a reference and returns r: whoever keeps a Root across a reload
// holds a reference of its own and ends it with Close.
func (r *Root) Retain() *Root { panic("todo") }

// Close ends one reference. After the last one no new streams can be opened; in
// each VM the root is drained when its last stream has ended (on_done, proxy_done,
// on_delete). Close does not wait for streams.
func (r *Root) Close() { panic("todo") }

// Open makes c the context of a new stream of r. Nothing is called yet: the
// stream is bound to a VM, and on_context_create called, by the first callback that
// the guest exports. c must be zero or finished; it belongs to the host until
// Finish has returned and must not be copied or moved. The error is a
// *ClosedError.
func (r *Root) Open(c *Context, s Stream) error { panic("todo") }
