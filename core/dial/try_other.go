//go:build !linux

package dial

import (
	"errors"
	"syscall"
)

const canTry = false

var errCannotTry = errors.ErrUnsupported

type tryOp struct{}

func (*tryOp) attach()                                   {}
func (*tryOp) read(syscall.RawConn, []byte) (int, error) { return 0, errCannotTry }
