package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/h1"
	"wproxy/core/listen"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
	"wproxy/core/route"
	"wproxy/core/server"
)

// TestMain fails when goroutines outlive the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	for range 1000 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		if !bytes.Contains(buf, []byte("wproxy/core/server.(")) && !bytes.Contains(buf, []byte("wproxy/core/h1.(")) {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, _ = os.Stderr.WriteString("goroutines were left behind\n")
	os.Exit(1)
}

// A maker makes generations and counts what becomes of them.
type maker struct {
	metrics  *metrics.Metrics
	released atomic.Int64

	mu     sync.Mutex
	open   map[string]int // connections by listener name
	panics int
}

func newMaker() *maker { return &maker{metrics: metrics.New(), open: map[string]int{}} }

func (m *maker) options() server.Options {
	return server.Options{
		Proxy:       proxy.Options{Metrics: m.metrics},
		Connections: func(l string) server.Gauge { return gauge{m, l} },
		AcceptError: func(string, error, time.Duration) {},
		Refused:     func(*proxy.Proxy, *h1.Refusal) {},
		Panicked: func(any, []byte) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.panics++
		},
	}
}

// A gauge counts connections.
type gauge struct {
	m        *maker
	listener string
}

func (g gauge) Inc() { g.m.count(g.listener, 1) }
func (g gauge) Dec() { g.m.count(g.listener, -1) }

func (m *maker) count(listener string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[listener] += n; m.open[listener] == 0 {
		delete(m.open, listener)
	}
}

// opened returns how many connections are open, by listener.
func (m *maker) opened() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.open)
}

