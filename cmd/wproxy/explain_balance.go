package main

import (
	"fmt"
	"slices"
	"strings"

	"wproxy/core/balance"
	"wproxy/core/config"
	"wproxy/core/exchange"
)

// An explainedShare is an upstream of a route, and how its servers are picked.
type explainedShare struct {
	Name    string          `json:"name"`
	Share   string          `json:"share"`
	Servers []string        `json:"servers"`
	Speaks  string          `json:"speaks,omitempty"` // where it is not HTTP/1.1 in clear
	Tiers   []explainedTier `json:"tiers"`
	Balance string          `json:"balance"`
	Key     string          `json:"key,omitempty"`    // what ties the request to a server
	Sticky  string          `json:"sticky,omitempty"` // the cookie

	Discover string `json:"discover,omitempty"` // where servers are found
	Health   string `json:"health,omitempty"`   // how they are asked whether they are well
	Outlier  string `json:"outlier,omitempty"`  // what ejects them
}

// An explainedTier are servers that are used when none before is available.
type explainedTier struct {
	Tier    string   `json:"tier"` // "priority 0", "backup"
	Servers []string `json:"servers"`
}

// shape adds where the request goes, and what else is done to it.
func (e *explanation) shape(f *config.File, p *plan) {
	r := p.conf
	sum := 0
	for _, t := range r.Upstream {
		sum += t.Weight
	}
	for _, t := range r.Upstream {
		u := f.Upstreams[t.Upstream]
		s := explainedShare{
			Name: t.Upstream, Share: config.Percent(float64(t.Weight) / float64(sum)).String(), Balance: u.Balance,
		}
		for _, server := range u.Servers {
			s.Servers = append(s.Servers, server.Address)
		}
		s.Tiers, s.Speaks = tiersOf(u), speaks(u)
		if balance.Algorithm(u.Balance).Hashes() {
			s.Key = keyText(u.HashKey, p)
			if u.HashBound > 0 {
				s.Balance += ", at most " + u.HashBound.String() + " of an even share each"
			}
		}
		if u.SlowStart > 0 {
			s.Balance += ", slow start of " + config.FormatDuration(u.SlowStart)
		}
		if u.Sticky != nil {
			s.Sticky = u.Sticky.Cookie
		}
		explainHealth(&s, u)
		e.Upstream = append(e.Upstream, s)
	}
	switch s := r.Split; {
	case len(r.Upstream) < 2:
	case s == nil:
		e.Split = "by chance"
	case s.Cookie != "":
		e.Split = "kept by the cookie " + s.Cookie
	default:
		e.Split = "kept by " + keyText(s.Hash, p)
	}
	if m := r.Mirror; m != nil {
		e.Mirror = fmt.Sprintf("%s of requests, with up to %s of body, to %s", m.Share, m.Body, m.Upstream)
	}
	e.Fault = faultText(r.Fault, &p.head.Fields)
}

// speaks says what is spoken to the servers of u; "": HTTP/1.1 in clear, to all.
func speaks(u *config.Upstream) string {
	schemes := map[string]bool{}
	for _, s := range u.Servers {
		schemes[s.Scheme] = true
	}
	if u.Discover != nil { // all alike
		schemes["https"], schemes["http"] = u.TLS != nil, u.TLS == nil
	}
	var ways []string
	for _, scheme := range []string{"http", "https"} {
		if !schemes[scheme] {
			continue
		}
		way := map[string]string{"auto": "HTTP/1.1", "h1": "HTTP/1.1", "h2": "HTTP/2"}[u.Connect.Protocol]
		if scheme == "https" {
			if u.Connect.Protocol == "auto" {
				way = "HTTP/2 or HTTP/1.1"
			}
			way += " over TLS"
			if u.TLS.InsecureSkipVerify {
				way += ", not verified"
			}
		}
		if u.SendProxy != "" {
			way += ", PROXY " + u.SendProxy
		}
		ways = append(ways, way)
	}
	if slices.Equal(ways, []string{"HTTP/1.1"}) {
		return ""
	}
	return strings.Join(ways, "; ")
}

