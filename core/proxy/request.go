package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"

	"wproxy/core/exchange"
)

// A Sender is who sent a request, as far as that is believed.
type Sender struct {
	Addr      netip.Addr // the client: the peer, or whom a trusted peer speaks for
	IP        string     // Addr.String()
	Trusted   bool       // the peer is in trust_proxy
	RequestID string
}

// Prepare makes of a head that came from a codec the one that matching, plugins
// and upstream see, and says who sent it: x-forwarded-* and forwarded as
// trust_proxy has it, a request id, and the authority as strip_port has it. The peer is h.Conn's; without one, or
// without an address, nobody is trusted. A nil l trusts nobody.
func (l *Listener) Prepare(h *exchange.Request) Sender {
	var s Sender
	var trust []netip.Prefix
	if h.Conn != nil {
		s.Addr, s.IP = h.Conn.Remote.Addr().Unmap(), h.Conn.RemoteIP
		if l != nil {
			trust = l.TrustProxy
			s.Trusted = containsAddr(trust, s.Addr) && !h.Conn.IsUnnamed()
		}
	}
	s.forwarded(h, trust)
	l.certFields(h)
	if l != nil && l.StripPort {
		h.StripPort() // x-forwarded-host has it still
	}
	s.requestID(h)
	return s
}

// prepare is Prepare for the exchange's own request.
func (x *state) prepare(h *exchange.Request) {
	x.listener = -1
	var l *Listener
	if h.Conn != nil {
		if x.listener = x.snap.listener(h.Conn.Listener); x.listener >= 0 {
			l = x.snap.Listeners[x.listener]
		}
	}
	x.rec.Path, x.rec.Method, x.rec.Host = h.Target, h.Method, h.Authority // as sent, before plugins
	s := l.Prepare(h)
	x.fx.ClientAddr, x.fx.ClientIP, x.fx.RequestID = s.Addr, s.IP, s.RequestID
	if x.snap.Tracer != nil || x.snap.Debug.set {
		x.beginTrace(h, s.Trusted)
	}
}

// requestID passes a well-formed x-request-id on and makes one otherwise. It is
// believed whoever sent it: it identifies, it does not authorise; what an
// attacker gains is a log line that says what the attacker chose, next to the address.
func (s *Sender) requestID(h *exchange.Request) {
	if id, ok := h.Fields.Get("x-request-id"); ok && wellFormedID(id) {
		h.Fields.Set("x-request-id", id) // once
		s.RequestID = id
		return
	}
	var raw [16]byte
	var text [32]byte
	// Not a secret, but not to be guessed either: math/rand/v2's top-level
	// functions are ChaCha8 with a random seed.
	for i, v := 0, rand.Uint64(); i < 8; i++ {
		raw[i], v = byte(v), v>>8
	}
	for i, v := 8, rand.Uint64(); i < 16; i++ {
		raw[i], v = byte(v), v>>8
	}
	hex.Encode(text[:], raw[:])
	s.RequestID = string(text[:])
	h.Fields.Set("x-request-id", s.RequestID)
}

func wellFormedID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-_.:/+=@", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// apply edits the fields of a head.
func (e *HeaderEdits) apply(f *exchange.Fields) {
	for _, name := range e.Remove {
		f.Remove(name)
	}
	for _, x := range e.Set {
		f.Set(x.Name, x.Value)
	}
	for _, x := range e.Add {
		f.Add(x.Name, x.Value)
	}
}

// hopByHop reports whether a field is between two neighbours only (RFC 9110
// 7.6.1). Codecs have removed them; a plugin may have added some.
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
		"transfer-encoding", "upgrade", "http2-settings", "host":
		return true
	}
	return false
}
