package host

import (
	"bytes"

	"wproxy/abi"
)

// All of these only mark on the Stream: what they ask for happens after the
// outermost callback has returned (abi.md 4.8).

// hostContinueStream is proxy_continue_stream(type).
func hostContinueStream(v *vm, a []uint64) abi.Status {
	return v.onStream(abi.StreamType(uint32(a[0])), Stream.Resume)
}

// hostCloseStream is proxy_close_stream(type).
func hostCloseStream(v *vm, a []uint64) abi.Status {
	return v.onStream(abi.StreamType(uint32(a[0])), Stream.Close)
}

// hostContinueRequest is proxy_continue_request() of ABI 0.1.0.
func hostContinueRequest(v *vm, _ []uint64) abi.Status {
	return v.onStream(abi.StreamRequest, Stream.Resume)
}

// hostContinueResponse is proxy_continue_response() of ABI 0.1.0.
func hostContinueResponse(v *vm, _ []uint64) abi.Status {
	return v.onStream(abi.StreamResponse, Stream.Resume)
}

func (v *vm) onStream(side abi.StreamType, do func(Stream, abi.StreamType)) abi.Status {
	if !side.Known() {
		return abi.StatusBadArgument
	}
	if s := v.stream(); s != nil {
		do(s, side)
	}
	return abi.StatusOK
}

// hostClearRouteCache is proxy_clear_route_cache(), of ABI 0.1.0 and of the
// AssemblyScript SDK.
func hostClearRouteCache(v *vm, _ []uint64) abi.Status {
	if s := v.stream(); s != nil {
		s.ClearRouteCache()
	}
	return abi.StatusOK
}

// hostSendLocalResponse is proxy_send_local_response(code, details, body, headers,
// grpc_status). It is always OK, whatever the guest got wrong: guests written in
// Rust panic on anything else.
func hostSendLocalResponse(v *vm, a []uint64) abi.Status {
	details, ok1 := v.view(a[1], a[2])
	body, ok2 := v.view(a[3], a[4])
	fields, ok3 := v.view(a[5], a[6])
	if !ok1 || !ok2 || !ok3 {
		return abi.StatusInvalidMemoryAccess
	}
	s := v.stream()
	if s == nil {
		v.warn("a local response was sent outside of a stream: ignored")
		return abi.StatusOK
	}
	if r, ok := s.(Replier); ok && r.Replied() {
		return abi.StatusOK // a loop of these must not copy what nobody will see
	}
	r := Reply{Status: int(int32(a[0])), GRPCStatus: int32(a[7])}
	if r.Status < 200 || r.Status > 599 {
		v.warn("a local response has a status that no answer can have: 500 is sent instead")
		r.Status = 500
	}
	if r.GRPCStatus < 0 || r.GRPCStatus > 16 {
		r.GRPCStatus = abi.GRPCNotSet
	}
	r.Details = v.replies.clean(details)
	if len(body) > MaxReplyBody {
		v.warn("the body of a local response was cut: it is larger than any may be")
		body = body[:MaxReplyBody]
	}
	v.charge(int64(len(body)) * heapUnits)
	r.Body = bytes.Clone(body)
	pairs, err := v.replyPairs(fields)
	if err != nil {
		v.warn("the headers of a local response were left out: " + err.Error())
	}
	r.Fields = pairs
	s.Reply(r)
	return abi.StatusOK
}
