//go:build wasip1

// The plugin of TestAuthGuest: it asks a gRPC server about each request, in one of two ways.
// A request to /check/unary makes a call of its own; all others share a stream that the root opens.
// It uses the ABI as it is, since the Go SDK has no gRPC.
package main

import (
	"encoding/binary"
	"unsafe"
)

//go:wasmimport env proxy_grpc_call
func grpcCall(upstream unsafe.Pointer, n uint32, service unsafe.Pointer, serviceN uint32, method unsafe.Pointer, methodN uint32, md unsafe.Pointer, mdN uint32, message unsafe.Pointer, messageN uint32, timeout uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_grpc_stream
func grpcStream(upstream unsafe.Pointer, n uint32, service unsafe.Pointer, serviceN uint32, method unsafe.Pointer, methodN uint32, md unsafe.Pointer, mdN uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_grpc_send
func grpcSend(id uint32, message unsafe.Pointer, n uint32, end uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func getBuffer(kind, start, most uint32, ptr, n unsafe.Pointer) uint32

//go:wasmimport env proxy_get_header_map_value
func getHeader(kind uint32, name unsafe.Pointer, nameN uint32, ptr, n unsafe.Pointer) uint32

//go:wasmimport env proxy_add_header_map_value
func addHeader(kind uint32, name unsafe.Pointer, nameN uint32, value unsafe.Pointer, valueN uint32) uint32

//go:wasmimport env proxy_get_status
func getStatus(code, ptr, n unsafe.Pointer) uint32

//go:wasmimport env proxy_set_effective_context
func setContext(id uint32) uint32

//go:wasmimport env proxy_continue_stream
func continueStream(kind uint32) uint32

//go:wasmimport env proxy_send_local_response
func localResponse(code uint32, details unsafe.Pointer, detailsN uint32, body unsafe.Pointer, bodyN uint32, fields unsafe.Pointer, fieldsN uint32, grpc int32) uint32

const (
	service = "wproxy.test.Auth"
	pause   = 1
)

var (
	calls   = map[uint32]uint32{} // contexts by their calls
	waiting []uint32              // contexts that wait for the stream, in its order
	stream  uint32                // id; 0: none
	out     [3]uint32             // results of host calls
	memory  = map[uint32][]byte{} // handed out, until the host's result is read
)

func main() {}

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(n uint32) uint32 {
	b := make([]byte, max(n, 1))
	at := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	memory[at] = b
	return at
}

// result takes what the host has left at out.
func result(ptr, n uint32) string {
	if n == 0 {
		return ""
	}
	b := memory[ptr]
	delete(memory, ptr)
	return string(b[:n])
}

func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func header(name string) string {
	p, n := text(name)
	if getHeader(0, p, n, unsafe.Pointer(&out[0]), unsafe.Pointer(&out[1])) != 0 {
		return ""
	}
	return result(out[0], out[1])
}

// stringValue encodes a google.protobuf.StringValue of less than 128 bytes.
func stringValue(s string) string { return "\n" + string([]byte{byte(len(s))}) + s }

// metadata is x-asked: the way.
func metadata(way string) string {
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len("x-asked")))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(way)))
	return string(b) + "x-asked\x00" + way + "\x00"
}

func reply(code uint32, body string) {
	b, n := text(body)
	localResponse(code, nil, 0, b, n, nil, 0, -1)
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, _, _ uint32) uint32 {
	message := stringValue(header("authorization"))
	m, mn := text(message)
	if header(":path") != "/check/unary" {
		if stream == 0 && !open() {
			reply(503, "no stream")
			return pause
		}
		waiting = append(waiting, context)
		grpcSend(stream, m, mn, 0)
		return pause
	}
	u, un := text("auth")
	s, sn := text(service)
	f, fn := text("Check")
	d, dn := text(metadata("unary"))
	if grpcCall(u, un, s, sn, f, fn, d, dn, m, mn, 5000, unsafe.Pointer(&out[0])) != 0 {
		reply(503, "no call")
		return pause
	}
	calls[out[0]] = context
	return pause
}

func open() bool {
	u, un := text("auth")
	s, sn := text(service)
	f, fn := text("Watch")
	d, dn := text(metadata("stream"))
	if grpcStream(u, un, s, sn, f, fn, d, dn, unsafe.Pointer(&out[0])) != 0 {
		return false
	}
	stream = out[0]
	return true
}

// decide ends the wait of a request: a BoolValue says whether it may go on.
func decide(context uint32, message, way string) {
	if setContext(context) != 0 {
		return // its client has gone
	}
	if message != "\x08\x01" {
		reply(403, "denied")
		return
	}
	k, kn := text("x-checked")
	v, vn := text(way)
	addHeader(0, k, kn, v, vn)
	continueStream(0)
}

//go:wasmexport proxy_on_grpc_receive
func onReceive(_, id, _ uint32) {
	message := ""
	if getBuffer(5, 0, 1<<20, unsafe.Pointer(&out[0]), unsafe.Pointer(&out[1])) == 0 {
		message = result(out[0], out[1])
	}
	if id == stream {
		context := waiting[0]
		waiting = waiting[1:]
		decide(context, message, "stream")
		return
	}
	context := calls[id]
	delete(calls, id)
	decide(context, message, "unary")
}

//go:wasmexport proxy_on_grpc_close
func onClose(_, id, code uint32) {
	getStatus(unsafe.Pointer(&out[0]), unsafe.Pointer(&out[1]), unsafe.Pointer(&out[2]))
	why := result(out[1], out[2]) // of this code
	failed := func(context uint32) {
		if setContext(context) == 0 {
			reply(500+code, why)
		}
	}
	if id != stream {
		failed(calls[id])
		delete(calls, id)
		return
	}
	stream = 0
	for _, context := range waiting {
		failed(context)
	}
	waiting = nil
}
