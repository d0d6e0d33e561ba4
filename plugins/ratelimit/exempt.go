package main

import (
	"slices"

	"wproxy/plugins/internal/ipaddr"
	"wproxy/plugins/internal/settings"
)

// exemptions say who is not limited: any that matches is enough.
type exemptions struct {
	clients []ipaddr.Prefix
	headers []headerMatch
}

// A headerMatch matches a request field by its presence or by its exact value.
type headerMatch struct {
	name   string
	any    bool
	values []string
}

// any reports whether somebody may be.
func (e *exemptions) any() bool { return len(e.clients)+len(e.headers) > 0 }

// match reports whether a request is exempt.
func (e *exemptions) match(r request) bool {
	if len(e.clients) > 0 {
		if addr, ok := r.Client(); ok {
			for i := range e.clients {
				if e.clients[i].Contains(addr) {
					return true
				}
			}
		}
	}
	for i := range e.headers {
		h := &e.headers[i]
		if v, ok := r.Header(h.name); ok && (h.any || slices.Contains(h.values, v)) {
			return true
		}
	}
	return false
}

// readExempt reads the table exempt: clients, a list of addresses and CIDRs, and headers, a
// table of a name and a value, several values, or true for any value.
func readExempt(t *settings.Table) exemptions {
	var e exemptions
	in := t.Table("exempt")
	for _, text := range in.Texts("clients") {
		p, ok := ipaddr.ParsePrefix(text)
		if !ok {
			in.Fail("clients", settings.Quote(text)+" is not an address or a network such as 10.0.0.0/8")
		}
		e.clients = append(e.clients, p)
	}
	headers := in.Table("headers")
	for _, name := range headers.Names() {
		v, _ := headers.Value(name)
		m := headerMatch{name: settings.Lower(name), any: v.Kind == settings.Bool && v.True}
		var ok bool
		if m.values, ok = v.Texts(); !ok && !m.any {
			headers.Fail(name, "must be a string, a list of strings, or true for any value")
		}
		if !settings.IsToken(name) {
			headers.Fail(name, "is not the name of a header")
		}
		e.headers = append(e.headers, m)
	}
	if err := in.Done(); err != nil {
		t.Keep(err)
	}
	return e
}
