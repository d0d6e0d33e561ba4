package host

import (
	"errors"
	"strings"
	"time"

	"wproxy/abi"
)

// hostHTTPCall is proxy_http_call(upstream, headers, body, trailers, timeout_ms, *id).
// BadArgument is for what is wrong with the call, InternalFailure for what is in the
// way of a good one. Every call that is OK is answered once, by on_http_call_response
// on the root of the context that asks, also when that context has gone by then.
func hostHTTPCall(v *vm, a []uint64) abi.Status {
	upstream, ok := v.text(a[0], a[1])
	head, ok2 := v.view(a[2], a[3])
	body, ok3 := v.view(a[4], a[5])
	trailers, ok4 := v.view(a[6], a[7])
	if !ok || !ok2 || !ok3 || !ok4 || !v.writable32(a[9]) {
		return abi.StatusInvalidMemoryAccess
	}
	v.charge(callUnits + int64(len(head)+len(trailers))*parseUnits)
	timeout := time.Duration(int32(a[8])) * time.Millisecond
	switch {
	case timeout < 0:
		v.warn("an HTTP call was not made: its timeout is negative")
		return abi.StatusBadArgument
	case v.p.h.o.Caller == nil:
		v.warn("an HTTP call was not made: there is nobody here to make one")
		return abi.StatusInternalFailure
	case len(body) > maxCallBody || len(head) > maxCallHead || len(trailers) > maxCallHead:
		v.warn("an HTTP call was not made: its headers or its body are too large")
		return abi.StatusInternalFailure
	case timeout == 0:
		timeout = defaultCallTimeout
	}
	r := &CallRequest{
		Plugin:  v.p.o.Name,
		Timeout: v.callTime(min(timeout, maxCallTimeout)),
	}
	if err := r.read(v, head, trailers); err != nil {
		v.warn("an HTTP call was not made: " + err.Error())
		return abi.StatusBadArgument
	}
	v.charge(int64(len(body)) * heapUnits)
	r.Upstream, r.Body = strings.Clone(upstream), append([]byte(nil), body...)
	id, status := v.sendCall(r)
	if status != abi.StatusOK {
		return status
	}
	return v.put32(a[9], id)
}

// callTime returns how long a call may take that a guest gives d: not longer than the
// stream that it is made for.
func (v *vm) callTime(d time.Duration) time.Duration {
	s, ok := v.stream().(Deadliner)
	if !ok {
		return d
	}
	until := s.Deadline()
	if until.IsZero() {
		return d
	}
	return min(d, max(time.Until(until), minCallTimeout))
}

// Why a call cannot be made.
var (
	errCallPseudo = errors.New(":method, :path and :authority are needed")
	errCallField  = errors.New("a name or value has CR, LF, NUL or other bytes that a field must not have")
)

// read fills r from encoded headers and trailers. What cannot be decoded is empty, as
// in the reference host.
func (r *CallRequest) read(v *vm, head, trailers []byte) error {
	pairs, err := v.ownPairs(head)
	if err != nil {
		pairs = nil
	}
	const method, path, authority = 1, 2, 4
	seen := 0 // of these; :authority may be there and empty, as in an example of the Go SDK
	for _, p := range pairs {
		pseudo, bit := (*string)(nil), 0
		switch p.Name {
		case ":method":
			pseudo, bit = &r.Method, method
		case ":scheme":
			pseudo = &r.Scheme
		case ":authority":
			pseudo, bit = &r.Authority, authority
		case ":path":
			pseudo, bit = &r.Path, path
		case "host": // :authority is
			continue
		}
		if pseudo == nil {
			name, value, ok := CleanField(p.Name, p.Value)
			if !ok {
				return errCallField
			}
			r.Fields = append(r.Fields, abi.Pair{Name: name, Value: value})
			continue
		}
		if seen |= bit; *pseudo == "" {
			*pseudo = p.Value
		}
	}
	if seen != method|path|authority {
		return errCallPseudo
	}
	if pairs, err = v.ownPairs(trailers); err != nil {
		pairs = nil
	}
	for _, p := range pairs {
		name, value, ok := CleanField(p.Name, p.Value)
		if !ok {
			return errCallField
		}
		r.Trailers = append(r.Trailers, abi.Pair{Name: name, Value: value})
	}
	return nil
}

// hostGetStatus is proxy_get_status(*code, *ptr, *len): of the call that is being
// answered. OK and no text elsewhere, and for a call that went well.
func hostGetStatus(v *vm, a []uint64) abi.Status {
	if !v.writable32(a[0]) {
		return abi.StatusInvalidMemoryAccess
	}
	var code uint32
	var message string
	switch {
	case v.answer != nil:
		code, message = v.answer.code, v.answer.message
	case v.rpc != nil:
		code, message = v.rpc.code, v.rpc.text
	}
	if s := v.giveString(message, a[1], a[2]); s != abi.StatusOK {
		return s
	}
	return v.put32(a[0], code)
}