// generation answers every request with body; doors are "name=address".
func (m *maker) generation(t *testing.T, body string, filters []filter.Factory, doors ...string) server.Generation {
	t.Helper()
	g := server.Generation{Snapshot: &proxy.Snapshot{}, Release: func() { m.released.Add(1) }}
	var names []string
	for _, d := range doors {
		name, address, _ := strings.Cut(d, "=")
		names = append(names, name)
		g.Listeners = append(g.Listeners, server.Listener{Name: name, Address: address})
		g.Snapshot.Listeners = append(g.Snapshot.Listeners, &proxy.Listener{Name: name})
	}
	g.Snapshot.NoRoute = m.metrics.Route("", names)
	table, err := route.New([]route.Entry[*proxy.Route]{{Spec: route.Spec{Name: "all"}, Value: &proxy.Route{
		Name: "all", Metrics: m.metrics.Route("all", names), Filters: filters,
		Respond: &proxy.Respond{Status: 200, Body: []byte(body)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	g.Snapshot.Table = table
	return g
}

// start starts a server that the end of the test stops at once.
func (m *maker) start(t *testing.T, g server.Generation) *server.Server {
	t.Helper()
	s, err := server.Start(t.Context(), m.options(), g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
		if open := m.opened(); len(open) > 0 {
			t.Errorf("connections left open: %v", open)
		}
	})
	return s
}

// address returns where the listener called name is.
func address(t *testing.T, s *server.Server, name string) string {
	t.Helper()
	for _, l := range s.Listeners() {
		if l.Name == name {
			return l.Address
		}
	}
	t.Fatalf("no listener %q in %v", name, s.Listeners())
	return ""
}

// A client is one keep-alive connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{c, bufio.NewReader(c)}
}

// patience bounds what a client waits for. Only what hangs uses it up.
const patience = time.Minute

func (c *client) send(t *testing.T) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience)) // others may have come in between, by the thousand
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// receive returns the body of the answer, and whether the connection goes on.
func (c *client) receive() (body string, keep bool, err error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", false, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), !resp.Close, err
}

func (c *client) get(t *testing.T, want string) (keep bool) {
	t.Helper()
	c.send(t)
	got, keep, err := c.receive()
	if err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
	return keep
}

// A gate is a filter that holds answers back until it is opened. It says when
// one has arrived.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 10), make(chan struct{})} }

func (g *gate) Name() string                                { return "gate" }
func (g *gate) New(*filter.Exchange) (filter.Filter, error) { return g, nil }
func (g *gate) Close(error)                                 {}
func (g *gate) Request(next requestSink) requestSink        { return next }
func (g *gate) Response(next responseSink) responseSink     { return &gated{next, g} }

type (
	requestSink  = exchange.Sink[*exchange.Request]
	responseSink = exchange.Sink[*exchange.Response]
)

type gated struct {
	responseSink
	g *gate
}

func (s *gated) Head(h *exchange.Response, end bool) error {
	s.g.arrived <- struct{}{}
	<-s.g.open
	return s.responseSink.Head(h, end)
}

// polite is a gate that lets go of an exchange that is given up, as plugins do.
type polite struct{ *gate }

func (p polite) New(x *filter.Exchange) (filter.Filter, error) { return &politeFilter{p.gate, x}, nil }

type politeFilter struct {
	*gate
	x *filter.Exchange
}

func (p *politeFilter) Response(next responseSink) responseSink { return &politeSink{next, p} }

type politeSink struct {
	responseSink
	p *politeFilter
}

func (s *politeSink) Head(h *exchange.Response, end bool) error {
	w := make(wake, 1)
	if !s.p.x.Park(w) {
		return exchange.ErrAnswered
	}
	s.p.arrived <- struct{}{}
	select {
	case <-w:
		return exchange.ErrReset
	case <-s.p.open:
		s.p.x.Unpark(w)
		return s.responseSink.Head(h, end)
	}
}

type wake chan struct{}

// Wake implements filter.Waker.
func (w wake) Wake() {
	select {
	case w <- struct{}{}:
	default: // it has been woken already
	}
}

// bomb is a filter with a bug.
type bomb struct{ gate }

func (b *bomb) New(*filter.Exchange) (filter.Filter, error) { panic("a bug") }

func TestReload(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "one", nil, "a=127.0.0.1:0", "b=127.0.0.1:0"))
	a, b := address(t, s, "a"), address(t, s, "b")
	ca, cb := dial(t, a), dial(t, b)
	ca.get(t, "one")
	cb.get(t, "one")

	// a keeps its socket and connections under a new name, b goes, c comes.
	// (Their addresses are written alike, so it is the names that tell a from c.)
	if err := s.Reload(t.Context(), m.generation(t, "two", nil, "a=127.0.0.1:0", "c=localhost:0")); err != nil {
		t.Fatal(err)
	}
	if got := address(t, s, "a"); got != a {
		t.Errorf("a moved from %s to %s", a, got)
	}
	if !ca.get(t, "two") {
		t.Error("a connection of a listener that stays is not kept")
	}
	dial(t, address(t, s, "c")).get(t, "two")
	if _, err := net.Dial("tcp", b); err == nil {
		t.Error("a listener that is gone accepts")
	}
	if _, _, err := cb.receive(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an idle connection of a listener that is gone: got %v, want its end", err)
	}
	eventually(t, "the first generation is released", func() bool { return m.released.Load() == 1 })
	// A request that cb had on its way would be b's still.
	if got := names(s.Snapshot()); !slices.Equal(got, []string{"a", "c", "b"}) {
		t.Errorf("the snapshot knows %q", got)
	}
	eventually(t, "b's connection is closed", func() bool { return m.opened()["b"] == 0 })
	if err := s.Reload(t.Context(), m.generation(t, "three", nil, "a=127.0.0.1:0", "c=localhost:0")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is left on b", func() bool {
		if err := s.Reload(t.Context(), m.generation(t, "four", nil, "a=127.0.0.1:0", "c=localhost:0")); err != nil {
			t.Fatal(err)
		}
		return slices.Equal(names(s.Snapshot()), []string{"a", "c"})
	})
}

func names(s *proxy.Snapshot) []string {
	var all []string
	for _, l := range s.Listeners {
		all = append(all, l.Name)
	}
	return all
}

