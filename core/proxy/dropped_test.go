package proxy_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// TestDroppedWhileTheEndIsSent: an answer that is not passed on, and is read whole
// just before the last bytes of the request are pushed, leaves the stream of the try to
// the request's goroutine, which is about to use it.
func TestDroppedWhileTheEndIsSent(t *testing.T) {
	t.Parallel()
	ending := make(chan struct{}) // closed when the request's goroutine has said that the end comes
	read := make(chan struct{})   // closed when the answer has been read
	o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		if n > 0 {
			<-s.got
			return answer(dst, 200, "ok")
		}
		defer close(read)
		<-ending
		return answer(dst, 503, "early")
	}}
	e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) {
		on(0, 1, 503)(r)
		r.Retry.PerTry = time.Minute // its clock is started between the two
	}})
	var armed, over atomic.Bool
	e.Proxy = proxy.New(proxy.Options{Metrics: e.metrics, Now: func() time.Time {
		if armed.CompareAndSwap(true, false) {
			close(ending)
			<-read
			for range 20 { // who has read the answer now does what is to be done about it
				time.Sleep(time.Millisecond)
			}
			over.Store(true)
		}
		return time.Now()
	}}, e.snapshot)
	c := newClient("PUT", "/")
	c.req.Length = exchange.LengthUnknown
	c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
		if err := dst.Head(&c.req, false); err != nil {
			return err
		}
		for _, p := range []string{"a", ""} { // a flush: from here on the answer has a goroutine
			if err := dst.Data([]byte(p), false); err != nil {
				return err
			}
		}
		armed.Store(true)
		return dst.Data([]byte("b"), true)
	}
	e.do(c)
	if !over.Load() {
		t.Fatal("the clock was not asked between the two")
	}
	if c.status != 200 || o.streams[1].body.String() != "ab" {
		t.Errorf("got %d, and the second try had the body %q", c.status, o.streams[1].body.String())
	}
}

// TestNoBudgetAtAll: a route that may not retry does not live on what others pay in.
func TestNoBudgetAtAll(t *testing.T) {
	t.Parallel()
	o := &origin{feed: statusThen(nil, 503)}
	e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) {
		on(0, 1, 503)(r)
		r.Retry.Budget = -1
	}})
	for range 100 { // of other routes
		e.upstream.Cluster.Budget.Pay(20)
	}
	if c := e.do(newClient("GET", "/")); c.status != 503 || len(o.streams) != 1 {
		t.Errorf("got %d after %d tries", c.status, len(o.streams))
	}
	if n := e.metric("wproxy_retries_total", "outcome", "budget"); n != 1 {
		t.Errorf("%v retries were not made for want of a budget", n)
	}
}

// TestBudgetOfTriesThatAreMade: a try that is not made, as it would come too late, or
// there is nobody to ask, takes nothing from the budget.
func TestBudgetOfTriesThatAreMade(t *testing.T) {
	t.Parallel()
	statuses := make([]int, 100)
	for i := range statuses {
		statuses[i] = 503
	}
	o := &origin{feed: statusThen([]string{"retry-after", "1"}, statuses...)}
	e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) {
		on(0, 1, 503)(r)
		r.Timeout = 900 * time.Millisecond
	}})
	for range len(statuses) - 1 {
		if c := e.do(newClient("GET", "/")); c.status != 503 {
			t.Fatalf("got %d", c.status)
		}
	}
	e.route.Timeout = 2 * time.Second
	if c := e.do(newClient("GET", "/")); c.status != 200 {
		t.Errorf("got %d: what was paid in has gone to tries that nobody made", c.status)
	}
}

// TestAllOfManyAreFull: with every server full a request does not ask them all: the
// refusal would cost more than the request.
func TestAllOfManyAreFull(t *testing.T) {
	t.Parallel()
	full := &exchange.Error{Op: "get connection", Side: exchange.UpstreamSide, Status: 503, Reason: pool.ReasonFull}
	o := &origin{dial: func(int) error { return full }}
	e := newEngine(t, o, config{})
	var many []*upstream.Endpoint
	for i := range 1000 {
		ep, err := upstream.NewEndpoint(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), 1)
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, ep)
	}
	c, err := e.upstream.Cluster.With(many)
	if err != nil {
		t.Fatal(err)
	}
	e.upstream.Replace(&proxy.Upstream{Cluster: c, Picker: roundRobin(t, c), Pool: e.pool, Metrics: e.upstream.Metrics})
	start := time.Now()
	e.wantStatus(e.do(newClient("GET", "/")), 503, "queue_full")
	if o.dialed() > 20 {
		t.Errorf("%d servers were asked, in %v", o.dialed(), time.Since(start))
	}
}
