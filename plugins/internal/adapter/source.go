// Package adapter makes a plugin written for the Go SDK
// github.com/tetratelabs/proxy-wasm-go-sdk v0.24.0 a Proxy-Wasm guest under the
// standard Go toolchain (GOOS=wasip1 GOARCH=wasm -buildmode=c-shared). The SDK was
// made for TinyGo: its host functions exist only under that compiler's build tag
// and its callbacks are `//export` comments that the standard compiler ignores.
//
// Nobody imports the package to run it. `wproxy plugin build` copies its text into
// the build of a plugin with -overlay, in a directory that exists only there, so a
// plugin compiles unmodified and does not depend on wproxy's module. The files
// are ordinary Go all the same, vetted with GOOS=wasip1, in the language of Go 1.18
// because they are compiled as a part of the plugin's module, and the only source of
// the adapter: Files is what is injected.
//
// What it owns, in a guest: the host functions behind the SDK's interface
// (hostcalls.go), the exported callbacks (exports.go), the allocator (memory.go),
// the stream contexts of plugins that need no more of the SDK (streams.go),
// and the one run of the plugin's main. It knows nothing of wproxy: the guest runs
// on any Proxy-Wasm host.
package adapter

import "embed"

// Files holds the text of the adapter, as it is injected into plugins: Go files with
// the build constraint wasip1. (There is no assembly file: it is not needed for
// declarations without a body that have a go:linkname, and the assembler, unlike the
// compiler, cannot work in a directory that exists only in an overlay.)
//
//go:embed exports.go format.go hostcalls.go keep.go memory.go mode.go streams.go
var Files embed.FS

// Mode names the file in Files that declares the constant direct, and Direct is what to put
// in its place for a plugin that has HTTP contexts only and never calls
// DispatchHttpCall.
const (
	Mode   = "mode.go"
	Direct = "package adapter\n\nconst direct = true\n"
)

// Format names the file in Files that takes the place of package fmt where only the SDK needs
// that: FormatClause becomes FormatPackage. It is no part of the adapter's directory.
const (
	Format        = "format.go"
	FormatClause  = "package adapter\n"
	FormatPackage = "package fmt\n\nfunc Sprintf(format string, args ...interface{}) string { return sprintf(format, args) }\n"
)

// Times takes the place of package time, with Format, where only the SDK needs that: to measure its
// callbacks in a build of its own (tag proxywasm_timing). What else comes with it, the environment
// and the settings in GODEBUG, is a twentieth of a module.
const Times = "package time\n\ntype Time struct{}\n\nfunc Now() Time { return Time{} }\n"

// StreamSlots is the export of the extension that saves calls for streams
// (abi.ExportStreamSlots), which only a direct adapter knows.
const StreamSlots = "wproxy_stream_slots_v1"

// Exports names the file in Files that declares the exported callbacks, one
// function with a go:wasmexport directive each. A function may be cut out when the
// plugin has no use for the callback; nothing else in Files refers to it.
const Exports = "exports.go"