// TestRename checks that a listener with a new name keeps its socket, that its
// connections, which know the old one, end after the exchange they are in, and
// that a request on its way in has the listener's settings still.
func TestRename(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "one", nil, "old=127.0.0.1:0"))
	addr := address(t, s, "old")
	idle, busy := dial(t, addr), dial(t, addr)
	idle.get(t, "one")
	busy.get(t, "one")
	if _, err := io.WriteString(busy, "GET / HTTP/1.1\r\nX-Half"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // the server has begun to read it, of which nobody is told
	defer func() {
		if got := names(s.Snapshot()); !slices.Equal(got, []string{"new", "old"}) {
			t.Errorf("the snapshot knows %q, want the old name too", got)
		}
		if _, _, err := idle.receive(); err == nil {
			t.Error("an idle connection with the old name goes on")
		}
		if _, err := io.WriteString(busy, ": 1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if body, keep, err := busy.receive(); body != "two" || keep || err != nil {
			t.Errorf("a request on its way: got %q, keep %v, %v; want the answer and the end of the connection", body, keep, err)
		}
	}()
	if err := s.Reload(t.Context(), m.generation(t, "two", nil, "new=127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	if got := address(t, s, "new"); got != addr {
		t.Errorf("moved from %s to %s", addr, got)
	}
	dial(t, addr).get(t, "two")
	if open := m.opened(); open["new"] != 1 {
		t.Errorf("connections by listener: %v, want one of new", open)
	}
}

// TestSpelling checks that the same address in other words keeps the socket, and
// that one which overlaps is refused with a reason.
func TestSpelling(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "one", nil, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	c.get(t, "one")
	for _, spelling := range []string{addr, "localhost:" + port} {
		if err := s.Reload(t.Context(), m.generation(t, "two", nil, "a="+spelling)); err != nil {
			t.Fatal(err)
		}
		if !c.get(t, "two") {
			t.Errorf("%s: the connection is not kept", spelling)
		}
	}
	err = s.Reload(t.Context(), m.generation(t, "three", nil, "b=:"+port))
	if err == nil || !strings.Contains(err.Error(), `own listener "a" on `+addr) {
		t.Errorf("an address that overlaps: got %v, want an error that says what is in the way", err)
	}
	c.get(t, "two")
}

// TestRefused checks that what cannot be bound changes nothing and leaves
// nothing behind, at start and at a reload.
func TestRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := free.Addr().String()
	_ = free.Close()
	m := newMaker()
	bad := []string{"b=" + other, "c=" + taken.Addr().String()}
	if _, err := server.Start(t.Context(), m.options(), m.generation(t, "bad", nil, bad...)); err == nil {
		t.Fatal("started on an address that is taken")
	}
	s := m.start(t, m.generation(t, "one", nil, "a=127.0.0.1:0"))
	err = s.Reload(t.Context(), m.generation(t, "two", nil, append(bad, "a=127.0.0.1:0")...))
	if err == nil || !strings.Contains(err.Error(), `listener "c"`) {
		t.Errorf("got %v, want an error that names listener c", err)
	}
	for range 2 { // a socket that was bound would have been closed by now
		if _, err := net.Dial("tcp", other); err == nil {
			t.Error("a listener of a refused generation accepts")
		}
	}
	dial(t, address(t, s, "a")).get(t, "one")
	if n := m.released.Load(); n != 0 {
		t.Errorf("%d generations released, want none", n)
	}
}

