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
	Tiers   []explainedTier `json:"tiers"`
	Balance string          `json:"balance"`
	Key     string          `json:"key,omitempty"`    // what ties the request to a server
	Sticky  string          `json:"sticky,omitempty"` // the cookie
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
		s.Tiers = tiersOf(u)
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
		line(key, "%s  %s of requests  (%s)", u.Name, u.Share, strings.Join(u.Servers, ", "))
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
