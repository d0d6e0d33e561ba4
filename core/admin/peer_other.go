//go:build !linux

package admin

import "net"

// sameUser trusts the mode of the socket file where the kernel is not asked.
func sameUser(*net.UnixConn) bool { return true }