// TestComplete checks that a generation is completed when its listeners are bound and
// nobody is let in, not at all if they cannot be bound, and that Stop, and whoever asks
// for the listeners, do not wait for it.
func TestComplete(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := free.Addr().String()
	_ = free.Close()
	m := newMaker()
	s := m.start(t, m.generation(t, "one", nil, "a=127.0.0.1:0"))
	a := address(t, s, "a")

	calls := 0
	var refuse error
	var during func()
	reload := func(doors ...string) error {
		g := m.generation(t, "two", nil, append(doors, "a=127.0.0.1:0")...)
		g.Complete = func(context.Context) error {
			calls++
			if during != nil {
				during()
			}
			return refuse
		}
		return s.Reload(t.Context(), g)
	}
	closed := func() {
		t.Helper()
		if c, err := net.Dial("tcp", other); err == nil {
			_ = c.Close()
			t.Error("a listener of a refused generation is still there")
		}
	}

	if err := reload("b="+other, "c="+taken.Addr().String()); err == nil || calls != 0 {
		t.Errorf("an address that is taken: got %v, completed %d times", err, calls)
	}
	closed()
	refuse = errors.New("no")
	if err := reload("b=" + other); !errors.Is(err, refuse) || calls != 1 {
		t.Errorf("refused: got %v, completed %d times", err, calls)
	}
	closed()
	dial(t, a).get(t, "one")

	refuse = nil
	waiting := (*client)(nil)
	during = func() {
		waiting = dial(t, other) // bound: it waits in the backlog
		if got := s.Listeners(); len(got) != 1 {
			t.Errorf("listeners meanwhile: %v", got)
		}
		dial(t, a).get(t, "one")
	}
	if err := reload("b=" + other); err != nil || calls != 2 {
		t.Fatalf("got %v, completed %d times", err, calls)
	}
	waiting.get(t, "two")

	during = func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := reload("d=127.0.0.1:0"); !errors.Is(err, server.ErrDraining) || calls != 3 {
		t.Errorf("stopped meanwhile: got %v, completed %d times", err, calls)
	}
	if n := m.released.Load(); n != 2 {
		t.Errorf("%d generations released, want the two that have served", n)
	}
}

