package host

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"wproxy/abi"
)

// hostGRPCCall is proxy_grpc_call(upstream, service, method, initial_metadata, message,
// timeout_ms, *id): one message, and one that answers it. ParseFailure is for what is wrong
// with the call, InternalFailure for what is in the way of a good one: guests written in
// Rust bear no other status. Every call that is OK is answered once, by on_grpc_receive or
// on_grpc_close on the root of the context that asks.
func hostGRPCCall(v *vm, a []uint64) abi.Status {
	message, ok := v.view(a[8], a[9])
	if !ok || !v.writable32(a[11]) {
		return abi.StatusInvalidMemoryAccess
	}
	r, st := v.readGRPC(a)
	if st != abi.StatusOK {
		return st
	}
	timeout := time.Duration(int32(a[10])) * time.Millisecond
	switch {
	case timeout < 0:
		return v.noGRPC("its timeout is negative")
	case len(message) > MaxGRPCMessage:
		v.warn("a gRPC call was not made: its message is too large")
		return abi.StatusInternalFailure
	}
	v.charge(int64(len(message)) * heapUnits)
	return v.beginGRPC(r, timeout, append([]byte{}, message...), a[11])
}

// hostGRPCStream is proxy_grpc_stream(upstream, service, method, initial_metadata, *id).
func hostGRPCStream(v *vm, a []uint64) abi.Status {
	if !v.writable32(a[8]) {
		return abi.StatusInvalidMemoryAccess
	}
	r, st := v.readGRPC(a)
	if st != abi.StatusOK {
		return st
	}
	r.Stream = true
	return v.beginGRPC(r, 0, nil, a[8])
}

// withoutMetadata returns a function for guests of early SDKs, in C++ and AssemblyScript,
// which have no initial metadata behind service and method.
func withoutMetadata(f func(*vm, []uint64) abi.Status) func(*vm, []uint64) abi.Status {
	const at = 6
	return func(v *vm, a []uint64) abi.Status {
		var all [12]uint64
		copy(all[:at], a)
		copy(all[at+2:], a[at:])
		return f(v, all[:])
	}
}

// readGRPC reads the arguments that calls and streams begin with.
func (v *vm) readGRPC(a []uint64) (*GRPCRequest, abi.Status) {
	upstream, ok := v.text(a[0], a[1])
	service, ok2 := v.text(a[2], a[3])
	method, ok3 := v.text(a[4], a[5])
	metadata, ok4 := v.view(a[6], a[7])
	if !ok || !ok2 || !ok3 || !ok4 {
		return nil, abi.StatusInvalidMemoryAccess
	}
	v.charge(callUnits + int64(len(metadata)+len(service)+len(method))*parseUnits)
	switch {
	case v.p.h.o.GRPC == nil:
		v.warn("a gRPC call was not made: there is nobody here to make one")
		return nil, abi.StatusInternalFailure
	case len(upstream) > maxCallHead || len(metadata) > maxCallHead:
		v.warn("a gRPC call was not made: its metadata, or the description of its service, are too large")
		return nil, abi.StatusInternalFailure
	case !isGRPCName(service) || !isGRPCName(method):
		return nil, v.noGRPC("the name of its service or method is none")
	}
	pairs, err := v.ownPairs(metadata)
	if err != nil {
		pairs = nil // as in the reference host
	}
	r := &GRPCRequest{
		Plugin: v.p.o.Name, Upstream: strings.Clone(upstream),
		Service: strings.Clone(service), Method: strings.Clone(method),
	}
	if err := r.add(pairs); err != nil {
		return nil, v.noGRPC(err.Error())
	}
	return r, abi.StatusOK
}

// isGRPCName reports whether s can be a part of the path of a call.
func isGRPCName(s string) bool {
	if s == "" || len(s) > maxNameBytes {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._-$~:", c) >= 0:
		default:
			return false
		}
	}
	return strings.Trim(s, ".") != ""
}

// Why metadata cannot be sent.
var (
	errGRPCField  = errors.New("a key or value of its metadata has bytes that a field must not have")
	errGRPCPseudo = errors.New("its metadata have a pseudo field")
	errGRPCBinary = errors.New("a value of a key that ends in -bin is not in base64")
)

// add adds metadata to r.
func (r *GRPCRequest) add(pairs []abi.Pair) error {
	for _, p := range pairs {
		name, value, ok := CleanField(p.Name, p.Value)
		switch {
		case strings.HasPrefix(p.Name, ":"):
			return errGRPCPseudo
		case strings.HasSuffix(lowerASCII(p.Name), "-bin") && !isBase64(p.Value):
			return errGRPCBinary
		case !ok:
			return errGRPCField
		}
		r.Metadata = append(r.Metadata, abi.Pair{Name: name, Value: value})
	}
	return nil
}

