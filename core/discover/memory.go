package discover

import (
	"cmp"
	"slices"
	"time"
)

// A Server is one server that was found. Values are comparable.
type Server struct {
	Address string // as in the configuration's servers: "10.0.0.1:8080", "unix:/path", ...
	Host    string // what it is called, "api.internal:8080"; "": as its address says
	Weight  int    // at least 1
	Tier    int    // 0 is used first
}

// An Answer is what a look has found.
type Answer struct {
	Servers []Server
	TTL     time.Duration // how long that is good for; 0: nothing is known
}

// A memory is what is used, and why. It is a value: next makes the next one.
type memory struct {
	servers []Server  // in use, sorted by address
	good    time.Time // when the last answer with servers came; zero: never
	failing bool      // the last look found nothing, or failed
	reason  string    // why
}

// normal sorts servers, so that the order of an answer does not matter, and leaves out
// repeats and what is beyond MaxServers.
func normal(servers []Server) []Server {
	s := slices.Clone(servers)
	slices.SortFunc(s, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Tier, b.Tier), cmp.Compare(b.Weight, a.Weight))
	})
	s = slices.CompactFunc(s, func(a, b Server) bool { return a.Address == b.Address })
	return s[:min(len(s), MaxServers)]
}

// next returns what is used after a look at now, of which err, if not nil, is what has
// become. keep is how long servers are kept that are not found any more; forever says
// that failed looks, unlike empty answers, do not count for that.
func (m memory) next(a Answer, err error, keep time.Duration, forever bool, now time.Time) memory {
	n := m
	switch {
	case err == nil && len(a.Servers) > 0:
		return memory{servers: normal(a.Servers), good: now}
	case err != nil:
		n.reason = err.Error()
	default:
		n.reason = "no servers"
	}
	n.failing = true
	if err != nil && forever {
		return n
	}
	if now.Sub(m.good) >= keep {
		n.servers = nil
	}
	return n
}

// difference lists the addresses that are new, and those that are gone.
func difference(old, servers []Server) (added, removed []string) {
	was, is := addresses(old), addresses(servers)
	for _, s := range servers {
		if !was[s.Address] {
			added = append(added, s.Address)
		}
	}
	for _, s := range old {
		if !is[s.Address] {
			removed = append(removed, s.Address)
		}
	}
	return added, removed
}

func addresses(servers []Server) map[string]bool {
	m := make(map[string]bool, len(servers))
	for _, s := range servers {
		m[s.Address] = true
	}
	return m
}
