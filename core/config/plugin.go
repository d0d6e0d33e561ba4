package config

import "time"

// A Plugin is a Proxy-Wasm module with its settings. It is named once and used
// by name.
type Plugin struct {
	// Name is the name of the table: a metric label and a log field.
	Name string `toml:"-"`
	// Pos is where the table begins.
	Pos Pos `toml:"-" hash:"-"`
	// Hash changes when, and only when, a setting changes. It does not cover
	// the content of the .wasm.
	Hash Hash `toml:"-" hash:"-"`

	// Wasm as written: "builtin:NAME", or a path relative to the file that
	// names it. Required.
	Wasm string `toml:"wasm"`
	// Builtin is NAME of "builtin:NAME", or "".
	Builtin string `toml:"-"`
	// Path is the .wasm file, resolved; "" for a built-in.
	Path string `toml:"-"`

	// Config is handed to the guest at on_configure: a table as JSON, with a
	// route's `with` laid over it, and a string as it is, which no `with` can
	// change. It is nil, a map[string]any, a string or a [Value]; see [Raw].
	Config any `toml:"config"`
	// RootID is the guest's root_id. Default "".
	RootID string `toml:"root_id"`
	// VMID is the namespace of shared data and queues. Default: the plugin's name.
	VMID string `toml:"vm_id"`
	// VMConfig is handed to the guest at on_vm_start: a string as it is, a
	// table as JSON.
	VMConfig any `toml:"vm_config"`
	// Env is the environment that the guest sees.
	Env map[string]Value `toml:"env"`
	// Kind: "http" (default), for the `use` of routes; "tcp", for the `use` of routes whose
	// listeners speak TCP; or "service": it has no part in either and runs by itself.
	Kind string `toml:"kind" default:"http" oneof:"http|tcp|service"`
	// Grant is what the guest may use beyond its own stream. nil (absent): log,
	// metrics and shared-data, what a built-in needs, and env if Env is set.
	Grant []string `toml:"grant" oneof:"log|metrics|shared-data|queue|env|counters|objects|call:UPSTREAM|upstream:UPSTREAM"`
	// Sandbox is its sandbox, over the defaults of [sandbox].
	Sandbox Sandbox `toml:"sandbox"`
}

// A Sandbox bounds what a plugin may take.
type Sandbox struct {
	// Memory is the cap of one instance's linear memory. Default 64MiB, built-ins 16MiB.
	Memory Size `toml:"memory" default:"64MiB" range:"64KiB..4GiB"`
	// CPU is the work that one callback may do, in time as it takes on the machine
	// that units of work were measured on. Default 10ms.
	CPU time.Duration `toml:"cpu" default:"10ms" range:"100us..1h"`
	// Start is the same for start functions, on_vm_start and on_configure. Default 10s.
	Start time.Duration `toml:"start" default:"10s" range:"100us..1h"`
	// Stack is how deep calls of the guest's functions may go. Default 1MiB.
	Stack Size `toml:"stack" default:"1MiB" range:"64KiB..16MiB"`
	// OnError: "close" (default) answers 503 plugin_failed:NAME when the guest
	// fails; "open" goes on without the plugin.
	OnError string `toml:"on_error" default:"close" oneof:"close|open"`
	// Instances is the most VMs; 0, the default: as many as threads.
	Instances int `toml:"instances" default:"0" range:"0..1024"`
	// Restart is the back-off between replacements of a crashing VM. Default 1s..30s.
	Restart Backoff `toml:"restart" default:"1s..30s"`
	// HeadersPause is what Pause in a headers callback holds: "stop-all"
	// everything, "hold" the head only. "" (default): stop-all, except for
	// guests marked 0_2_100.
	HeadersPause string `toml:"headers_pause" oneof:"stop-all|hold"`
	// BodyBuffer is the most bytes that a paused message may hold back. Default 1MiB.
	BodyBuffer Size `toml:"body_buffer" default:"1MiB" range:"0..1GiB"`
	// Pause is the longest pause; 0, the default: the route's timeout.
	Pause time.Duration `toml:"pause" default:"0" range:"0..24h"`
	// Recycle says when a VM is replaced that has not failed. Default: never.
	Recycle Recycle `toml:"recycle"`
}

// Recycle says when a VM has served for long enough. The streams that it has are served
// to their end.
type Recycle struct {
	// Requests is after how many; 0, the default: never.
	Requests int `toml:"requests" default:"0" range:"0..1000000000"`
	// Memory is above how much linear memory; 0, the default: never.
	Memory Size `toml:"memory" default:"0" range:"0..4GiB"`
}

// A Backoff is a growing wait, written "1s..30s".
type Backoff struct {
	// Min is the first wait.
	Min time.Duration
	// Max is where it stops growing.
	Max time.Duration
}
