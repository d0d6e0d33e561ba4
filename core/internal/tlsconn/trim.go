package tlsconn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// Trim lets go of the buffers that the tls.Conn keeps for ever once it has had them: the one that
// handshake messages are put together in and the one that records are read into, 1.7 KiB and
// 2 KiB for a hello with a post-quantum key. It makes others when it needs them. Nobody else may
// read meanwhile, and what it has decrypted must have been read. The buffers are the tls.Conn's
// own; where they are not found, they stay.
func (c *Conn) Trim() {
	if !leftovers.found || !c.socket.records.Between() {
		return
	}
	at := unsafe.Pointer(c.tls)
	hand, raw := (*bytes.Buffer)(unsafe.Add(at, leftovers.hand)), (*bytes.Buffer)(unsafe.Add(at, leftovers.raw))
	input := (*bytes.Reader)(unsafe.Add(at, leftovers.input))
	if hand.Len() == 0 && raw.Len() == 0 && input.Len() == 0 {
		*hand, *raw, *input = bytes.Buffer{}, bytes.Buffer{}, bytes.Reader{} // input is cut from raw
	}
}

// leftovers are where the buffers are in a tls.Conn.
var leftovers = findLeftovers()

type offsets struct {
	found            bool
	hand, raw, input uintptr
}

// findLeftovers looks for them by name and type, which another release of Go may change.
func findLeftovers() offsets {
	conn, buffer := reflect.TypeFor[tls.Conn](), reflect.TypeFor[bytes.Buffer]()
	hand, ok1 := conn.FieldByName("hand")
	raw, ok2 := conn.FieldByName("rawInput")
	input, ok3 := conn.FieldByName("input")
	if !ok1 || !ok2 || !ok3 || hand.Type != buffer || raw.Type != buffer || input.Type != reflect.TypeFor[bytes.Reader]() {
		return offsets{}
	}
	return offsets{true, hand.Offset, raw.Offset, input.Offset}
}
