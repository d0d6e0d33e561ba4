package listen

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"wproxy/core/exchange"
)

// errConnRefused is what a socket file without a listener answers.
const errConnRefused = syscall.ECONNREFUSED

// accept is the accept goroutine. It ends when the listener was closed.
func (l *Listener) accept() {
	var pause time.Duration
	for l.waitRoom() {
		nc, err := l.ln.Accept()
		if err == nil {
			pause = 0
			l.start(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, syscall.ECONNABORTED) {
			continue // the client left while it was in the backlog: nothing is short
		}
		pause = min(max(2*pause, acceptBackoffMin), acceptBackoffMax)
		if l.o.AcceptError != nil {
			l.o.AcceptError(err, pause)
		}
		l.sleep(pause)
	}
}

// waitRoom waits until another connection may be accepted; false after Close.
func (l *Listener) waitRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.limit >= 0 && l.open >= l.limit && !l.closed {
		l.room.Wait()
	}
	return !l.closed
}

// sleep waits for d, or until Close.
func (l *Listener) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.done:
	}
}

// start gives a connection its goroutine.
func (l *Listener) start(nc net.Conn) {
	c := &conn{Conn: nc}
	from := peerOf(nc)
	settings := l.settings.Load()
	if p := settings.Proxy; p != nil {
		if peer := addrPort(nc.RemoteAddr()); !p.trusts(peer.Addr()) {
			_ = nc.Close() // nothing was read of it
			l.refuse(peer, errUntrusted)
			return
		}
	}
	settings.Socket.apply(nc)
	c.client = ClientKey(from)
	l.mu.Lock()
	ok := l.admitLocked(c.client, from)
	l.mu.Unlock()
	if !ok {
		_ = nc.Close() // nothing was read of it
		if l.o.TooMany != nil {
			l.o.TooMany()
		}
		return
	}
	c.facts.Listener = l.o.Name
	l.setAddresses(&c.facts, nc)

	l.mu.Lock()
	l.open++
	l.total++
	c.facts.ID = l.total
	if c.next = l.head; c.next != nil {
		c.next.prev = c
	}
	l.head = c
	l.mu.Unlock()
	if l.o.NextID != nil {
		c.facts.ID = l.o.NextID()
	}
	if l.o.Opened != nil {
		l.o.Opened()
	}
	l.conns.Add(1)
	go l.run(c, settings.Proxy) // ends when Serve returns; Wait waits
}

// run is a connection's goroutine. With p, it begins with a PROXY header.
func (l *Listener) run(c *conn, p *ProxyProtocol) {
	rests := false
	defer func() { // after a panic, too
		if !rests {
			l.end(c)
		}
	}()
	if p != nil && !l.introduce(c, p) {
		return
	}
	rests = l.o.Serve(l.ctx, c.Conn, &c.facts, func() { l.end(c) })
}

// end forgets a connection.
func (l *Listener) end(c *conn) {
	_ = c.Close() // usually closed already by Serve
	l.mu.Lock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	l.open--
	l.forgetLocked(c.client)
	l.mu.Unlock()
	l.room.Signal() // only the accept goroutine waits
	if l.o.Closed != nil {
		l.o.Closed()
	}
	l.conns.Done()
}

// setAddresses fills in the addresses. A peer on a unix socket has none: it is
// on this machine, so it counts as loopback. Called by the accept goroutine only.
func (l *Listener) setAddresses(f *exchange.Conn, nc net.Conn) {
	f.Remote, f.Local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	setRemoteText(f)
	if f.Local != l.lastLocal {
		l.lastLocal, l.lastLocalAddr = f.Local, f.Local.String()
		if ua, ok := nc.LocalAddr().(*net.UnixAddr); ok {
			l.lastLocalAddr = String(ua)
		}
	}
	f.LocalAddr = l.lastLocalAddr
}

// peerOf returns the address of the peer; invalid: it has none.
func peerOf(nc net.Conn) netip.Addr {
	ta, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return plain(ta.AddrPort().Addr())
}

// plain returns a as CIDRs match it: an IPv4-mapped IPv6 address (what a socket bound to every
// address reports) as the IPv4 address that it is, and one of a link without its zone. No
// netip.Prefix contains an address with a zone, so that "deny" would let it in.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// addrPort converts a, which is plain then.
func addrPort(a net.Addr) netip.AddrPort {
	ta, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	ap := ta.AddrPort()
	return netip.AddrPortFrom(plain(ap.Addr()), ap.Port())
}
