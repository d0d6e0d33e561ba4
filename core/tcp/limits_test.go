package tcp_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
	"wproxy/core/tcp"
)

// gathered returns the value of a series of m that has label (a whole one, such as route="r").
func gathered(t *testing.T, m *metrics.Metrics, name string, labels ...string) float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, one := range f.GetMetric() {
			for _, want := range labels {
				if !strings.Contains(one.String(), `value:"`+want+`"`) {
					continue series
				}
			}
			return one.GetGauge().GetValue() + one.GetCounter().GetValue()
		}
	}
	return 0
}

// A connection that is one too many was counted as it ended, and not as it began.
func TestGaugeOfTooMany(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) { r.Max = 1 }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	c, wait := s.connect()
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadFull(c, make([]byte, 1))
	for range 3 {
		_, turned := s.connect()
		turned()
	}
	if n := gathered(t, s.metrics, "wproxy_tcp_connections", "r"); n != 1 {
		t.Errorf("%v connections are open, want 1", n)
	}
	_ = c.Close()
	wait()
	if n := gathered(t, s.metrics, "wproxy_tcp_connections", "r"); n != 0 {
		t.Errorf("%v connections are open, want none", n)
	}
}

// holding holds each connection until the exchange is over, as a plugin that pauses does.
type holding struct{ passing }

func (holding) NewTCP(x *filter.Exchange) (filter.TCPFilter, error) { return held{x: x}, nil }

type held struct {
	passing
	x *filter.Exchange
}

func (h held) Downstream(filter.Flow) filter.Flow {
	return &heldFlow{x: h.x, wake: make(chan struct{}, 1)}
}

type heldFlow struct {
	x    *filter.Exchange
	wake chan struct{}
}

func (f *heldFlow) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *heldFlow) Open() error {
	if f.x.Park(f) {
		<-f.wake
		f.x.Unpark(f)
	}
	return exchange.ErrAnswered
}

func (*heldFlow) Data([]byte, bool) error { return exchange.ErrAnswered }

// A connection may be over before its filters are there: by its time, at the end of the
// process. What they hold back is given up all the same.
func TestOverBeforeFilters(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) {
		r.Filters = []filter.TCPFactory{holding{}}
		r.Timeout = time.Nanosecond
	}, server(t, func(*net.TCPConn) {}))
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for i := range 200 {
		ctx := context.Background()
		if i%2 == 0 {
			ctx = over
		}
		_, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.proxy.Serve(ctx, b, &exchange.Conn{Listener: "l", Remote: netip.MustParseAddrPort("127.0.0.1:5"), RemoteIP: "127.0.0.1"})
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
	}
}

// Further tries are the upstream's to give: an outage does not multiply the connections.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	var dead []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dead = append(dead, l.Addr().String())
		_ = l.Close()
	}
	for _, tt := range []struct {
		budget          int
		least           float64
		tries, withheld float64
	}{{0, 1000, 10, 10}, {1, 0, 10, 10}, {100, 1000, 20, 0}} {
		s := newSetup(t, func(r *tcp.Route) { r.Budget, r.BudgetMin = tt.budget, tt.least }, dead...)
		for range 10 {
			_, wait := s.connect()
			wait()
		}
		var tries float64
		for _, e := range s.cluster.Endpoints {
			tries += float64(e.Live.Failures.Load())
		}
		if n := gathered(t, s.metrics, "wproxy_retries_total", "up", "budget"); tries != tt.tries || n != tt.withheld {
			t.Errorf("budget %d%%: %v tries, %v were not made; want %v, %v", tt.budget, tries, n, tt.tries, tt.withheld)
		}
	}
}

// A connection on a configuration that is not the same as the one that serves ends when it is
// asked for, and no other does.
func TestEndOn(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) { r.Mark, r.Parts = tcp.Mark{1}, tcp.Mark{1} }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	open := func() (*net.TCPConn, func()) {
		c, wait := s.connect()
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return c, wait
	}
	_, wait := open()
	other := *s.route
	other.Parts = tcp.Mark{2} // another upstream: connections go on, and keep what they use
	old := s.proxy.Swap(s.snapshot(&other, s.snap.Access))
	c, _ := open()
	if n := s.proxy.EndOn(old); n != 1 {
		t.Errorf("%d were ended", n)
	}
	wait()
	<-old.Drained()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the other one: %v", err)
	}
	s.logged(`"reason":"too_many_reloads"`)
}

// Those that are notable are kept for the page.
func TestRecorded(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) { r.Max = 1 }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	r := access.NewRecorder()
	s.proxy = tcp.New(tcp.Options{Metrics: s.metrics, Recorder: r}, s.snapshot(s.route, nil)) // without a log
	c, wait := s.connect()
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadFull(c, make([]byte, 1))
	_, turned := s.connect()
	turned()
	_ = c.Close()
	wait()
	kept := r.Since(0)
	if len(kept) != 1 || kept[0].Kind != access.Refused || !strings.Contains(string(kept[0].Line), `"reason":"too_many_connections"`) {
		t.Errorf("kept %v", kept)
	}
}

// A direction that has ended, or one of which nothing is taken, does not keep a connection
// for ever: not that of a client that has gone without the upstream minding, and not that of
// one that does not read.
func TestHalfIsIdle(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, change func(*tcp.Route)) {
		stuck := make(chan struct{})
		defer close(stuck)
		s := newSetup(t, func(r *tcp.Route) { change(r); r.Idle = 200 * time.Millisecond }, server(t, func(c *net.TCPConn) {
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err == nil && b[0] == 'w' {
				_, _ = c.Write(make([]byte, 32<<20))
				return
			}
			_, _ = io.Copy(io.Discard, c)
			<-stuck // it has heard of the end, and says nothing
		}))
		for _, first := range []string{"h", "w"} {
			c, wait := s.connect()
			_, _ = c.Write([]byte(first))
			if first == "h" {
				_ = c.CloseWrite()
			}
			wait()
		}
		s.logged(`"reason":"idle_timeout"`)
	})
}

// swallowing is a filter that keeps from the client what the upstream says.
type swallowing struct{ passing }

func (swallowing) NewTCP(*filter.Exchange) (filter.TCPFilter, error) { return swallowing{}, nil }
func (swallowing) Upstream(next filter.Flow) filter.Flow             { return swallowed{next} }

type swallowed struct{ filter.Flow }

func (s swallowed) Data(_ []byte, end bool) error { return s.Flow.Data(nil, end) }

// An upstream that speaks keeps a connection alive, whatever filters make of what it says.
func TestSwallowedIsNotIdle(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) {
		r.Idle = time.Second
		r.Filters = []filter.TCPFactory{swallowing{}}
	}, server(t, func(c *net.TCPConn) {
		for range 20 {
			_, _ = c.Write([]byte("x"))
			time.Sleep(100 * time.Millisecond) // as in TestNotIdle
		}
	}))
	c, wait := s.connect()
	began := time.Now()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 || time.Since(began) < 1900*time.Millisecond {
		t.Errorf("%q, %v after %v", b, err, time.Since(began))
	}
	_ = c.Close()
	wait()
}
