package discover_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wproxy/core/discover"
)

// A zone is a DNS server on loopback, over UDP and TCP on one port.
type zone struct {
	address string
	queries atomic.Int64
	tcp     atomic.Int64

	mu      sync.Mutex
	records map[string][]string // "name. TYPE" -> records as text
	extra   []string
	rcode   map[string]int
	cut     bool // answers over UDP
}

func newZone(t *testing.T) *zone {
	t.Helper()
	z := &zone{records: map[string][]string{}, rcode: map[string]int{}}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.address = pc.LocalAddr().String()
	l, err := net.Listen("tcp", z.address)
	if err != nil {
		t.Skipf("the TCP port with the number of a free UDP port is taken: %v", err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: l, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

// set makes the records of a name, which are in records' own text form.
func (z *zone) set(key string, records ...string) {
	z.mu.Lock()
	z.records[key] = records
	z.mu.Unlock()
}

// fail makes the code of the answer about key.
func (z *zone) fail(key string, code int) {
	z.mu.Lock()
	z.rcode[key] = code
	z.mu.Unlock()
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.queries.Add(1)
	z.mu.Lock()
	defer z.mu.Unlock()
	key := q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
	m := new(dns.Msg)
	m.SetReply(q)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); !udp {
		z.tcp.Add(1)
	} else if z.cut {
		m.Truncated = true
		_ = w.WriteMsg(m)
		return
	}
	m.Rcode = z.rcode[key]
	records, ok := z.records[key]
	if !ok && m.Rcode == 0 {
		m.Rcode = dns.RcodeNameError
	}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	for _, r := range z.extra {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		m.Extra = append(m.Extra, rr)
	}
	_ = w.WriteMsg(m)
}

func texts(a discover.Answer) []string {
	var all []string
	for _, s := range a.Servers {
		all = append(all, fmt.Sprintf("%s %s w%d t%d", s.Address, s.Host, s.Weight, s.Tier))
	}
	slices.Sort(all)
	return all
}

func TestName(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	r := &discover.Resolver{Servers: []string{z.address}}
	find := func(name string, ttl time.Duration, want ...string) {
		t.Helper()
		a, err := (&discover.Name{Resolver: r, Name: name, Port: "8080"}).Find(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := texts(a); !slices.Equal(got, want) || a.TTL != ttl {
			t.Errorf("%s: got %q for %v, want %q for %v", name, got, a.TTL, want, ttl)
		}
	}
	z.set("a.test. A", "a.test. 60 A 10.0.0.1", "a.test. 60 A 10.0.0.2")
	find("a.test", time.Minute, "10.0.0.1:8080 a.test:8080 w1 t0", "10.0.0.2:8080 a.test:8080 w1 t0")
	z.set("a.test. AAAA", "a.test. 5 AAAA 2001:db8::1")
	find("a.test.", 5*time.Second, "10.0.0.1:8080 a.test:8080 w1 t0", "10.0.0.2:8080 a.test:8080 w1 t0", "[2001:db8::1]:8080 a.test:8080 w1 t0")
	z.set("c.test. A", "c.test. 3 CNAME a.test.", "a.test. 60 A 10.0.0.1")
	find("c.test", 3*time.Second, "10.0.0.1:8080 c.test:8080 w1 t0")
	z.set("zero.test. A", "zero.test. 0 A 10.0.0.1")
	find("zero.test", time.Second, "10.0.0.1:8080 zero.test:8080 w1 t0")
	find("none.test", 0)
	z.set("nodata.test. A")
	find("nodata.test", 0)

	// One of the two types fails: the other one has to do.
	z.set("half.test. A", "half.test. 60 A 10.0.0.1")
	z.fail("half.test. AAAA", dns.RcodeServerFailure)
	find("half.test", time.Minute, "10.0.0.1:8080 half.test:8080 w1 t0")

	z.fail("broken.test. A", dns.RcodeServerFailure)
	_, err := (&discover.Name{Resolver: r, Name: "broken.test", Port: "1"}).Find(t.Context())
	if err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("got %v", err)
	}
}

// TestUnusableAddresses: what nobody can be at is not found. A filter that answers
// 0.0.0.0 for names it does not like would have requests sent to wproxy's own machine.
func TestUnusableAddresses(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	r := &discover.Resolver{Servers: []string{z.address}}
	z.set("sink.test. A", "sink.test. 60 A 0.0.0.0", "sink.test. 60 A 224.0.0.1", "sink.test. 60 A 255.255.255.255")
	z.set("sink.test. AAAA", "sink.test. 60 AAAA ::", "sink.test. 60 AAAA ff02::1", "sink.test. 60 AAAA ::ffff:0.0.0.0")
	a, err := (&discover.Name{Resolver: r, Name: "sink.test", Port: "80"}).Find(t.Context())
	if err != nil || len(a.Servers) != 0 {
		t.Errorf("got %q, %v", texts(a), err)
	}
	z.set("some.test. A", "some.test. 60 A 10.0.0.1", "some.test. 60 A \\# 0", "some.test. 60 A 0.0.0.0")
	a, err = (&discover.Name{Resolver: r, Name: "some.test", Port: "80"}).Find(t.Context())
	if err != nil || len(a.Servers) != 1 || a.Servers[0].Address != "10.0.0.1:80" {
		t.Errorf("got %q, %v", texts(a), err)
	}
}

// TestResolverServers asks the second server when the first says nothing useful.
func TestResolverServers(t *testing.T) {
	t.Parallel()
	broken, good := newZone(t), newZone(t)
	broken.fail("a.test. A", dns.RcodeServerFailure)
	broken.fail("a.test. AAAA", dns.RcodeRefused)
	good.set("a.test. A", "a.test. 60 A 10.0.0.1")
	r := &discover.Resolver{Servers: []string{"127.0.0.1:1", broken.address, good.address}}
	a, err := (&discover.Name{Resolver: r, Name: "a.test", Port: "80"}).Find(t.Context())
	if err != nil || len(a.Servers) != 1 {
		t.Errorf("got %v, %v", a, err)
	}
	if broken.queries.Load() == 0 {
		t.Error("the broken one was not asked")
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	z.cut = true
	var records []string
	for i := range 500 {
		records = append(records, fmt.Sprintf("many.test. 60 A 10.1.%d.%d", i/250, i%250))
	}
	z.set("many.test. A", records...)
	r := &discover.Resolver{Servers: []string{z.address}}
	a, err := (&discover.Name{Resolver: r, Name: "many.test", Port: "80"}).Find(t.Context())
	if err != nil || len(a.Servers) != 500 {
		t.Errorf("got %d servers, %v", len(a.Servers), err)
	}
	if z.tcp.Load() == 0 {
		t.Error("TCP was not used")
	}
}

// TestResolvConf goes by a resolv.conf, and by one that changes.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	z.set("api.internal.test. A", "api.internal.test. 60 A 10.0.0.1")
	z.set("api.other.test. A", "api.other.test. 60 A 10.0.0.2")
	host, port, _ := net.SplitHostPort(z.address)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(search string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("# made by a test\nsearch "+search+"\nnameserver "+host+"\noptions ndots:2 timeout:1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &discover.Resolver{Config: path, Port: port}
	for search, want := range map[string]string{"nothing.test internal.test": "10.0.0.1:80", "other.test": "10.0.0.2:80"} {
		write(search)
		a, err := (&discover.Name{Resolver: r, Name: "api", Port: "80"}).Find(t.Context())
		if err != nil || len(a.Servers) != 1 || a.Servers[0].Address != want {
			t.Errorf("search %s: got %v, %v, want %s", search, a, err, want)
		}
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	r := &discover.Resolver{Servers: []string{z.address}}
	find := func(name string, ttl time.Duration, want ...string) {
		t.Helper()
		a, err := (&discover.Service{Resolver: r, Name: name}).Find(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := texts(a); !slices.Equal(got, want) || a.TTL != ttl {
			t.Errorf("%s: got %q for %v, want %q for %v", name, got, a.TTL, want, ttl)
		}
	}
	z.set("_api._tcp.test. SRV",
		"_api._tcp.test. 60 SRV 10 3 8001 a.test.",
		"_api._tcp.test. 60 SRV 10 0 8002 B.test.",
		"_api._tcp.test. 60 SRV 20 5 8003 c.test.",
		"_api._tcp.test. 60 SRV 20 5 8003 gone.test.")
	z.set("a.test. A", "a.test. 7 A 10.0.0.1")
	z.set("b.test. A", "b.test. 60 A 10.0.0.2")
	z.set("B.test. A", "b.test. 60 A 10.0.0.2")
	z.set("c.test. A", "c.test. 60 A 10.0.0.3")
	find("_api._tcp.test", 7*time.Second,
		"10.0.0.1:8001 a.test:8001 w3 t0", "10.0.0.2:8002 b.test:8002 w1 t0", "10.0.0.3:8003 c.test:8003 w5 t1")

	// Addresses that come along are not asked for, and share the weight of a target.
	z.mu.Lock()
	z.records = map[string][]string{"_x._tcp.test. SRV": {"_x._tcp.test. 60 SRV 1 4 80 d.test.", "_x._tcp.test. 60 SRV 1 4 80 e.test."}}
	z.extra = []string{"d.test. 60 A 10.0.1.1", "d.test. 9 A 10.0.1.2", "e.test. 60 AAAA 2001:db8::5"}
	z.mu.Unlock()
	before := z.queries.Load()
	find("_x._tcp.test", 9*time.Second, "10.0.1.1:80 d.test:80 w4 t0", "10.0.1.2:80 d.test:80 w4 t0", "[2001:db8::5]:80 e.test:80 w8 t0")
	if n := z.queries.Load() - before; n != 1 {
		t.Errorf("%d queries, want 1", n)
	}

	z.mu.Lock()
	z.extra = nil
	z.mu.Unlock()
	z.set("_none._tcp.test. SRV", "_none._tcp.test. 60 SRV 0 0 0 .")
	find("_none._tcp.test", 0)
	find("_missing._tcp.test", 0)
	z.set("_bad._tcp.test. SRV", "_bad._tcp.test. 60 SRV 0 0 80 broken.test.")
	z.fail("broken.test. A", dns.RcodeServerFailure)
	if _, err := (&discover.Service{Resolver: r, Name: "_bad._tcp.test"}).Find(t.Context()); err == nil {
		t.Error("a target that could not be looked up is no empty answer")
	}
}

// TestHalfAnAnswer: when only one of two types, or of several targets, can be looked up,
// the addresses of the other stay for a while. What is really gone goes at once.
func TestHalfAnAnswer(t *testing.T) {
	t.Parallel()
	const keep = 10 * time.Second
	four, six := "10.0.0.1:80", "[2001:db8::1]:80"
	for _, srv := range []bool{false, true} {
		z := newZone(t)
		r := &discover.Resolver{Servers: []string{z.address}}
		var f discover.Finder = &discover.Name{Resolver: r, Name: "a.test", Port: "80", Keep: keep}
		other := "a.test. AAAA"
		z.set("a.test. A", "a.test. 60 A 10.0.0.1")
		z.set(other, "a.test. 60 AAAA 2001:db8::1")
		if srv {
			f = &discover.Service{Resolver: r, Name: "_a._tcp.test", Keep: keep}
			other = "b.test. AAAA"
			z.set("_a._tcp.test. SRV", "_a._tcp.test. 60 SRV 1 1 80 a.test.", "_a._tcp.test. 60 SRV 1 1 80 b.test.")
			z.set("a.test. AAAA")
			z.set(other, "b.test. 60 AAAA 2001:db8::1")
		}
		for _, step := range []struct {
			name string
			do   func()
			want []string // nil: an error
		}{
			{"both", func() {}, []string{four, six}},
			{"one of them fails", func() { z.fail(other, dns.RcodeServerFailure) }, []string{four, six}},
			{"it goes on failing", func() {}, []string{four, six}},
			{"both fail", func() { z.fail("a.test. A", dns.RcodeServerFailure); z.fail("a.test. AAAA", dns.RcodeServerFailure) }, nil},
			{"the other one is back", func() {
				z.fail("a.test. A", dns.RcodeServerFailure)
				z.fail("a.test. AAAA", dns.RcodeSuccess)
				z.fail(other, dns.RcodeSuccess)
			}, []string{four, six}},
			{"and there are no more", func() { z.fail("a.test. A", dns.RcodeSuccess); z.set("a.test. A") }, []string{six}},
			{"which is not forgotten", func() { z.fail("a.test. A", dns.RcodeServerFailure) }, []string{six}},
		} {
			step.do()
			a, err := f.Find(t.Context())
			var got []string
			for _, s := range a.Servers {
				got = append(got, s.Address)
			}
			slices.Sort(got)
			if (err != nil) != (step.want == nil) || !slices.Equal(got, step.want) {
				t.Errorf("SRV %v, %s: got %q, %v, want %q", srv, step.name, got, err, step.want)
			}
		}
	}
}

// TestHalfIsKeptForSoLong: a half that does not come back goes in the end.
func TestHalfIsKeptForSoLong(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	f := &discover.Name{Resolver: &discover.Resolver{Servers: []string{z.address}}, Name: "a.test", Port: "80", Keep: 200 * time.Millisecond}
	z.set("a.test. A", "a.test. 60 A 10.0.0.1")
	z.set("a.test. AAAA", "a.test. 60 AAAA 2001:db8::1")
	if a, err := f.Find(t.Context()); err != nil || len(a.Servers) != 2 {
		t.Fatalf("got %q, %v", texts(a), err)
	}
	z.fail("a.test. AAAA", dns.RcodeServerFailure)
	time.Sleep(300 * time.Millisecond)
	if a, err := f.Find(t.Context()); err != nil || len(a.Servers) != 1 {
		t.Errorf("got %q, %v, want one that is still found", texts(a), err)
	}
}
