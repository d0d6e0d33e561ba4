//go:build !linux

package h1

import "errors"

// rawIO: elsewhere conns use the net.Conn's own methods.
const rawIO = false

var errWouldBlock = errors.New("would block")

type (
	readOp  struct{}
	writeOp struct {
		c     *conn
		wrote *int64
		tries func(uintptr) bool
		v     [3][]byte
		limit limit
	}
	turn struct {
		out   []byte
		err   error
		tries func(uintptr) bool
	}
	peekOp struct{}
	peeked uint8
)

const (
	peekUnknown peeked = iota
	peekNothing
	peekBytes
	peekEnd
)

func (*conn) rawFill(limit, bool) error { return errWouldBlock }
func (*conn) rawRead(uintptr) bool      { return true }
func (*conn) rawOpen(uintptr) bool      { return true }
func (*conn) rawFlush(*writeOp) error   { return errWouldBlock }
func (*writeOp) rawWrite(uintptr) bool  { return true }
func (*conn) unread() (int64, bool)     { return 0, false }
func (*conn) peek() peeked              { return peekUnknown }

func (*ClientConn) rawTurn(uintptr) bool                 { return true }
func (*ClientConn) sendAndFill([]byte, limit, int) error { return errWouldBlock }

func (*peekOp) attach()           {}
func (*peekOp) peek(*conn) peeked { return peekUnknown }
