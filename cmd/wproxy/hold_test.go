package main

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

// holdAddress returns an address of 127.0.0.1 that nobody listens on before somebody names it, in a
// configuration or by net.Listen: whoever wants any port, for a server or for their end of a
// connection, gets another one. Who connects is refused. It is held until atEnd's functions are called.
func holdAddress(atEnd func(func())) (string, error) {
	// A socket that is bound and does not listen keeps its port from all that do not ask for
	// that one, and with SO_REUSEADDR on both sides from nobody else.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", err
	}
	atEnd(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	own, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return "", errors.New("a socket of IPv4 has another name")
	}
	return netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port)).String(), nil //nolint:gosec // a port
}

// freeAddress is holdAddress until the end of the test.
func freeAddress(t testing.TB) string {
	t.Helper()
	addr, err := holdAddress(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
