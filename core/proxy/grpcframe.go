package proxy

import "encoding/binary"

// grpcPrefix is what stands in front of each message of gRPC: a flag, whether it is
// compressed, and the length in four bytes (gRPC over HTTP2, "Requests").
const grpcPrefix = 5

// appendGRPCMessage appends a message, which is not compressed, with its prefix.
func appendGRPCMessage(b, m []byte) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m))) //nolint:gosec // bounded by who has it
	return append(b, m...)
}

// A grpcError is why the messages of an answer cannot be read: a status of gRPC.
type grpcError struct {
	code int
	text string
}

func (e *grpcError) Error() string { return e.text }

// A grpcReader cuts messages out of a body, however that is cut into pieces. It holds what has
// come of a message, and never makes room for what has only been announced.
type grpcReader struct {
	most int              // bytes of a message
	hold func(n int) bool // asked before n more bytes are held
	free func(n int)      // told when they are not any more

	prefix [grpcPrefix]byte
	have   int // bytes of prefix
	left   int // of the message, valid when prefix is whole
	part   []byte
	held   int
}

// push takes the next piece of the body and calls each for every message that is whole, which
// is borrowed. The error is a *grpcError, or that of each.
func (r *grpcReader) push(p []byte, each func(m []byte) error) error {
	for len(p) > 0 {
		if r.have < grpcPrefix {
			n := copy(r.prefix[r.have:], p)
			p = p[n:]
			if r.have += n; r.have < grpcPrefix {
				return nil
			}
			if err := r.begin(); err != nil {
				return err
			}
		}
		if r.held == 0 && len(p) >= r.left { // all of it is at hand
			m := p[:r.left]
			p = p[r.left:]
			r.have = 0
			if err := each(m); err != nil {
				return err
			}
			continue
		}
		n := min(len(p), r.left)
		if !r.hold(n) {
			return &grpcError{grpcResourceExhausted, "the messages of the plugin's calls hold too much"}
		}
		r.part, r.held, r.left = append(r.part, p[:n]...), r.held+n, r.left-n
		p = p[n:]
		if r.left > 0 {
			return nil
		}
		err := each(r.part)
		r.drop()
		r.have = 0
		if err != nil {
			return err
		}
	}
	return nil
}

// begin reads a prefix that is whole.
func (r *grpcReader) begin() error {
	n := binary.BigEndian.Uint32(r.prefix[1:])
	switch {
	case r.prefix[0] == 1:
		return &grpcError{grpcInternal, "a message is compressed, which nobody has asked for"}
	case r.prefix[0] > 1:
		return &grpcError{grpcInternal, "a message has an unknown flag"}
	case uint64(n) > uint64(r.most): //nolint:gosec // not negative
		return &grpcError{grpcResourceExhausted, "a message is larger than can be received"}
	}
	r.left = int(n)
	return nil
}

// drop lets go of what is held.
func (r *grpcReader) drop() {
	r.free(r.held)
	r.held = 0
	if cap(r.part) > keptBody {
		r.part = nil
	}
	r.part = r.part[:0]
}

// whole reports whether the body may end here.
func (r *grpcReader) whole() bool { return r.have == 0 }
