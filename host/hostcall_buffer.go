package host

import "wproxy/abi"

// hostGetBufferBytes is proxy_get_buffer_bytes(type, start, max, *ptr, *len). Sums
// are made in 64 bits: SDKs pass 0x7fffffff for both numbers.
func hostGetBufferBytes(v *vm, a []uint64) abi.Status {
	kind := abi.BufferType(uint32(a[0]))
	data, status := v.bufferBytes(kind)
	if status != abi.StatusOK {
		return status
	}
	size := uint64(len(data))
	start := min(uint64(uint32(a[1])), size)
	end := min(start+uint64(uint32(a[2])), size)
	return v.give(data[start:end], a[3], a[4])
}

// bufferBytes returns what a buffer holds, in host memory. A body that is not there
// is empty, as in the reference host; a call's data outside of its callback is not
// found. The configurations can be read at any time.
func (v *vm) bufferBytes(kind abi.BufferType) ([]byte, abi.Status) {
	switch kind {
	case abi.BufferVMConfiguration:
		return v.p.o.VMConfig, abi.StatusOK
	case abi.BufferPluginConfiguration:
		return v.current().root.config, abi.StatusOK
	case abi.BufferRequestBody, abi.BufferResponseBody, abi.BufferDownstreamData, abi.BufferUpstreamData:
		b := v.body(kind)
		if b == nil {
			return nil, abi.StatusOK
		}
		if !v.inDirection(kind) {
			v.buf = b.Append(v.buf[:0])
			v.charge(int64(len(v.buf)) * heapUnits)
			return v.buf, abi.StatusOK
		}
		return b.Bytes(), abi.StatusOK
	case abi.BufferHTTPCallResponseBody:
		if v.answer == nil {
			return nil, abi.StatusNotFound
		}
		return v.answer.body, abi.StatusOK
	case abi.BufferCallData:
		if v.callback != CallForeignFunction {
			return nil, abi.StatusNotFound
		}
		return v.callData, abi.StatusOK
	case abi.BufferGRPCReceive:
		if v.rpc == nil || !v.rpc.told {
			return nil, abi.StatusNotFound
		}
		return v.rpc.message, abi.StatusOK
	}
	return nil, abi.StatusBadArgument
}

// inDirection reports whether the callback that is running is the current context's own,
// and of the direction that this body belongs to.
func (v *vm) inDirection(kind abi.BufferType) bool {
	if v.current() != v.active {
		return false
	}
	switch v.callback {
	case CallRequestHeaders, CallRequestBody, CallRequestTrailers:
		return kind == abi.BufferRequestBody
	case CallResponseHeaders, CallResponseBody, CallResponseTrailers:
		return kind == abi.BufferResponseBody
	case CallDownstreamData:
		return kind == abi.BufferDownstreamData
	case CallUpstreamData:
		return kind == abi.BufferUpstreamData
	default:
		return false
	}
}

// body returns a body of the current stream, or nil.
func (v *vm) body(kind abi.BufferType) Buffer {
	if s := v.stream(); s != nil {
		return s.Buffer(kind)
	}
	return nil
}

// hostSetBufferBytes is proxy_set_buffer_bytes(type, start, size, ptr, len): the
// bytes [start, start+size) of a body are replaced by the data; start beyond the
// end appends (abi.md 5.5).
func hostSetBufferBytes(v *vm, a []uint64) abi.Status {
	kind := abi.BufferType(uint32(a[0]))
	data, ok := v.view(a[3], a[4])
	switch {
	case !ok:
		return abi.StatusInvalidMemoryAccess
	case kind > abi.BufferUpstreamData: // read only, or unknown
		return abi.StatusBadArgument
	}
	b := v.body(kind)
	if b == nil {
		return abi.StatusNotFound
	}
	start, size := uint32(a[1]), uint32(a[2])
	if start == 0 && size == 0 && len(data) == 0 {
		return abi.StatusOK
	}
	v.charge(int64(len(data)) * heapUnits)
	began := v.p.h.elapsed() // what is behind them moves
	changed := b.Replace(clampInt(start), clampInt(size), data)
	v.chargeSince(began, hostCallUnits, bodyMostUnits)
	if !changed {
		v.warn("a body was not changed: it is read only now")
		return abi.StatusBadArgument
	}
	return abi.StatusOK
}

// clampInt converts to an int that adding another one of its kind does not
// overflow, where int has 32 bits. No buffer is as large.
func clampInt(n uint32) int { return int(min(n, 1<<30)) }

// hostGetBufferStatus is proxy_get_buffer_status(type, *len, *flags).
func hostGetBufferStatus(v *vm, a []uint64) abi.Status {
	kind := abi.BufferType(uint32(a[0]))
	if !v.writable32(a[1]) || !v.writable32(a[2]) {
		return abi.StatusInvalidMemoryAccess
	}
	data, status := v.bufferBytes(kind)
	if status != abi.StatusOK {
		return status
	}
	var flags uint32
	if kind == abi.BufferHTTPCallResponseBody || kind == abi.BufferGRPCReceive && v.rpc.last { // an answer is whole
		flags = abi.BufferFlagEndOfStream
	}
	if kind <= abi.BufferUpstreamData {
		b := v.body(kind)
		if b == nil {
			return abi.StatusNotFound
		}
		if b.End() {
			flags = abi.BufferFlagEndOfStream
		}
	}
	v.put32(a[1], uint32(len(data)))
	return v.put32(a[2], flags)
}
