package host

import (
	"maps"
	"slices"
	"time"

	"wproxy/abi"
)

// Memory returns a copy of the memory of the VM that c is bound to.
func (c *Context) Memory() []byte {
	c.vm.lock()
	defer c.vm.unlock()
	b, _ := c.vm.mem.Read(0, c.vm.mem.Size())
	return append([]byte(nil), b...)
}

// ID returns the id that the guest knows c by.
func (c *Context) ID() uint32 { return c.id }

// Backoff is backoff, for tests.
type Backoff = backoff

// NewBackoff returns a backoff between least and most.
func NewBackoff(least, most time.Duration) *Backoff { return &Backoff{least: least, most: most} }

// Failed is backoff.failed.
func (b *Backoff) Failed(now time.Time) time.Duration { return b.failed(now) }

// Died is backoff.died.
func (b *Backoff) Died(now time.Time) time.Duration { return b.died(now) }

// Limits, for tests.
const (
	MaxMetrics       = maxMetrics
	MaxDelayedDone   = maxDelayedDone
	MaxDelayedBytes  = maxDelayedBytes
	MaxLogLine       = maxLogLine
	LogBurst         = logBurst
	KeptLogLines     = keptLogLines
	DelayedDone      = delayedDone
	MaxPropertyBytes = maxPropertyBytes
	MaxCalls         = maxCalls
	MaxCallBytes     = maxCallBytes
	MaxQueues        = maxQueues
	MaxQueueItems    = maxQueueItems
	MaxQueueBytes    = maxQueueBytes
	QueueOverhead    = queueOverhead
	MaxForeignArgs   = maxForeignArgs
	MaxUncompressed  = maxUncompressed
)

// HostFuncNames returns the names of all host functions.
func HostFuncNames() []string {
	var names []string
	for name := range hostFuncs {
		names = append(names, name)
	}
	return names
}

// HostFuncTypes returns the types of a host function.
func HostFuncTypes(name string) []string { return hostFuncs[name].sigs }

// WASINames returns the names and types of all WASI functions.
func WASINames() map[string]string {
	m := map[string]string{}
	for name, f := range wasiFuncs {
		m[name] = f.sig
	}
	return m
}

// Poke writes b into the memory of the plugin's first VM, which grows if it has to.
func (p *Plugin) Poke(at uint32, b []byte) {
	v := p.list()[0]
	v.lock()
	defer v.unlock()
	if end := uint64(at) + uint64(len(b)); end > uint64(v.mem.Size()) {
		v.mem.Grow(uint32((end - uint64(v.mem.Size()) + pageSize - 1) / pageSize))
	}
	if !v.mem.Write(at, b) {
		panic("poke: out of memory")
	}
}

// Peek returns a copy of the beginning of the memory of the plugin's first VM.
func (p *Plugin) Peek() []byte {
	v := p.list()[0]
	v.lock()
	defer v.unlock()
	b, _ := v.mem.Read(0, 2048)
	return append([]byte(nil), b...)
}

// CallbackNames returns the exports of all callbacks that the host makes.
func CallbackNames() []string {
	var names []string
	for _, spec := range callbackSpecs {
		if spec.name != "" {
			names = append(names, spec.name)
		}
	}
	return names
}

// CallBytes returns what the plugin's calls hold.
func (p *Plugin) CallBytes() int64 { return p.callBytes.Load() }

// A Queue is a shared queue that nobody consumes.
type Queue struct{ q *queue }

// NewQueue returns a Queue.
func NewQueue() Queue { return Queue{&queue{store: &sharedStore{}, space: newSharedSpace(0)}} }

// Push is queue.push.
func (q Queue) Push(s string) abi.Status { return q.q.push([]byte(s)) }

// Pop is queue.pop.
func (q Queue) Pop() (string, abi.Status) {
	b, status := q.q.pop()
	return string(b), status
}

// Unpop is queue.unpop.
func (q Queue) Unpop(s string) { q.q.unpop([]byte(s)) }

// Bytes is what the queue holds.
func (q Queue) Bytes() int64 { return q.q.space.queueBytes.Load() }

// Plugins returns how many plugins are loaded.
func (h *Host) Plugins() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.plugins)
}

// HostFunctions returns the names of what guests can import from env.
func HostFunctions() []string { return slices.Sorted(maps.Keys(hostFuncs)) }

// ForeignNames returns the names of all foreign functions.
func ForeignNames() []string {
	var names []string
	for name := range foreignFuncs {
		names = append(names, name)
	}
	return names
}

// Compress is the foreign function without its guest.
func Compress(text string) ([]byte, error) { return compress(text, func(_ int, do func()) { do() }) }

// KeptEdits is how many bytes of edits that are made once only the plugin's first VM keeps.
func (p *Plugin) KeptEdits() int {
	v := p.list()[0]
	v.lock()
	defer v.unlock()
	return len(v.edits.once.args)
}