// explainHealth says how it is known which servers there are, and which are well.
func explainHealth(s *explainedShare, u *config.Upstream) {
	if d := u.Discover; d != nil {
		s.Discover = d.DNS
		if d.File != "" {
			s.Discover = d.File
		}
	}
	if h := u.Health; h != nil {
		what := h.Protocol
		switch {
		case h.Protocol == "http":
			what = h.Method + " " + h.Path
		case h.Service != "":
			what += " " + h.Service
		}
		s.Health = fmt.Sprintf("%s every %s, up after %d, down after %d", what, config.FormatDuration(h.Every), h.Up, h.Down)
	}
	if o := u.Outlier; o != nil {
		var why []string
		if o.Errors > 0 {
			why = append(why, fmt.Sprintf("%d failures in a row", o.Errors))
		}
		if o.Ratio > 0 {
			why = append(why, fmt.Sprintf("%s within %s", o.Ratio, config.FormatDuration(o.Window)))
		}
		s.Outlier = strings.Join(why, " or ") + ": out for " + config.FormatDuration(o.Eject)
	}
}

// tiersOf lists the servers of u by tier, best first.
func tiersOf(u *config.Upstream) []explainedTier {
	byTier := map[int][]string{}
	var order []int
	for _, s := range u.Servers {
		t := tierOf(s)
		if byTier[t] == nil {
			order = append(order, t)
		}
		byTier[t] = append(byTier[t], s.Address)
	}
	slices.Sort(order)
	var tiers []explainedTier
	for _, t := range order {
		name := fmt.Sprintf("priority %d", t)
		if t == backupTier {
			name = "backup"
		}
		tiers = append(tiers, explainedTier{name, byTier[t]})
	}
	return tiers
}

// keyText says what the key of the request is: whether it has one, and not its value,
// which may be a session.
func keyText(key string, p *plan) string {
	kind, name, err := config.ParseKey(key)
	if err != nil {
		return key
	}
	var there bool
	switch kind {
	case "client-ip":
		there = p.sender.IP != ""
	case "header":
		_, there = p.head.Fields.Get(name)
	default:
		return key
	}
	if !there {
		return key + ", which this request does not have: by chance"
	}
	return key
}

// faultText says what would be done to the request.
func faultText(f *config.Fault, fields *exchange.Fields) string {
	if f == nil {
		return ""
	}
	if f.Header != "" {
		if _, ok := fields.Get(strings.ToLower(f.Header)); !ok {
			return "none without the field " + f.Header
		}
	}
	var parts []string
	if f.Delay > 0 {
		parts = append(parts, fmt.Sprintf("%s of requests wait for %s", f.DelayShare, config.FormatDuration(f.Delay)))
	}
	if f.Abort != 0 {
		parts = append(parts, fmt.Sprintf("%s get %d", f.AbortShare, f.Abort))
	}
	return strings.Join(parts, ", ")
}

// balancing writes it for people.
func (e *explanation) balancing(line func(key, format string, args ...any)) {
	for i, u := range e.Upstream {
		key := ""
		if i == 0 {
			key = "upstream"
		}
		where := strings.Join(u.Servers, ", ")
		if u.Discover != "" {
			where = "found: " + u.Discover
		}
		text := fmt.Sprintf("%s  %s of requests  (%s)", u.Name, u.Share, where)
		if u.Speaks != "" {
			text += "  " + u.Speaks
		}
		line(key, "%s", text)
		for _, x := range []struct{ key, text string }{{"health", u.Health}, {"outlier", u.Outlier}} {
			if x.text != "" {
				line("", "  %s %s", x.key, x.text)
			}
		}
		if len(u.Servers) == 1 {
			continue
		}
		line("", "  balance %s", u.Balance)
		if u.Key != "" {
			line("", "  key %s", u.Key)
		}
		if u.Sticky != "" {
			line("", "  kept by the cookie %s", u.Sticky)
		}
		if len(u.Tiers) > 1 {
			for _, t := range u.Tiers {
				line("", "  %s: %s", t.Tier, strings.Join(t.Servers, ", "))
			}
		}
	}
	for _, x := range []struct{ key, text string }{{"split", e.Split}, {"mirror", e.Mirror}, {"fault", e.Fault}} {
		if x.text != "" {
			line(x.key, "%s", x.text)
		}
	}
}
