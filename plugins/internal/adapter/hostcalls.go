//go:build wasip1

package adapter

import "unsafe"

// The host functions that the SDK uses, as the ABI declares them (Proxy-Wasm 0.2.1,
// "Functions exposed by the host"). Addresses are 32 bits wide on wasm, whatever
// the size of a Go pointer; results are written as u32 (u64 where noted).
//
// go:noescape: the host reads and writes during the call and keeps no address.

//go:wasmimport env proxy_log
//go:noescape
func hostLog(level uint32, data unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_set_property
//go:noescape
func hostSetProperty(path unsafe.Pointer, pathSize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_get_property
//go:noescape
func hostGetProperty(path unsafe.Pointer, pathSize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_send_local_response
//go:noescape
func hostSendLocalResponse(status uint32, details unsafe.Pointer, detailsSize uint32, body unsafe.Pointer, bodySize uint32, headers unsafe.Pointer, headersSize uint32, grpcStatus int32) uint32

//go:wasmimport env proxy_get_shared_data
//go:noescape
func hostGetSharedData(key unsafe.Pointer, keySize uint32, value, valueSize, cas unsafe.Pointer) uint32

//go:wasmimport env proxy_set_shared_data
//go:noescape
func hostSetSharedData(key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32, cas uint32) uint32

//go:wasmimport env proxy_register_shared_queue
//go:noescape
func hostRegisterSharedQueue(name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_resolve_shared_queue
//go:noescape
func hostResolveSharedQueue(vmID unsafe.Pointer, vmIDSize uint32, name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_dequeue_shared_queue
//go:noescape
func hostDequeueSharedQueue(id uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_enqueue_shared_queue
//go:noescape
func hostEnqueueSharedQueue(id uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_get_header_map_value
//go:noescape
func hostGetHeaderMapValue(kind uint32, key unsafe.Pointer, keySize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_add_header_map_value
//go:noescape
func hostAddHeaderMapValue(kind uint32, key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_replace_header_map_value
//go:noescape
func hostReplaceHeaderMapValue(kind uint32, key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_remove_header_map_value
//go:noescape
func hostRemoveHeaderMapValue(kind uint32, key unsafe.Pointer, keySize uint32) uint32

//go:wasmimport env proxy_get_header_map_pairs
//go:noescape
func hostGetHeaderMapPairs(kind uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_header_map_pairs
//go:noescape
func hostSetHeaderMapPairs(kind uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_continue_stream
func hostContinueStream(kind uint32) uint32

//go:wasmimport env proxy_close_stream
func hostCloseStream(kind uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
//go:noescape
func hostGetBufferBytes(kind, start, maxSize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_buffer_bytes
//go:noescape
func hostSetBufferBytes(kind, start, maxSize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_http_call
//go:noescape
func hostHTTPCall(upstream unsafe.Pointer, upstreamSize uint32, headers unsafe.Pointer, headersSize uint32, body unsafe.Pointer, bodySize uint32, trailers unsafe.Pointer, trailersSize uint32, timeout uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_call_foreign_function
//go:noescape
func hostCallForeignFunction(name unsafe.Pointer, nameSize uint32, argument unsafe.Pointer, argumentSize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_tick_period_milliseconds
func hostSetTickPeriodMilliseconds(period uint32) uint32

//go:wasmimport env proxy_set_effective_context
func hostSetEffectiveContext(id uint32) uint32

//go:wasmimport env proxy_done
func hostDone() uint32

//go:wasmimport env proxy_define_metric
//go:noescape
func hostDefineMetric(kind uint32, name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_increment_metric
func hostIncrementMetric(id uint32, delta int64) uint32

//go:wasmimport env proxy_record_metric
func hostRecordMetric(id uint32, value uint64) uint32

//go:wasmimport env proxy_get_metric
//go:noescape
func hostGetMetric(id uint32, value unsafe.Pointer) uint32

// statusOK is the only status with which a host function has written its results.
const statusOK = 0

// The places host functions write their results to. The SDK passes addresses of
// its own variables, which are 64 bits wide here and may live on a stack that moves
// when the host calls the allocator; so results go to these and are copied. One set
// is enough: a guest has one thread, and a host function never enters the guest
// again but for the allocator.
var (
	outValue unsafe.Pointer // a value; 64 bits wide, the host writes the lower half
	outSize  uint32         // its size in bytes
	outWord  uint32         // a cas or an id
	outLong  uint64         // the value of a metric
)

// guestHost presents the imports as the SDK's interface ProxyWasmHost. Its method
// names and parameters are the SDK's; that interface's named integers are uint32
// underneath. Receivers are pointers, as an interface calls methods of values through
// others that the compiler adds.
type guestHost struct{}

// value hands the result of a host function over to the SDK: from here on it is
// alive only as long as the SDK, or the plugin, holds it.
func value(status uint32, data **byte, size *int) uint32 {
	if status == statusOK {
		*data, *size = (*byte)(outValue), int(outSize)
		outValue, outSize = nil, 0
	}
	if pinned != 0 {
		unpin()
	}
	return status
}

// word copies a u32 result to where the SDK wants it.
func word(status uint32, to *uint32) uint32 {
	if status == statusOK {
		*to = outWord
	}
	return status
}

func (*guestHost) ProxyLog(level uint32, data *byte, size int) uint32 {
	return hostLog(level, unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxySetProperty(path *byte, pathSize int, data *byte, size int) uint32 {
	return hostSetProperty(unsafe.Pointer(path), uint32(pathSize), unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyGetProperty(path *byte, pathSize int, data **byte, size *int) uint32 {
	return value(hostGetProperty(unsafe.Pointer(path), uint32(pathSize),
		unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxySendLocalResponse(
	status uint32, details *byte, detailsSize int, body *byte, bodySize int, headers *byte, headersSize int, grpcStatus int32,
) uint32 {
	return hostSendLocalResponse(status, unsafe.Pointer(details), uint32(detailsSize),
		unsafe.Pointer(body), uint32(bodySize), unsafe.Pointer(headers), uint32(headersSize), grpcStatus)
}

func (*guestHost) ProxyGetSharedData(key *byte, keySize int, data **byte, size *int, cas *uint32) uint32 {
	status := hostGetSharedData(unsafe.Pointer(key), uint32(keySize),
		unsafe.Pointer(&outValue), unsafe.Pointer(&outSize), unsafe.Pointer(&outWord))
	return value(word(status, cas), data, size)
}

func (*guestHost) ProxySetSharedData(key *byte, keySize int, data *byte, size int, cas uint32) uint32 {
	return hostSetSharedData(unsafe.Pointer(key), uint32(keySize), unsafe.Pointer(data), uint32(size), cas)
}

func (*guestHost) ProxyRegisterSharedQueue(name *byte, nameSize int, id *uint32) uint32 {
	return word(hostRegisterSharedQueue(unsafe.Pointer(name), uint32(nameSize), unsafe.Pointer(&outWord)), id)
}

func (*guestHost) ProxyResolveSharedQueue(vmID *byte, vmIDSize int, name *byte, nameSize int, id *uint32) uint32 {
	return word(hostResolveSharedQueue(unsafe.Pointer(vmID), uint32(vmIDSize),
		unsafe.Pointer(name), uint32(nameSize), unsafe.Pointer(&outWord)), id)
}

func (*guestHost) ProxyDequeueSharedQueue(id uint32, data **byte, size *int) uint32 {
	return value(hostDequeueSharedQueue(id, unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxyEnqueueSharedQueue(id uint32, data *byte, size int) uint32 {
	return hostEnqueueSharedQueue(id, unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyGetHeaderMapValue(kind uint32, key *byte, keySize int, data **byte, size *int) uint32 {
	return value(hostGetHeaderMapValue(kind, unsafe.Pointer(key), uint32(keySize),
		unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxyAddHeaderMapValue(kind uint32, key *byte, keySize int, data *byte, size int) uint32 {
	return hostAddHeaderMapValue(kind, unsafe.Pointer(key), uint32(keySize), unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyReplaceHeaderMapValue(kind uint32, key *byte, keySize int, data *byte, size int) uint32 {
	return hostReplaceHeaderMapValue(kind, unsafe.Pointer(key), uint32(keySize), unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyRemoveHeaderMapValue(kind uint32, key *byte, keySize int) uint32 {
	return hostRemoveHeaderMapValue(kind, unsafe.Pointer(key), uint32(keySize))
}

func (*guestHost) ProxyGetHeaderMapPairs(kind uint32, data **byte, size *int) uint32 {
	return value(hostGetHeaderMapPairs(kind, unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxySetHeaderMapPairs(kind uint32, data *byte, size int) uint32 {
	return hostSetHeaderMapPairs(kind, unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyContinueStream(kind uint32) uint32 { return hostContinueStream(kind) }

func (*guestHost) ProxyCloseStream(kind uint32) uint32 { return hostCloseStream(kind) }

func (*guestHost) ProxyGetBufferBytes(kind uint32, start, maxSize int, data **byte, size *int) uint32 {
	return value(hostGetBufferBytes(kind, uint32(start), uint32(maxSize),
		unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxySetBufferBytes(kind uint32, start, maxSize int, data *byte, size int) uint32 {
	return hostSetBufferBytes(kind, uint32(start), uint32(maxSize), unsafe.Pointer(data), uint32(size))
}

func (*guestHost) ProxyHttpCall(
	upstream *byte, upstreamSize int, headers *byte, headersSize int, body *byte, bodySize int,
	trailers *byte, trailersSize int, timeout uint32, id *uint32,
) uint32 {
	return word(hostHTTPCall(unsafe.Pointer(upstream), uint32(upstreamSize), unsafe.Pointer(headers), uint32(headersSize),
		unsafe.Pointer(body), uint32(bodySize), unsafe.Pointer(trailers), uint32(trailersSize), timeout,
		unsafe.Pointer(&outWord)), id)
}

func (*guestHost) ProxyCallForeignFunction(
	name *byte, nameSize int, argument *byte, argumentSize int, data **byte, size *int,
) uint32 {
	return value(hostCallForeignFunction(unsafe.Pointer(name), uint32(nameSize), unsafe.Pointer(argument), uint32(argumentSize),
		unsafe.Pointer(&outValue), unsafe.Pointer(&outSize)), data, size)
}

func (*guestHost) ProxySetTickPeriodMilliseconds(period uint32) uint32 {
	return hostSetTickPeriodMilliseconds(period)
}

func (*guestHost) ProxySetEffectiveContext(id uint32) uint32 { return hostSetEffectiveContext(id) }

func (*guestHost) ProxyDone() uint32 { return hostDone() }

func (*guestHost) ProxyDefineMetric(kind uint32, name *byte, nameSize int, id *uint32) uint32 {
	return word(hostDefineMetric(kind, unsafe.Pointer(name), uint32(nameSize), unsafe.Pointer(&outWord)), id)
}

func (*guestHost) ProxyIncrementMetric(id uint32, delta int64) uint32 {
	return hostIncrementMetric(id, delta)
}

func (*guestHost) ProxyRecordMetric(id uint32, v uint64) uint32 { return hostRecordMetric(id, v) }

func (*guestHost) ProxyGetMetric(id uint32, to *uint64) uint32 {
	status := hostGetMetric(id, unsafe.Pointer(&outLong))
	if status == statusOK {
		*to = outLong
	}
	return status
}
