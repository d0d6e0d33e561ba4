package host

import "context"

// A Host runs plugins. Its methods are safe for concurrent use.
type Host struct{}

// NewHost returns a Host without plugins. It fails only when o cannot be met; a
// cache directory that cannot be used is no error (HostOptions.CacheDir).
func NewHost(o HostOptions) (*Host, error) { panic("todo") }

// Close ends all plugins at once, without further callbacks, and returns when
// every goroutine of the host has ended. Streams that are still open get a
// *ClosedError from their next callback. Closing again has no effect.
func (h *Host) Close() error { panic("todo") }

// Load compiles a module and checks that it can run here: ABI marker, allocator,
// memory, imports with their types, types of the callbacks. No code of it runs
// yet. The error of a module that is refused is a *LoadError, with all problems in
// one list. wasm is not kept.
func (h *Host) Load(ctx context.Context, wasm []byte, o PluginOptions) (*Plugin, error) {
	panic("todo")
}
