package listen

import (
	"net"
	"syscall"
	"time"
)

// Socket are options of the sockets of a listener. The zero value is what suits a proxy.
// Those of TCP mean nothing to unix sockets.
type Socket struct {
	// ReusePort lets other sockets, of this process or another one of the same user, be
	// bound to the same address, if they have it too: the kernel shares new connections
	// out among them (SO_REUSEPORT).
	ReusePort bool

	// Backlog is how many connections the kernel queues that are not accepted yet. 0: as
	// many as it allows, which is also the most that it takes for more.
	Backlog int

	// KeepAlive finds clients that vanished without a FIN: after Idle of silence come Count
	// probes with Interval between them. 0: as in limits.go. NoKeepAlive: none of it.
	KeepAlive   KeepAlive
	NoKeepAlive bool

	// Delay leaves TCP_NODELAY off: the kernel holds small writes back until those before
	// them have arrived. A proxy flushes at the edges of messages and nowhere else, so it
	// is off only for links where every packet counts.
	Delay bool
}

// KeepAlive are the times of keep-alive of TCP, in whole seconds.
type KeepAlive struct {
	Idle, Interval time.Duration
	Count          int
}

// apply sets the options of a connection that was accepted. Those that cannot be set
// are those of a connection that is dead already.
func (s *Socket) apply(nc net.Conn) {
	c, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if s.Delay {
		_ = c.SetNoDelay(false) // on is how Go begins
	}
	if s.NoKeepAlive {
		_ = c.SetKeepAlive(false) // bind has told Go so, but nobody has where the socket was inherited
		return
	}
	k := net.KeepAliveConfig{Enable: true, Idle: s.KeepAlive.Idle, Interval: s.KeepAlive.Interval, Count: s.KeepAlive.Count}
	if k.Idle == 0 {
		k.Idle = keepAliveIdle
	}
	if k.Interval == 0 {
		k.Interval = keepAliveInterval
	}
	if k.Count == 0 {
		k.Count = keepAliveCount
	}
	_ = c.SetKeepAliveConfig(k)
}

// control sets what has to be set before a socket is bound.
func (s *Socket) control(_, _ string, c syscall.RawConn) error {
	if !s.ReusePort {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) { err = reusePort(fd) }); e != nil {
		return e
	}
	return err
}

// listen makes ln queue Backlog connections: listen(2) may be called again.
func (s *Socket) listen(ln net.Listener) error {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil
	}
	c, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if e := c.Control(func(fd uintptr) { err = backlog(fd, s.Backlog) }); e != nil {
		return e
	}
	return err
}
