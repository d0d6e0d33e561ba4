package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// errNone is an answer that says that there is nothing: the name does not exist, or
// has no such records.
var errNone = errors.New("no such name or records")

// A Resolver asks DNS servers. Unlike package net's it tells how long an answer
// is good for. It keeps nothing: Source does.
type Resolver struct {
	// Servers are asked in order, as host:port; none: those of Config, which is then
	// also asked for search, ndots, timeout and attempts, anew for each look.
	Servers []string
	Config  string // "": /etc/resolv.conf
	Port    string // of the servers of Config; "": 53
}

// config returns whom to ask, and how.
func (r *Resolver) config() (*dns.ClientConfig, error) {
	if len(r.Servers) > 0 {
		return &dns.ClientConfig{Servers: r.Servers, Ndots: 1, Timeout: int(queryTime / time.Second), Attempts: queryTries}, nil
	}
	path := r.Config
	if path == "" {
		path = "/etc/resolv.conf"
	}
	c, err := dns.ClientConfigFromFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(c.Servers) == 0 {
		return &dns.ClientConfig{Servers: []string{"127.0.0.1:53"}, Ndots: 1, Timeout: 2, Attempts: queryTries}, nil // resolv.conf(5)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, bare(err))
	}
	for i, s := range c.Servers {
		c.Servers[i] = net.JoinHostPort(s, cmp.Or(r.Port, c.Port))
	}
	return c, nil
}

// query asks for the records of a type of name, which is tried with the search list. It
// returns errNone if there are none.
func (r *Resolver) query(ctx context.Context, c *dns.ClientConfig, name string, kind uint16) (*dns.Msg, error) {
	last := errNone
	for _, full := range c.NameList(name) {
		m, err := exchange(ctx, c, full, kind)
		switch {
		case err == nil:
			return m, nil
		case !errors.Is(err, errNone):
			last = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// exchange asks one DNS server after the other, until one has an answer.
func exchange(ctx context.Context, c *dns.ClientConfig, name string, kind uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	q.SetEdns0(udpSize, false)
	limit := min(max(time.Duration(c.Timeout)*time.Second, 100*time.Millisecond), queryTime)
	var last error
	for range max(c.Attempts, 1) {
		for _, server := range c.Servers {
			m, err := ask(ctx, q, server, limit)
			if err == nil || errors.Is(err, errNone) {
				return m, err
			}
			last = err
			if ctx.Err() != nil {
				return nil, last
			}
		}
	}
	return nil, last
}

// ask asks one server, over TCP if the answer does not fit into UDP.
func ask(ctx context.Context, q *dns.Msg, server string, limit time.Duration) (*dns.Msg, error) {
	q.Id = dns.Id()
	client := dns.Client{Timeout: limit, UDPSize: udpSize}
	m, _, err := client.ExchangeContext(ctx, q, server)
	if err == nil && m.Truncated {
		client.Net = "tcp"
		m, _, err = client.ExchangeContext(ctx, q, server)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", strings.TrimSuffix(q.Question[0].Name, "."), err)
	case len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name):
		return nil, fmt.Errorf("%s: %s answers another question", q.Question[0].Name, server)
	case m.Rcode == dns.RcodeNameError, m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0:
		return nil, errNone
	case m.Rcode != dns.RcodeSuccess:
		return nil, fmt.Errorf("%s: %s answers %s", strings.TrimSuffix(q.Question[0].Name, "."), server, dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// addressesOf returns the addresses of name, A and AAAA, and for how long they are good.
// Of a type that cannot be had, those that k has of it count for keep; if there are none
// the other type has to do. With an error, nothing of what it returns is new.
func (r *Resolver) addressesOf(ctx context.Context, c *dns.ClientConfig, name string, k *recall, keep time.Duration) (ips []string, ttl uint32, err error) {
	type result struct {
		m   *dns.Msg
		err error
	}
	six := make(chan result, 1)
	go func() { // ends with its query, which ctx bounds
		m, err := r.query(ctx, c, name, dns.TypeAAAA)
		six <- result{m, err}
	}()
	m, err := r.query(ctx, c, name, dns.TypeA)
	other := <-six
	found := false
	for kind, x := range map[uint16]result{dns.TypeA: {m, err}, dns.TypeAAAA: other} {
		var now []string
		if x.err == nil {
			var t uint32
			now, t = addressesIn(x.m.Answer)
			ttl = shorter(ttl, t)
			found = found || len(now) > 0
		}
		ips = append(ips, k.take(question{name, kind}, now, x.err, keep, time.Now())...)
	}
	switch {
	case found:
		return ips, ttl, nil
	case err != nil && !errors.Is(err, errNone):
		return ips, 0, err
	case other.err != nil:
		return ips, 0, other.err
	default:
		return nil, 0, errNone
	}
}

// addressesIn returns the addresses in records, and the shortest TTL of all of them: a
// CNAME on the way counts too.
func addressesIn(records []dns.RR) (ips []string, ttl uint32) {
	for _, rr := range records {
		switch a := rr.(type) {
		case *dns.A:
			ips = appendAddress(ips, a.A)
		case *dns.AAAA:
			ips = appendAddress(ips, a.AAAA)
		case *dns.CNAME:
		default:
			continue
		}
		ttl = shorter(ttl, rr.Header().Ttl)
	}
	return ips, ttl
}

// appendAddress appends ip if there can be a server at it. A record may have none, and a
// DNS server that filters answers 0.0.0.0, to which a connection would be one to ourselves.
func appendAddress(ips []string, ip net.IP) []string {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ips
	}
	return append(ips, a.String())
}

// shorter returns the shorter of two TTLs in seconds. a 0 is none yet; b 0 is "do not
// keep", the shortest that there is.
func shorter(a, b uint32) uint32 {
	b = max(b, 1)
	if a == 0 {
		return b
	}
	return min(a, b)
}

// A Name is a Finder of the addresses of a name.
type Name struct {
	Resolver *Resolver
	Name     string
	Port     string
	Keep     time.Duration // how long addresses of one type are used while only those of the other are found

	last recall
}

// Find implements Finder.
func (n *Name) Find(ctx context.Context) (Answer, error) {
	c, err := n.Resolver.config()
	if err != nil {
		return Answer{}, err
	}
	ips, ttl, err := n.Resolver.addressesOf(ctx, c, n.Name, &n.last, n.Keep)
	switch {
	case errors.Is(err, errNone):
		return Answer{}, nil
	case err != nil:
		return Answer{}, err
	}
	a := Answer{TTL: time.Duration(ttl) * time.Second}
	host := net.JoinHostPort(strings.TrimSuffix(n.Name, "."), n.Port)
	for _, ip := range ips {
		a.Servers = append(a.Servers, Server{Address: net.JoinHostPort(ip, n.Port), Host: host, Weight: 1})
	}
	return a, nil
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// bare takes operation and path off an error of package os.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