// isBase64 reports whether s is made of what values in base64 are, with padding or without,
// and of the commas between several (gRPC over HTTP2, "Custom-Metadata").
func isBase64(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("+/=,", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// beginGRPC starts a call and hands out its id.
func (v *vm) beginGRPC(r *GRPCRequest, timeout time.Duration, message []byte, outID uint64) abi.Status {
	do, err := v.prepareGRPC(r, timeout)
	switch {
	case errors.Is(err, ErrNoUpstream):
		v.warnOnce("gRPC call to an unknown upstream", "a gRPC call to "+strconv.Quote(cutLine(r.Upstream, maxNameBytes))+" was not made: there is no such upstream")
		return abi.StatusParseFailure
	case err != nil:
		return v.noGRPC(err.Error())
	case !v.p.grants.has(GrantCall + r.Upstream):
		v.notGranted("a gRPC call to the upstream "+r.Upstream, GrantCall+r.Upstream) // one of the configuration
		return abi.StatusInternalFailure
	}
	id, st := v.startGRPC(r, message, do)
	if st != abi.StatusOK {
		return st
	}
	return v.put32(outID, id)
}

// prepareGRPC finds who makes a call. What is no name of an upstream may be an Envoy
// GrpcService that has one.
func (v *vm) prepareGRPC(r *GRPCRequest, timeout time.Duration) (func(context.Context, *GRPCCall) GRPCEnd, error) {
	v.boundGRPC(r, timeout)
	do, err := v.p.h.o.GRPC.PrepareGRPC(r)
	if !errors.Is(err, ErrNoUpstream) {
		return do, err
	}
	v.charge(int64(len(r.Upstream)) * parseUnits)
	s, ok := parseGRPCService(r.Upstream)
	if !ok {
		return nil, err
	}
	own := r.Metadata
	r.Upstream, r.Authority, r.Metadata = s.upstream, s.authority, nil
	if err := r.add(s.metadata); err != nil {
		return nil, err
	}
	r.Metadata = append(r.Metadata, own...)
	if timeout == 0 {
		v.boundGRPC(r, s.timeout)
	}
	return v.p.h.o.GRPC.PrepareGRPC(r)
}

// boundGRPC bounds the time of a call; a stream has none.
func (v *vm) boundGRPC(r *GRPCRequest, timeout time.Duration) {
	switch {
	case r.Stream:
		return
	case timeout == 0:
		timeout = defaultCallTimeout
	}
	r.Timeout = v.callTime(min(timeout, maxCallTimeout))
}

// noGRPC answers a call with which something is wrong.
func (v *vm) noGRPC(why string) abi.Status {
	v.warnOnce("gRPC call that cannot be sent: "+why, "a gRPC call was not made: "+cutLine(why, maxNameBytes))
	return abi.StatusParseFailure
}

// grpcOf returns a call by its id: of the root that the current context belongs to, as
// other plugins may share the VM.
func (v *vm) grpcOf(id uint64) *GRPCCall {
	c := v.rpcs[uint32(id)]
	if c == nil || c.base != v.current().base {
		return nil
	}
	return c
}

// hostGRPCSend is proxy_grpc_send(id, message, end_of_stream). The message waits in the host
// until the upstream takes it. A message is bounded like what waits: the stream ends, with
// RESOURCE_EXHAUSTED, as the guest has no other way to hear of it.
func hostGRPCSend(v *vm, a []uint64) abi.Status {
	message, ok := v.view(a[1], a[2])
	if !ok {
		return abi.StatusInvalidMemoryAccess
	}
	c := v.grpcOf(a[0])
	switch {
	case c == nil:
		return abi.StatusNotFound
	case !c.stream:
		return abi.StatusBadArgument
	}
	v.charge(editUnits + int64(len(message))*heapUnits)
	if len(message) > MaxGRPCMessage {
		c.mu.Lock()
		c.abortLocked(grpcResourceExhausted, "a message is too large to be sent")
		c.mu.Unlock()
		return abi.StatusOK
	}
	if !c.push(append([]byte{}, message...), uint32(a[3]) != 0) {
		v.warn("a gRPC message was not sent: the guest had closed its side of the stream")
		return abi.StatusBadArgument
	}
	return abi.StatusOK
}

// hostGRPCCancel is proxy_grpc_cancel(id): the call is over, and the guest hears no more
// of it. Other statuses than OK and NotFound would kill guests written in Rust.
func hostGRPCCancel(v *vm, a []uint64) abi.Status {
	c := v.grpcOf(a[0])
	if c == nil {
		return abi.StatusNotFound
	}
	delete(v.rpcs, c.id)
	c.cancel()
	return abi.StatusOK
}

// hostGRPCClose is proxy_grpc_close(id): of a stream it ends the guest's side, of a call all.
func hostGRPCClose(v *vm, a []uint64) abi.Status {
	c := v.grpcOf(a[0])
	if c == nil {
		return abi.StatusNotFound
	}
	if !c.stream {
		return hostGRPCCancel(v, a)
	}
	c.push(nil, true)
	return abi.StatusOK
}
