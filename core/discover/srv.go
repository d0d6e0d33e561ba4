package discover

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A Service is a Finder of the targets of a SRV name (RFC 2782): priorities become
// tiers, in their order, weights become weights.
type Service struct {
	Resolver *Resolver
	Name     string
	Keep     time.Duration // how long addresses of a target are used while they cannot be looked up

	last recall
}

// Find implements Finder. Targets without addresses are left out. One that cannot be looked
// up has those that it had; if that is so of all of them, that is the error.
func (s *Service) Find(ctx context.Context) (Answer, error) {
	c, err := s.Resolver.config()
	if err != nil {
		return Answer{}, err
	}
	m, err := s.Resolver.query(ctx, c, s.Name, dns.TypeSRV)
	switch {
	case errors.Is(err, errNone):
		return Answer{}, nil
	case err != nil:
		return Answer{}, err
	}
	targets, ttl := targetsIn(m)
	err = s.resolve(ctx, c, targets)
	found, names := false, make(map[string]bool, len(targets))
	for _, t := range targets {
		if len(t.ips) > 0 && !t.kept {
			ttl = shorter(ttl, t.ttl)
			found = true
		}
		names[t.rr.Target] = true
	}
	s.last.retain(names)
	if !found {
		return Answer{}, err
	}
	return Answer{Servers: serversOf(targets), TTL: time.Duration(ttl) * time.Second}, nil
}

// A target is a SRV record and its addresses.
type target struct {
	rr   *dns.SRV
	ips  []string
	ttl  uint32
	kept bool // ips are from before
}

// targetsIn returns the targets of an answer, with the addresses that came along. A
// target "." says that there is no such service.
func targetsIn(m *dns.Msg) (targets []*target, ttl uint32) {
	for _, rr := range m.Answer {
		if _, ok := rr.(*dns.CNAME); ok {
			ttl = shorter(ttl, rr.Header().Ttl)
		}
		srv, ok := rr.(*dns.SRV)
		if !ok || len(targets) == maxTargets {
			continue
		}
		ttl = shorter(ttl, srv.Hdr.Ttl)
		if srv.Target == "." || srv.Port == 0 {
			continue
		}
		t := &target{rr: srv}
		for _, extra := range m.Extra {
			if strings.EqualFold(extra.Header().Name, srv.Target) {
				ips, x := addressesIn([]dns.RR{extra})
				if len(ips) > 0 {
					t.ips, t.ttl = append(t.ips, ips...), shorter(t.ttl, x)
				}
			}
		}
		targets = append(targets, t)
	}
	return targets, ttl
}

// resolve looks up the targets whose addresses did not come along.
func (s *Service) resolve(ctx context.Context, c *dns.ClientConfig, targets []*target) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	errs := make([]error, len(targets))
	for i, t := range targets {
		if len(t.ips) > 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() { // ends with its look, which ctx bounds
			defer func() { <-slots }()
			t.ips, t.ttl, errs[i] = s.Resolver.addressesOf(ctx, c, t.rr.Target, &s.last, s.Keep)
			t.kept = errs[i] != nil
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errNone) {
			return err
		}
	}
	return nil
}

// serversOf makes servers of targets. A target with several addresses shares its weight
// among them: all weights are multiplied so that this comes out even.
func serversOf(targets []*target) (servers []Server) {
	var priorities []uint16
	times := 1
	for _, t := range targets {
		if n := len(t.ips); n > 0 {
			priorities = append(priorities, t.rr.Priority)
			if m := times / gcd(times, n) * n; m <= maxFactor {
				times = m
			}
		}
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	for _, t := range targets {
		tier, _ := slices.BinarySearch(priorities, t.rr.Priority)
		port := portText(t.rr.Port)
		host := net.JoinHostPort(strings.ToLower(strings.TrimSuffix(t.rr.Target, ".")), port)
		for _, ip := range t.ips {
			// Weight 0 is "hardly ever", which 1 among others is.
			weight := max(int(t.rr.Weight), 1) * times / len(t.ips)
			servers = append(servers, Server{Address: net.JoinHostPort(ip, port), Host: host, Weight: max(weight, 1), Tier: tier})
		}
	}
	return servers
}

// maxFactor bounds what weights are multiplied with: 65535 times it is no large number.
const maxFactor = 60

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
