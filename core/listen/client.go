package listen

import (
	"net/netip"
	"slices"
)

// clients counts open connections by who has them. It is bounded by the connections:
// who has none is not in it.
type clients map[netip.Addr]int

// ClientKey returns what connections of one client have in common: its IPv4 address, or
// the first 64 bits of its IPv6 address, as whoever has one of a network has all.
func ClientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil { // 64 is in range
			return p.Addr()
		}
	}
	return a
}

// SetPerClient changes how many connections one client may have, and who may have
// any number; see Options.PerClient. Connections that are over a lower limit stay.
func (l *Listener) SetPerClient(n int, exempt []netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perClient, l.exempt = n, exempt
}

// admitLocked counts a connection of the client with the key; false: it has too many.
// from is the peer, invalid for a unix socket, which is the machine's own. It is called with mu held.
// Connections are counted without a limit as well: a reload may bring one.
func (l *Listener) admitLocked(key, from netip.Addr) bool {
	if l.perClient > 0 && l.clients[key] >= l.perClient && from.IsValid() &&
		!slices.ContainsFunc(l.exempt, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return false
	}
	l.clients[key]++
	return true
}

// readmit counts c for the client at from instead, whom its peer has named; false: the client
// has too many connections, and c still counts for the peer.
func (l *Listener) readmit(c *conn, from netip.Addr) bool {
	key := ClientKey(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.admitLocked(key, from) {
		return false
	}
	l.forgetLocked(c.client)
	c.client = key
	return true
}

// forgetLocked takes back what admitLocked counted. It is called with mu held.
func (l *Listener) forgetLocked(a netip.Addr) {
	if l.clients[a]--; l.clients[a] <= 0 {
		delete(l.clients, a)
	}
}
