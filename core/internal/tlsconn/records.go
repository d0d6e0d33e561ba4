package tlsconn

import (
	"sync/atomic"

	"wproxy/core/internal/buf"
)

const (
	// header is the length in bytes of what a record begins with (RFC 8446 5.1).
	header = 5

	// MaxAlert is the size in bytes of the largest record with an alert and no padding:
	// that of TLS 1.2 with AES-GCM, whose nonce is explicit. No request is as short.
	MaxAlert = header + 8 + 2 + 16

	// MinOverhead is how many bytes of a record are not content, at least.
	MinOverhead = header + 16
)

// Records keep the bytes that came from the socket until tls.Conn takes them, and follow
// the headers of the records, so that it gets no byte of a record before it is done with
// the one in front of it. What it holds is then known: nothing, after it has returned
// less than it was asked for. A tls.Conn that reads from the socket itself takes whatever is
// there, and to wait for the socket while a whole record is inside of it is to wait for ever.
//
// Records belong to one goroutine at a time, but for Held.
type Records struct {
	in   *buf.Buf // nil: nothing is kept
	r, w int      // in.Bytes()[r:w] has not been taken
	left int      // bytes of a record of which a part has been taken; 0: between two
	err  error    // of the socket; told when everything has been taken

	held atomic.Int32 // w - r
}

// errWait is returned by Read when there is nothing to take. It says that it is
// temporary: tls.Conn goes on where it was when it is called again, as after a deadline.
type errWait struct{}

func (errWait) Error() string   { return "nothing has come" }
func (errWait) Timeout() bool   { return true }
func (errWait) Temporary() bool { return true }

// ErrWait is what a Conn whose socket is read by somebody else returns when it needs more.
var ErrWait error = errWait{}

// Room returns where to read into: size bytes if nothing is kept. It must not be called
// when Whole is true.
func (x *Records) Room(size int) []byte {
	if x.in != nil && x.r == x.w && len(x.in.Bytes()) < size {
		x.Release()
	}
	if x.in == nil {
		x.in = buf.Get(size)
	}
	b := x.in.Bytes()
	if x.r > 0 {
		x.w = copy(b, b[x.r:x.w])
		x.r = 0
	}
	return b[x.w:]
}

// Filled says that n bytes were read into what Room returned.
func (x *Records) Filled(n int) {
	x.w += n
	x.held.Store(int32(x.w - x.r)) //nolint:gosec // the size of a buffer
}

// Fail says that no more will come: io.EOF, or why.
func (x *Records) Fail(err error) { x.err = err }

// Failed returns what Fail was told.
func (x *Records) Failed() error { return x.err }

// Whole reports whether reading makes sense: the rest of a record is there, or as much of
// it as there is room for, or no more will come.
func (x *Records) Whole() bool {
	n := x.w - x.r
	switch {
	case x.err != nil:
		return true
	case x.in == nil:
		return false
	case n == len(x.in.Bytes()):
		return true
	case x.left > 0:
		return n >= x.left
	case n < header:
		return false
	}
	return n >= x.size()
}

// Foreign reports whether what is kept begins with something that is no record, which
// shows before as much of it has come as its length seems to say (RFC 8446 5.1).
func (x *Records) Foreign() bool {
	if x.left > 0 || x.w-x.r < 2 {
		return false
	}
	b := x.in.Bytes()[x.r:]
	return b[0] < 20 || b[0] > 23 || b[1] != 3
}

// size returns the length of the record that begins at r, of which the header is there.
func (x *Records) size() int {
	b := x.in.Bytes()[x.r:]
	return header + int(b[3])<<8 + int(b[4])
}

// Read takes at most the rest of one record. It never waits.
func (x *Records) Read(p []byte) (int, error) {
	if x.left == 0 && x.w-x.r >= header {
		x.left = x.size()
	}
	n := min(len(p), x.left, x.w-x.r)
	if n == 0 {
		if x.err != nil && len(p) > 0 {
			if x.r < x.w { // a header that was cut
				x.r = x.w
				x.held.Store(0)
			}
			return 0, x.err
		}
		return 0, ErrWait
	}
	copy(p, x.in.Bytes()[x.r:x.r+n])
	x.r += n
	x.left -= n
	x.held.Store(int32(x.w - x.r)) //nolint:gosec // the size of a buffer
	return n, nil
}

// Held returns how many bytes are kept. Any goroutine may call it.
func (x *Records) Held() int { return int(x.held.Load()) }

// Between reports whether the last byte that was taken was the last of a record.
func (x *Records) Between() bool { return x.left == 0 }

// Release gives the buffer back if it is empty.
func (x *Records) Release() {
	if x.in != nil && x.r == x.w {
		x.in.Release()
		x.in, x.r, x.w = nil, 0, 0
	}
}

// Drop gives the buffer back with what is in it: nothing will be taken any more.
func (x *Records) Drop() {
	x.r = x.w
	x.held.Store(0)
	x.Release()
}
