package config

import (
	"fmt"
	"strings"
)

// listenerSocket checks what concerns the socket of a listener, and its first bytes.
func (v *validator) listenerSocket(key, lb string, l *Listener) {
	if l.ProxyProtocol && len(l.TrustProxy) == 0 && !v.reported(key+".trust_proxy") {
		v.addf(key+".proxy_protocol", "%s: proxy_protocol: needs trust_proxy, the peers whose PROXY headers are believed; all others are refused", lb)
	}
	if !strings.HasPrefix(l.Address, "unix:") {
		return
	}
	for _, name := range []string{"reuse_port", "keepalive", "nodelay"} {
		if _, ok := v.f.index[key+"."+name]; ok {
			v.addf(key+"."+name, "%s: %s: is an option of TCP, and %s is a unix socket; leave it out", lb, name, l.Address)
		}
	}
}

// sendProxy checks that the servers of an upstream can be sent a PROXY header.
func (v *validator) sendProxy(u *Upstream, key, lb string) {
	if u.SendProxy == "" {
		return
	}
	for i, s := range u.Servers {
		if s.Network == "builtin" {
			v.addf(fmt.Sprintf("%s.servers[%d]", key, i), "%s: servers: %q is inside this process and knows no PROXY header; leave out send_proxy", lb, s.Address)
		}
	}
}
