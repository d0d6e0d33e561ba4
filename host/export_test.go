package host

import "time"

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
