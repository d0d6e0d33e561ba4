// Package host runs Proxy-Wasm guests on wazero, safely: whatever a plugin does, the
// memory, correctness and latency of others do not change, and the stream it was
// called for gets a clear answer.
//
// A Host is the process's; a Plugin is a compiled module with a bounded pool of
// instances (VMs) on a wazero runtime of its own; a Root is the plugin with one
// configuration, present in every VM; a Context is the guest's view of one stream,
// bound to one VM for its life. The one rule of use: a Stream's methods run under the
// VM's lock, which is a leaf lock; they touch state and mark, and everything that can
// block or push happens after the callback has returned.
//
// The package knows no socket, no codec and no route: what it needs from outside is
// in stream.go. What a guest can make it hold or do is bounded in limits.go: modules are
// rewritten to count their work (package meter), and fuel.go says how much is too much.
package host
