//go:build !linux

package h1

import "errors"

// rawIO: elsewhere conns use the net.Conn's own methods.
const rawIO = false

var errWouldBlock = errors.New("would block")

type (
	readOp  struct{}
	writeOp struct {
		c      *conn
		wrote  *int64
		tries  func(uintptr) bool
		drains func(uintptr) bool
		v      [3][]byte
		limit  limit
	}
	turn struct {
		out   []byte
		err   error
		tries func(uintptr) bool
	}
	peekOp struct{}
	pipe   struct{ r, holds int }
	peeked uint8
)

const (
	peekUnknown peeked = iota
	peekNothing
	peekBytes
	peekEnd
)

func (*conn) rawFill(limit, bool) error      { return errWouldBlock }
func (*conn) rawRead(uintptr) bool           { return true }
func (*conn) rawOpen(uintptr) bool           { return true }
func (*conn) rawFlush(*writeOp) error        { return errWouldBlock }
func (*writeOp) rawWrite(uintptr) bool       { return true }
func (*conn) drain(*writeOp, int, int) error { return errNoSplice }
func (*conn) unread() (int64, bool)          { return 0, false }
func (*conn) peek() peeked                   { return peekUnknown }

func (*ClientConn) rawTurn(uintptr) bool                 { return true }
func (*ClientConn) sendAndFill([]byte, limit, int) error { return errWouldBlock }

func (*peekOp) attach()           {}
func (*peekOp) peek(*conn) peeked { return peekUnknown }

func takePipe() *pipe                               { return nil }
func (*pipe) giveBack()                             {}
func (*pipe) fill(*conn, int64, limit) (int, error) { return 0, errNoSplice }
