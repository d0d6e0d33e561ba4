package proxy

import (
	"net/netip"
	"strconv"
	"strings"

	"wproxy/core/exchange"
)

// Policies know what is asked of the certificates of clients that come for a host. names
// are hosts without port, in lower case.
type Policies interface {
	// Policy names the rules; "": nothing is asked. Equal names, equal rules.
	Policy(name string) string
	// Has reports whether one of the certificates is for the name.
	Has(name string) bool
}

// Why a request is refused before a route is found.
const (
	reasonMisdirected = "misdirected"
)

// Misdirected reports whether a request for h's host must not be answered on h's connection
// (RFC 9110 15.5.20: 421, after which a client opens another):
//
//   - the rules for clients' certificates of that host are others than those of
//     the connection. A client that has proven to be somebody for one host has not
//     done so for another that asks another CA; nor has one that proved nothing.
//   - the client asked for another host in its handshake (SNI), and the certificate that
//     it was shown is not for this one, so that it cannot think that it is here.
//     Hosts that are in one certificate share connections in h2 (RFC 9113 9.1.1).
func (l *Listener) Misdirected(h *exchange.Request) bool {
	c := h.Conn
	if l == nil || l.Secure == nil || c == nil || c.TLS == nil {
		return false
	}
	host := hostOf(h.Authority)
	if l.Secure.Policy(host) != c.ClientPolicy {
		return true
	}
	name := strings.TrimSuffix(c.TLS.ServerName, ".") // crypto/tls takes both
	if name == "" || host == "" || strings.EqualFold(name, host) {
		return false
	}
	if c.Certificate != nil && c.Certificate.VerifyHostname(host) == nil {
		return false
	}
	// Neither name is in a certificate: both get the default one.
	return l.Secure.Has(host) || l.Secure.Has(strings.ToLower(name))
}

// stricter reports whether h's host, which a plugin has chosen, asks for a
// certificate that the client has not shown. A host that asks for none may be chosen
// freely: it may be the upstream's name.
func (l *Listener) stricter(h *exchange.Request) bool {
	if l == nil || l.Secure == nil || h.Conn == nil || h.Conn.TLS == nil {
		return false
	}
	p := l.Secure.Policy(hostOf(h.Authority))
	return p != "" && p != h.Conn.ClientPolicy
}

// hostOf returns a canonical authority without its port, and an address without brackets.
func hostOf(authority string) string {
	if strings.HasPrefix(authority, "[") {
		host, _, _ := strings.Cut(authority[1:], "]")
		return host
	}
	host, _, _ := strings.Cut(authority, ":")
	return host
}

// certFields makes the fields about the client's certificate ours.
func (l *Listener) certFields(h *exchange.Request) {
	if l == nil || !l.DropCertFields {
		return
	}
	h.Fields.RemoveFunc(exchange.SpeaksForCertificate)
	if l.CertFields && h.Conn != nil && h.Conn.Identity != nil {
		for _, f := range h.Conn.Identity.Fields() {
			h.Fields.Add(f.Name, f.Value)
		}
	}
}

// cleanTrailer drops what speaks for others, or for a certificate, from a request's trailer, whoever
// sent it: it belongs into heads, and upstreams that merge both would believe it.
func (x *state) cleanTrailer(f *exchange.Fields) {
	f.RemoveFunc(speaksForOthers)
	if x.listener >= 0 && x.snap.Listeners[x.listener].DropCertFields {
		f.RemoveFunc(exchange.SpeaksForCertificate)
	}
}

// UpgradeLocation returns where a request is redirected to that should have come with TLS;
// "": it may stay. One that a trusted proxy has taken over TLS would be sent in a circle.
// Without a host there is no place to send it to, and ok is false.
func (l *Listener) UpgradeLocation(h *exchange.Request) (to string, ok bool) {
	if l == nil || l.Upgrade == nil || h.Scheme == "https" {
		return "", true
	}
	host := hostOf(h.Authority)
	if host == "" {
		return "", false
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	if port := l.Upgrade(); port != 443 && port != 0 {
		host += ":" + strconv.Itoa(port)
	}
	target := h.Target
	if target == "*" { // OPTIONS *
		target = ""
	}
	return "https://" + host + target, true
}

// atDoor answers what does not come to a route: what is on the wrong connection, and what
// should have come with TLS.
func (x *state) atDoor(h *exchange.Request) (done bool, err error) {
	if x.listener < 0 {
		return false, nil
	}
	l := x.snap.Listeners[x.listener]
	if l.Secure != nil && l.Misdirected(h) {
		return true, x.refuse(421, reasonMisdirected)
	}
	if l.Upgrade == nil {
		return false, nil
	}
	switch to, ok := l.UpgradeLocation(h); {
	case !ok:
		return true, x.refuse(400, "missing_host")
	case to != "":
		x.last = outlet{x}
		if x.claim() {
			x.reply(308, "", &exchange.Field{Name: "location", Value: to}) // RFC 9110 15.4.9: the method stays
			x.pushed()
		}
		return true, exchange.ErrAnswered
	}
	return false, nil
}