// TestGenerationEnds checks that a generation is released after its last
// exchange and not before, while its successor serves.
func TestGenerationEnds(t *testing.T) {
	m, g := newMaker(), newGate()
	s := m.start(t, m.generation(t, "one", []filter.Factory{g}, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	slow := dial(t, addr)
	slow.send(t)
	<-g.arrived
	for i := range 3 {
		body := fmt.Sprint(i)
		if err := s.Reload(t.Context(), m.generation(t, body, nil, "a=127.0.0.1:0")); err != nil {
			t.Fatal(err)
		}
		dial(t, addr).get(t, body)
	}
	eventually(t, "the two in between are released", func() bool { return m.released.Load() == 2 })
	close(g.open)
	if body, _, err := slow.receive(); body != "one" || err != nil {
		t.Errorf("got %q, %v from the generation it began with", body, err)
	}
	eventually(t, "the first is released", func() bool { return m.released.Load() == 3 })
}

// TestLeave: whoever rests is served once more, and what rests to the end is closed without
// being told of. The copies of sockets accept on.
func TestLeave(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "one", nil, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	sockets, err := s.Sockets()
	if err != nil || len(sockets) != 1 || sockets[0].Name != "a" || sockets[0].Address != "127.0.0.1:0" || sockets[0].Foreign {
		t.Fatalf("got %+v, %v", sockets, err)
	}
	defer sockets[0].File.Close()
	rests, leaves := dial(t, addr), dial(t, addr)
	for _, c := range []*client{rests, leaves} {
		if keep := c.get(t, "one"); !keep {
			t.Fatal("not kept")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Leave(ctx) }() // ends with ctx
	for !s.Draining() {
		time.Sleep(time.Millisecond)
	}
	if keep := leaves.get(t, "one"); keep {
		t.Error("it is not told to leave")
	}
	if _, err := s.Sockets(); !errors.Is(err, server.ErrDraining) {
		t.Errorf("Sockets: %v", err)
	}
	next, err := net.FileListener(sockets[0].File)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	go func() { _, _ = net.Dial("tcp", addr) }() // ends with next
	if c, err := next.Accept(); err != nil {
		t.Errorf("the copy of the socket: %v", err)
	} else {
		_ = c.Close()
	}
	cancel()
	if _, err := rests.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("what rests to the end: got %v, want its end", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := m.released.Load(); n != 1 {
		t.Errorf("released %d times", n)
	}
}

// TestInheritedPort: whether a port is shared is decided when it is bound, by whoever that was.
func TestInheritedPort(t *testing.T) {
	for name, tt := range map[string]struct {
		foreign, share bool
		want           string
	}{
		"as it was":                    {},
		"changed":                      {share: true, want: `listener "a": reuse_port is decided when the socket is bound`},
		"changed, a service manager's": {foreign: true, share: true},
	} {
		m := newMaker()
		g := m.generation(t, "one", nil, "a=127.0.0.1:0")
		g.Listeners[0].Settings.Socket.ReusePort = tt.share
		o := m.options()
		var bound net.Listener
		o.Inherit = func(context.Context, string, string) (net.Listener, bool) {
			var err error
			if bound, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			return bound, tt.foreign
		}
		s, err := server.Start(t.Context(), o, g)
		if err == nil {
			err = s.Stop(t.Context())
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if _, err := bound.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the socket is left open: %v", name, err)
		}
	}
}

// TestGenerationsAreBounded: exchanges that never end do not keep any number of old
// generations; the oldest are ended, and nothing else is.
func TestGenerationsAreBounded(t *testing.T) {
	m, g := newMaker(), newGate()
	o := m.options()
	var ended atomic.Int32
	o.Generations, o.Ended = 2, func(n int) { ended.Add(int32(n)) }
	first := m.generation(t, "0", []filter.Factory{polite{g}}, "a=127.0.0.1:0")
	s, err := server.Start(t.Context(), o, first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Stop(ctx)
	}()
	addr := address(t, s, "a")
	var clients []*client
	for i := 1; i <= 5; i++ {
		c := dial(t, addr)
		c.send(t)
		<-g.arrived
		clients = append(clients, c)
		if err := s.Reload(t.Context(), m.generation(t, fmt.Sprint(i), []filter.Factory{polite{g}}, "a=127.0.0.1:0")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the three oldest are released", func() bool { return m.released.Load() == 3 && ended.Load() == 3 })
	if n := s.Generations(); n != 3 {
		t.Errorf("%d generations, want two old ones and the one that serves", n)
	}
	close(g.open)
	for i, c := range clients {
		body, _, err := c.receive()
		if i < 3 && err == nil {
			t.Errorf("exchange %d was to be ended, and has the answer %q", i, body)
		}
		if i >= 3 && (err != nil || body != fmt.Sprint(i)) {
			t.Errorf("exchange %d: %q, %v", i, body, err)
		}
	}
	eventually(t, "all but the last are released", func() bool { return m.released.Load() == 5 })
	eventually(t, "one generation is left", func() bool { return s.Generations() == 1 })
}

func TestStopWaits(t *testing.T) {
	m, g := newMaker(), newGate()
	s := m.start(t, m.generation(t, "one", []filter.Factory{g}, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	idle, slow := dial(t, addr), dial(t, addr)
	slow.send(t)
	<-g.arrived

	stopped := make(chan error)
	for range 2 {
		go func() { stopped <- s.Stop(context.Background()) }() // ends when the gate opens
	}
	if _, err := idle.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: got %v, want its end", err)
	}
	if !s.Draining() {
		t.Error("not draining")
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it accepts while it drains")
	}
	if err := s.Reload(t.Context(), m.generation(t, "two", nil, "a=127.0.0.1:0")); !errors.Is(err, server.ErrDraining) {
		t.Errorf("Reload: got %v, want ErrDraining", err)
	}
	select {
	case <-stopped:
		t.Fatal("Stop did not wait for an exchange")
	case <-time.After(50 * time.Millisecond):
	}
	if n := m.released.Load(); n != 0 {
		t.Errorf("released %d times during an exchange", n)
	}
	close(g.open)
	body, keep, err := slow.receive()
	if body != "one" || keep || err != nil {
		t.Errorf("got %q, keep %v, %v; want the answer and the end of the connection", body, keep, err)
	}
	for range 2 {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
	if n := m.released.Load(); n != 1 {
		t.Errorf("released %d times, want once", n)
	}
}

// TestStopUnannounced: connections whose PROXY header does not come hold up no end, nor do they
// stay behind when a reload takes their listener away.
func TestStopUnannounced(t *testing.T) {
	m := newMaker()
	g := m.generation(t, "one", nil, "a=127.0.0.1:0", "b=127.0.0.1:0")
	for i := range g.Listeners {
		g.Listeners[i].Settings.Proxy = &listen.ProxyProtocol{Trust: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: time.Hour}
	}
	s := m.start(t, g)
	first, second := dial(t, address(t, s, "a")), dial(t, address(t, s, "b"))
	for _, c := range []*client{first, second} {
		if _, err := io.WriteString(c, "PROXY TCP4 1.2"); err != nil {
			t.Fatal(err)
		}
	}
	next := m.generation(t, "two", nil, "a=127.0.0.1:0")
	next.Listeners[0].Settings = g.Listeners[0].Settings
	if err := s.Reload(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if _, err := second.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("of the listener that is gone: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("Stop: %v, %v", err, ctx.Err())
	}
	if _, err := first.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection without header: %v", err)
	}
}

// TestPanic checks that a bug that one request hits ends that connection alone.
func TestPanic(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "one", []filter.Factory{&bomb{}}, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	c, other := dial(t, addr), dial(t, addr)
	c.send(t)
	if _, _, err := c.receive(); err == nil {
		t.Error("an answer after a panic")
	}
	if err := s.Reload(t.Context(), m.generation(t, "two", nil, "a=127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	other.get(t, "two")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics != 1 {
		t.Errorf("%d panics reported, want 1", m.panics)
	}
}

// TestReloadHammer reloads while clients come and go: no request may fail.
func TestReloadHammer(t *testing.T) {
	m := newMaker()
	s := m.start(t, m.generation(t, "x", nil, "a=127.0.0.1:0"))
	addr := address(t, s, "a")
	end := time.Now().Add(200 * time.Millisecond)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c := dial(t, addr)
				for range 5 {
					c.get(t, "x")
				}
				_ = c.Close()
			}
		})
	}
	reloads := int64(0)
	for time.Now().Before(end) {
		if err := s.Reload(t.Context(), m.generation(t, "x", nil, "a=127.0.0.1:0")); err != nil {
			t.Error(err)
		}
		reloads++
	}
	wg.Wait()
	eventually(t, "all old generations are released", func() bool { return m.released.Load() == reloads })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond) // polling
	}
	t.Errorf("never: %s", what)
}

// Example serves one route on a free port.
func Example() {
	m := metrics.New()
	names := []string{"http"}
	table, err := route.New([]route.Entry[*proxy.Route]{{
		Spec: route.Spec{Name: "hello", Paths: []string{"/hello"}},
		Value: &proxy.Route{
			Name: "hello", Metrics: m.Route("hello", names),
			Respond: &proxy.Respond{Status: 200, Body: []byte("hello\n")},
		},
	}})
	if err != nil {
		panic(err)
	}
	s, err := server.Start(context.Background(), server.Options{
		Proxy:       proxy.Options{Metrics: m},
		Connections: func(l string) server.Gauge { return m.Connections(l) },
		AcceptError: func(string, error, time.Duration) {},
		Refused:     func(*proxy.Proxy, *h1.Refusal) {},
	}, server.Generation{
		Listeners: []server.Listener{{Name: "http", Address: "127.0.0.1:0"}},
		Snapshot: &proxy.Snapshot{
			Table: table, Listeners: []*proxy.Listener{{Name: "http"}}, NoRoute: m.Route("", names),
		},
		Release: func() {},
	})
	if err != nil {
		panic(err)
	}
	c, err := net.Dial("tcp", s.Listeners()[0].Address)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(resp.Status, " ", string(body))
	_ = s.Stop(context.Background())
	// Output: 200 OK hello
}
