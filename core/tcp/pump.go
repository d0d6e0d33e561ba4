package tcp

import (
	"net"
	"sync/atomic"

	"wproxy/core/internal/buf"
)

// copyTo copies from src to dst until src ends or one of them fails, and counts in n what dst
// has taken. readErr is io.EOF at src's end.
func copyTo(dst, src net.Conn, n *atomic.Int64) (readErr, writeErr error) {
	r := newReader(src)
	defer r.release()
	for {
		b, err := r.read()
		if len(b) > 0 {
			k, err := dst.Write(b)
			n.Add(int64(k))
			if err != nil {
				return nil, err
			}
		}
		if err != nil {
			return err, nil
		}
		r.fit(len(b))
	}
}

// A reader reads with a small buffer while little comes, and a large one while it is filled:
// a connection that rests waits with the small one in hand.
type reader struct {
	src net.Conn
	b   *buf.Buf
}

func newReader(src net.Conn) *reader { return &reader{src, buf.Get(firstRead)} }

// read returns what has come, which is valid until the next read.
func (r *reader) read() ([]byte, error) {
	n, err := r.src.Read(r.b.Bytes())
	return r.b.Bytes()[:n], err
}

// fit makes the buffer that of the next read, after one of n bytes. Nobody looks at these any
// more.
func (r *reader) fit(n int) {
	size, want := len(r.b.Bytes()), firstRead
	if n == size || n >= fullRead/4 {
		want = fullRead
	}
	if size < want || want == firstRead && size >= fullRead {
		r.b.Release()
		r.b = buf.Get(want)
	}
}

func (r *reader) release() { r.b.Release() }
