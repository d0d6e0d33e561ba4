package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"

	"wproxy/core/exchange"
)

// prepare makes of a head that came from a codec the one that matching, plugins
// and upstream see: who the client is, what it said about whom it speaks for, and
// a request id.
func (x *state) prepare(h *exchange.Request) {
	x.listener, x.trusted = -1, false
	x.fx.ClientAddr, x.fx.ClientIP = netip.Addr{}, ""
	if h.Conn != nil {
		x.fx.ClientAddr, x.fx.ClientIP = h.Conn.Remote.Addr().Unmap(), h.Conn.RemoteIP
		x.listener = x.snap.listener(h.Conn.Listener)
		if x.listener >= 0 {
			x.trusted = containsAddr(x.snap.Listeners[x.listener].TrustProxy, x.fx.ClientAddr)
		}
	}
	x.rec.Path, x.rec.Method, x.rec.Host = h.Target, h.Method, h.Authority // as sent, before plugins
	x.forwarded(h)
	x.requestID(h)
}

// requestID passes a well-formed x-request-id on and makes one otherwise. It is
// believed whoever sent it: it identifies, it does not authorise; what an
// attacker gains is a log line that says what the attacker chose, next to the address.
func (x *state) requestID(h *exchange.Request) {
	if id, ok := h.Fields.Get("x-request-id"); ok && wellFormedID(id) {
		h.Fields.Set("x-request-id", id) // once
		x.fx.RequestID = id
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
	x.fx.RequestID = string(text[:])
	h.Fields.Set("x-request-id", x.fx.RequestID)
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
