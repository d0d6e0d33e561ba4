package proxy

import (
	"net/netip"
	"strings"

	"wproxy/core/exchange"
)

// forwarded decides what is believed about the client behind the peer, and
// writes x-forwarded-for, -proto and -host for the upstream (RFC 7239 names the
// same things in Forwarded, which is kept and continued when a trusted peer sent it).
//
//   - A peer that is not in trust_proxy speaks for itself only: every
//     x-forwarded-*, forwarded and x-real-ip that it sent is dropped. So is the mark of
//     a mirrored copy: a server that leaves out payments for copies would leave out its.
//   - A peer in trust_proxy is believed: the client is the last address of
//     x-forwarded-for (or else of Forwarded) that is not itself trusted.
//   - Names with "_" for "-" are dropped whoever sent them: many upstreams
//     (CGI, WSGI) cannot tell them apart (CVE-2025-64484).
func (s *Sender) forwarded(h *exchange.Request, trust []netip.Prefix) {
	if !s.Trusted {
		h.Fields.RemoveFunc(speaksForOthers)
		if s.IP != "" {
			h.Fields.Add("x-forwarded-for", s.IP)
		}
		h.Fields.Add("x-forwarded-proto", h.Scheme)
		if h.Authority != "" {
			h.Fields.Add("x-forwarded-host", h.Authority)
		}
		return
	}
	h.Fields.RemoveFunc(underscored)
	peer := s.IP
	chain := h.Fields.Joined("x-forwarded-for")
	elements := h.Fields.Joined("forwarded")
	switch {
	case chain != "":
		s.believe(clientOf(chain, trust, parseForwardedFor))
	case elements != "":
		s.believe(clientOf(elements, trust, parseForwardedElement))
	}
	if chain != "" {
		chain += ", "
	}
	h.Fields.Set("x-forwarded-for", chain+peer)
	if elements != "" {
		h.Fields.Set("forwarded", elements+", for="+forwardedNode(peer)+";proto="+h.Scheme)
	}
	switch proto := h.Fields.Value("x-forwarded-proto"); proto {
	case "http", "https":
		h.Scheme = proto
	default:
		if p := protoOf(elements); chain == "" && p != "" {
			h.Scheme = p
		}
	}
	h.Fields.Set("x-forwarded-proto", h.Scheme)
	if !h.Fields.Has("x-forwarded-host") && h.Authority != "" {
		h.Fields.Add("x-forwarded-host", h.Authority)
	}
}

// believe makes a the client.
func (s *Sender) believe(a netip.Addr) {
	if a.IsValid() {
		s.Addr, s.IP = a, a.String()
	}
}

// speaksForOthers reports whether a field says something about whom the peer
// speaks for.
func speaksForOthers(name string) bool {
	if name == "" || name[0] != 'x' && name[0] != 'f' {
		return false
	}
	if strings.IndexByte(name, '_') >= 0 {
		return underscored(name)
	}
	return name == "forwarded" || name == "x-real-ip" || name == mirrorHeader || strings.HasPrefix(name, "x-forwarded-")
}

// underscored reports whether name becomes such a field when "_" is read as "-".
func underscored(name string) bool {
	const prefix = "x-forwarded-"
	if strings.IndexByte(name, '_') < 0 {
		return false
	}
	if equalDashed(name, "x-real-ip") || equalDashed(name, mirrorHeader) {
		return true
	}
	return len(name) > len(prefix) && equalDashed(name[:len(prefix)], prefix)
}

// equalDashed compares name, "_" read as "-", with want.
func equalDashed(name, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c == '_' {
			c = '-'
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// clientOf walks list from its end, from the peer's neighbour towards the client,
// and returns the first address that is not trusted, or the last one seen. It stops at
// what it cannot parse: what is further left was written by who wrote that.
func clientOf(list string, trust []netip.Prefix, parse func(string) (netip.Addr, bool)) (client netip.Addr) {
	for range maxForwarded {
		i := strings.LastIndexByte(list, ',')
		a, ok := parse(strings.TrimSpace(list[i+1:]))
		if !ok {
			return client
		}
		client = a
		if i < 0 || !containsAddr(trust, a) {
			return client
		}
		list = list[:i]
	}
	return client
}

// parseForwardedFor parses a member of x-forwarded-for: an address, some
// senders add a port.
func parseForwardedFor(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// parseForwardedElement returns the address of a forwarded-element (RFC 7239
// 4, 6). Obfuscated nodes and "unknown" are no addresses.
func parseForwardedElement(s string) (netip.Addr, bool) {
	return parseForwardedFor(pairOf(s, "for"))
}

// protoOf returns "http" or "https" if the last element of a Forwarded list says so.
func protoOf(list string) string {
	switch p := pairOf(list[strings.LastIndexByte(list, ',')+1:], "proto"); p {
	case "http", "https":
		return p
	}
	return ""
}

// pairOf returns the value of a pair of a forwarded-element, unquoted. No value
// of interest contains what would have to be escaped in quotes.
func pairOf(element, name string) string {
	for element != "" {
		var pair string
		pair, element, _ = strings.Cut(element, ";")
		k, v, ok := strings.Cut(pair, "=")
		if ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// forwardedNode formats the peer's address as a node (RFC 7239 6: an IPv6
// address is in brackets and quotes).
func forwardedNode(peer string) string {
	switch {
	case peer == "":
		return "unknown"
	case strings.IndexByte(peer, ':') >= 0:
		return `"[` + peer + `]"`
	default:
		return peer
	}
}
