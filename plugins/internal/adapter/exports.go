//go:build wasip1

package adapter

import (
	"unsafe"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

// proxyABIVersion marks the module as a guest of ABI 0.2.0; it is never called. (The
// SDK has nothing of 0.2.1.)
//
//go:wasmexport proxy_abi_version_0_2_0
func proxyABIVersion() {}

//go:wasmexport proxy_on_memory_allocate
func proxyOnMemoryAllocate(size int32) unsafe.Pointer { return allocate(size) }

// moduleMain is what C and C++ hosts call after _initialize; see start.
//
//go:wasmexport main
func moduleMain(int32, int32) int32 {
	start()
	return 0
}

// streamSlots is called by hosts that know the extension (see streams.go).
//
//go:wasmexport wproxy_stream_slots_v1
func streamSlots() { slotted = true }

// boolean is how the ABI returns a bool.
func boolean(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

//go:linkname sdkOnContextCreate github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnContextCreate
func sdkOnContextCreate(id, parent uint32)

//go:wasmexport proxy_on_context_create
func proxyOnContextCreate(id, parent uint32) {
	start()
	if direct && parent != 0 {
		createStream(id, parent)
		return
	}
	sdkOnContextCreate(id, parent)
}

//go:linkname sdkOnVMStart github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnVMStart
func sdkOnVMStart(id uint32, size int) types.OnVMStartStatus

//go:wasmexport proxy_on_vm_start
func proxyOnVMStart(id uint32, size int32) int32 {
	start()
	return boolean(bool(sdkOnVMStart(id, int(size))))
}

//go:linkname sdkOnConfigure github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnConfigure
func sdkOnConfigure(id uint32, size int) types.OnPluginStartStatus

//go:wasmexport proxy_on_configure
func proxyOnConfigure(id uint32, size int32) int32 {
	return boolean(bool(sdkOnConfigure(id, int(size))))
}

//go:linkname sdkOnTick github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnTick
func sdkOnTick(id uint32)

//go:wasmexport proxy_on_tick
func proxyOnTick(id uint32) {
	sdkOnTick(id)
}

//go:linkname sdkOnQueueReady github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnQueueReady
func sdkOnQueueReady(id, queue uint32)

//go:wasmexport proxy_on_queue_ready
func proxyOnQueueReady(id, queue uint32) {
	sdkOnQueueReady(id, queue)
}

//go:linkname sdkOnNewConnection github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnNewConnection
func sdkOnNewConnection(id uint32) types.Action

//go:wasmexport proxy_on_new_connection
func proxyOnNewConnection(id uint32) uint32 {
	return uint32(sdkOnNewConnection(id))
}

//go:linkname sdkOnDownstreamData github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDownstreamData
func sdkOnDownstreamData(id uint32, size int, end bool) types.Action

//go:wasmexport proxy_on_downstream_data
func proxyOnDownstreamData(id uint32, size, end int32) uint32 {
	return uint32(sdkOnDownstreamData(id, int(size), end != 0))
}

//go:linkname sdkOnDownstreamConnectionClose github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDownstreamConnectionClose
func sdkOnDownstreamConnectionClose(id uint32, peer types.PeerType)

//go:wasmexport proxy_on_downstream_connection_close
func proxyOnDownstreamConnectionClose(id, peer uint32) {
	sdkOnDownstreamConnectionClose(id, types.PeerType(peer))
}

//go:linkname sdkOnUpstreamData github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnUpstreamData
func sdkOnUpstreamData(id uint32, size int, end bool) types.Action

//go:wasmexport proxy_on_upstream_data
func proxyOnUpstreamData(id uint32, size, end int32) uint32 {
	return uint32(sdkOnUpstreamData(id, int(size), end != 0))
}

//go:linkname sdkOnUpstreamConnectionClose github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnUpstreamConnectionClose
func sdkOnUpstreamConnectionClose(id uint32, peer types.PeerType)

//go:wasmexport proxy_on_upstream_connection_close
func proxyOnUpstreamConnectionClose(id, peer uint32) {
	sdkOnUpstreamConnectionClose(id, types.PeerType(peer))
}

//go:linkname sdkOnRequestHeaders github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnRequestHeaders
func sdkOnRequestHeaders(id uint32, n int, end bool) types.Action

//go:wasmexport proxy_on_request_headers
func proxyOnRequestHeaders(id uint32, n, end int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpRequestHeaders(int(n), end != 0))
	}
	return uint32(sdkOnRequestHeaders(id, int(n), end != 0))
}

//go:linkname sdkOnRequestBody github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnRequestBody
func sdkOnRequestBody(id uint32, size int, end bool) types.Action

//go:wasmexport proxy_on_request_body
func proxyOnRequestBody(id uint32, size, end int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpRequestBody(int(size), end != 0))
	}
	return uint32(sdkOnRequestBody(id, int(size), end != 0))
}

//go:linkname sdkOnRequestTrailers github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnRequestTrailers
func sdkOnRequestTrailers(id uint32, n int) types.Action

//go:wasmexport proxy_on_request_trailers
func proxyOnRequestTrailers(id uint32, n int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpRequestTrailers(int(n)))
	}
	return uint32(sdkOnRequestTrailers(id, int(n)))
}

//go:linkname sdkOnResponseHeaders github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnResponseHeaders
func sdkOnResponseHeaders(id uint32, n int, end bool) types.Action

//go:wasmexport proxy_on_response_headers
func proxyOnResponseHeaders(id uint32, n, end int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpResponseHeaders(int(n), end != 0))
	}
	return uint32(sdkOnResponseHeaders(id, int(n), end != 0))
}

//go:linkname sdkOnResponseBody github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnResponseBody
func sdkOnResponseBody(id uint32, size int, end bool) types.Action

//go:wasmexport proxy_on_response_body
func proxyOnResponseBody(id uint32, size, end int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpResponseBody(int(size), end != 0))
	}
	return uint32(sdkOnResponseBody(id, int(size), end != 0))
}

//go:linkname sdkOnResponseTrailers github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnResponseTrailers
func sdkOnResponseTrailers(id uint32, n int) types.Action

//go:wasmexport proxy_on_response_trailers
func proxyOnResponseTrailers(id uint32, n int32) uint32 {
	if direct {
		return uint32(stream(id).OnHttpResponseTrailers(int(n)))
	}
	return uint32(sdkOnResponseTrailers(id, int(n)))
}

//go:linkname sdkOnHttpCallResponse github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnHttpCallResponse
func sdkOnHttpCallResponse(root, call uint32, n, size, trailers int)

//go:wasmexport proxy_on_http_call_response
func proxyOnHttpCallResponse(root, call uint32, n, size, trailers int32) {
	sdkOnHttpCallResponse(root, call, int(n), int(size), int(trailers))
}

//go:linkname sdkOnDone github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDone
func sdkOnDone(id uint32) bool

//go:wasmexport proxy_on_done
func proxyOnDone(id uint32) int32 {
	return boolean(sdkOnDone(id))
}

//go:linkname sdkOnLog github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnLog
func sdkOnLog(id uint32)

//go:wasmexport proxy_on_log
func proxyOnLog(id uint32) {
	if direct {
		if hasStream(id) {
			stream(id).OnHttpStreamDone()
		}
		return
	}
	sdkOnLog(id)
}

//go:linkname sdkOnDelete github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDelete
func sdkOnDelete(id uint32)

//go:wasmexport proxy_on_delete
func proxyOnDelete(id uint32) {
	if direct {
		if hasStream(id) {
			deleteStream(id)
			return
		}
		forgetRoot(id)
	}
	sdkOnDelete(id)
}
