package proxy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
)

func upstreamError(op string, r exchange.Retry, reason string) error {
	return &exchange.Error{Op: op, Side: exchange.UpstreamSide, Retry: r, Status: 502, Reason: reason}
}

// stale fails every stream of a connection that has served an exchange, as one
// that the server has closed meanwhile does.
func stale(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
	if s.conn.Reused() {
		return upstreamError("read head", exchange.RetryIfReused, "closed")
	}
	if s.ended {
		return answer(dst, 200, "ok")
	}
	select {
	case <-s.got:
		return answer(dst, 200, "ok")
	case <-s.done:
		return upstreamError("read head", exchange.RetryNever, "reset")
	}
}

func TestStaleConnection(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 65<<10)
	tests := []struct {
		name   string
		c      *client
		edit   func(*proxy.Route)
		status int
		tries  float64
	}{
		{name: "GET", c: newClient("GET", "/"), status: 200, tries: 2},
		{name: "HEAD", c: newClient("HEAD", "/"), status: 200, tries: 2},
		{name: "PUT with a body in one piece", c: newClient("PUT", "/").sending("body"), status: 200, tries: 2},
		{name: "PUT with a streaming body", c: newClient("PUT", "/").sending("bo", "", "dy", ""), status: 200, tries: 2},
		{name: "PUT with more than is held", c: newClient("PUT", "/").sending(big, "", "dy"), status: 502, tries: 1},
		{name: "POST", c: newClient("POST", "/").sending("body"), status: 502, tries: 1},
		{name: "POST, streaming", c: newClient("POST", "/").sending("bo", "", "dy"), status: 502, tries: 1},
		{
			name: "POST on a route that is idempotent", c: newClient("POST", "/").sending("bo", "", "dy"),
			edit: func(r *proxy.Route) { r.Retry.Idempotent = true }, status: 200, tries: 2,
		},
		{
			name: "GET without retries", c: newClient("GET", "/"),
			edit: func(r *proxy.Route) { r.Retry.Attempts = -1 }, status: 502, tries: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: stale}
			e := newEngine(t, o, config{edit: tt.edit})
			e.do(newClient("GET", "/first"))
			e.do(tt.c)
			if tt.c.status != tt.status {
				t.Errorf("status: got %d, want %d", tt.c.status, tt.status)
			}
			if got := e.line()["tries"]; got != tt.tries {
				t.Errorf("tries: got %v, want %v", got, tt.tries)
			}
			last := o.streams[len(o.streams)-1]
			if want := strings.Join(tt.c.body, ""); tt.status == 200 && last.body.String() != want {
				t.Errorf("the upstream got %d bytes of body, want %d", last.body.Len(), len(want))
			}
			if got := e.metric("wproxy_retries_total", "reason", "reset", "outcome", "ok"); got != tt.tries-1 {
				t.Errorf("retries: got %v, want %v", got, tt.tries-1)
			}
		})
	}
}

func TestNothingWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []*client{newClient("POST", "/").sending("bo", "dy"), newClient("POST", "/").sending("", "body")} {
		first := true
		o := &origin{data: func(_ int, s *stream, _ []byte) error {
			if s.conn.Reused() && first {
				first = false
				return upstreamError("write", exchange.RetryAlways, "closed")
			}
			return nil
		}}
		o.feed = func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			<-s.got
			return answer(dst, 200, "ok")
		}
		e := newEngine(t, o, config{})
		e.do(newClient("GET", "/"))
		e.do(c)
		last := o.streams[len(o.streams)-1]
		if c.status != 200 || last.body.String() != "body" {
			t.Errorf("status %d, upstream got %q: no byte was written, so it may be sent again", c.status, last.body.String())
		}
	}
}

func TestConnectFailure(t *testing.T) {
	t.Parallel()
	failing := func(times int) func(int) error {
		return func(n int) error {
			if n < times {
				return upstreamError("dial", exchange.RetryAlways, "upstream_refused")
			}
			return nil
		}
	}
	tests := []struct {
		name             string
		servers, failing int
		method           string
		status           int
		tries            float64
	}{
		{"the other server answers", 2, 1, "GET", 200, 2},
		{"for a POST too", 2, 1, "POST", 200, 2},
		{"both down", 2, 2, "GET", 502, 2},
		{"three down, one more try only", 3, 2, "GET", 502, 2},
		{"the only server is down", 1, 2, "GET", 502, 2},
		{"the only server comes back", 1, 1, "GET", 200, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, &origin{dial: failing(tt.failing)}, config{servers: tt.servers})
			c := newClient(tt.method, "/")
			if tt.method == "POST" {
				c.sending("x")
			}
			e.do(c)
			if c.status != tt.status || e.line()["tries"] != tt.tries {
				t.Errorf("got %d after %v tries, want %d after %v", c.status, e.line()["tries"], tt.status, tt.tries)
			}
			if got := e.metric("wproxy_upstream_failures_total", "reason", "connect"); got != float64(min(tt.failing, int(tt.tries))) {
				t.Errorf("failures: got %v", got)
			}
			outcome := "failed"
			if tt.status == 200 {
				outcome = "ok"
			}
			if got := e.metric("wproxy_retries_total", "reason", "connect", "outcome", outcome); got != tt.tries-1 {
				t.Errorf("retries: got %v, want %v", got, tt.tries-1)
			}
		})
	}
}

func TestConnectTimeoutOfTheOnlyServer(t *testing.T) {
	t.Parallel()
	o := &origin{dial: func(int) error {
		return &exchange.Error{
			Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 504, Reason: "upstream_connect_timeout",
			Err: context.DeadlineExceeded, // which the route's timeout is as well
		}
	}}
	e := newEngine(t, o, config{})
	c := e.do(newClient("GET", "/"))
	e.wantStatus(c, 504, "upstream_connect_timeout")
	if o.dials != 1 {
		t.Errorf("got %d tries, want 1: another one takes as long again", o.dials)
	}
}

func TestNoRetryAfterTheAnswerHasBegun(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		if n > 0 && s.conn.Reused() {
			return errors.Join(dst.Head(&exchange.Response{Status: 200, Length: 5}, false), upstreamError("read body", exchange.RetryIfReused, "closed"))
		}
		return answer(dst, 200, "ok")
	}}
	e := newEngine(t, o, config{})
	e.do(newClient("GET", "/"))
	c := e.do(newClient("GET", "/"))
	if !c.reset || len(o.streams) != 2 {
		t.Errorf("reset %v after %d tries, want true after 2", c.reset, len(o.streams))
	}
}

// TestNoRetryBudget: a budget of nothing has no minimum.
func TestNoRetryBudget(t *testing.T) {
	t.Parallel()
	o := &origin{dial: func(int) error { return upstreamError("dial", exchange.RetryAlways, "upstream_refused") }}
	e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) { r.Retry.Budget = -1 }})
	c := newClient("GET", "/")
	e.Serve(t.Context(), c)
	if o.dials != 1 || c.status != 502 {
		t.Errorf("got %d tries and status %d, want 1 and 502", o.dials, c.status)
	}
	if got := e.upstream.Cluster.Live.Retrying.Load(); got != 0 {
		t.Errorf("%d retries are counted", got)
	}
}

// TestRetryBudget: once the floor is used up, a fifth of the requests are tried again.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	o := &origin{dial: func(int) error { return upstreamError("dial", exchange.RetryAlways, "upstream_refused") }}
	e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) { r.Retry.BudgetMin = 1e-6 }}) // one, then no more
	for range 101 {
		if c := e.do(newClient("GET", "/")); c.status != 502 {
			t.Errorf("got %d", c.status)
		}
	}
	if o.dials < 101+15 || o.dials > 101+21 {
		t.Errorf("got %d tries for 101 requests, want a fifth more", o.dials)
	}
	refused := e.metric("wproxy_retries_total", "reason", "connect", "outcome", "budget")
	failed := e.metric("wproxy_retries_total", "reason", "connect", "outcome", "failed")
	if refused+failed != 101 || int(failed) != o.dials-101 {
		t.Errorf("%v retries were refused and %v failed, after %d tries", refused, failed, o.dials)
	}
}

// TestRetriedBodyIsWhole: a piece of a body that went out with a later try is sent again
// with the next one.
func TestRetriedBodyIsWhole(t *testing.T) {
	t.Parallel()
	o := &origin{data: func(n int, _ *stream, p []byte) error {
		if n == 0 && string(p) == "ab" || n == 1 && string(p) == "cd" {
			return upstreamError("write body", exchange.RetryAlways, "closed")
		}
		return nil
	}}
	e := newEngine(t, o, config{servers: 4, edit: func(r *proxy.Route) { r.Retry.Attempts = 3 }})
	c := e.do(newClient("PUT", "/").sending("ab", "cd", "ef"))
	if c.status != 200 || len(o.streams) != 3 {
		t.Fatalf("got %d after %d tries, want 200 after 3", c.status, len(o.streams))
	}
	if got := o.streams[2].body.String(); got != "abcdef" {
		t.Errorf("the last try has sent %q", got)
	}
}

// A bodyInspector is a probe whose filters may refuse a request for its body.
type bodyInspector struct{ *probe }

func (p bodyInspector) New(x *filter.Exchange) (filter.Filter, error) {
	f, err := p.probe.New(x)
	return inspectingFilter{f}, err
}

type inspectingFilter struct{ filter.Filter }

func (inspectingFilter) InspectsRequestBody() bool { return true }

// TestDeferredTry: with a filter that inspects bodies the upstream is dialed when the
// first bytes of the body, or its end, come through; everything else is as always.
func TestDeferredTry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		pieces []string // "" is a flush
		want   string
		held   string // the piece that the filter refuses
	}{
		{"bytes", []string{"", "ab", "", "cd"}, "abcd", ""},
		{"only the end", []string{"", ""}, "", ""},
		{"large", []string{"", strings.Repeat("x", 2*proxy.DuplexAfter), "y"}, strings.Repeat("x", 2*proxy.DuplexAfter) + "y", ""},
		{"refused", []string{"", "ab"}, "", "ab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var e *engine
			log := &events{}
			p := &probe{name: "a", log: log, data: func(f *probeFilter, p []byte, end bool) error {
				if len(p) > 0 && e.origin.dialed() == 0 {
					log.add("untouched")
				}
				if string(p) == tt.held && tt.held != "" {
					return f.answer(403, "no")
				}
				return f.req.Data(p, end)
			}}
			o := &origin{feed: statusThen(nil)} // when it has the body: an early answer would cut it
			e = newEngine(t, o, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{bodyInspector{p}} }})
			c := e.do(newClient("POST", "/").sending(tt.pieces...))
			if tt.held != "" {
				if c.status != 403 || e.origin.dialed() != 0 {
					t.Errorf("got %d and %d connections, want 403 and none", c.status, e.origin.dialed())
				}
				return
			}
			if c.status != 200 || len(e.origin.streams) != 1 || e.origin.streams[0].body.String() != tt.want {
				t.Errorf("got %d, %d tries", c.status, len(e.origin.streams))
			}
			if tt.want != "" && !strings.Contains(log.String(), "untouched") {
				t.Error("the upstream was dialed before the body")
			}
		})
	}
}

// TestConnectionThatLeaves: a request that was sent on a connection whose end had come is
// sent on another one, whatever its method, and that is no retry; but not for ever.
func TestConnectionThatLeaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		c      *client
		times  int
		edit   func(*proxy.Route)
		status int
	}{
		{name: "PUT", c: newClient("PUT", "/").sending("bo", "", "dy"), times: 1, status: 200},
		{name: "POST in one piece", c: newClient("POST", "/").sending("body"), times: 4, status: 200},
		{name: "without retries", c: newClient("GET", "/"), times: 2, edit: func(r *proxy.Route) { r.Retry.Attempts, r.Retry.Budget = -1, -1 }, status: 200},
		{name: "again and again", c: newClient("GET", "/"), times: 100, status: 502},
		{name: "more than is held", c: newClient("POST", "/").sending(strings.Repeat("x", 65<<10), "", "y"), times: 1, status: 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			o := &origin{used: true, feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				if n++; n <= tt.times {
					return upstreamError("read answer", exchange.RetryAlways, exchange.ReasonGoAway)
				}
				return answer(dst, 200, "ok")
			}}
			e := newEngine(t, o, config{edit: tt.edit})
			e.do(tt.c)
			if tt.c.status != tt.status {
				t.Errorf("status: got %d, want %d", tt.c.status, tt.status)
			}
			last := o.streams[len(o.streams)-1]
			if want := strings.Join(tt.c.body, ""); tt.status == 200 && last.body.String() != want {
				t.Errorf("the upstream got %q, want %q", last.body.String(), want)
			}
			if tt.status == 200 {
				if got := e.line()["tries"]; got != 1.0 {
					t.Errorf("tries: got %v, want 1", got)
				}
			}
			if n > 10 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// TestConnectionsThatOnlyLeave: a server that ends every connection before it has answered
// anything on it fails, and does not get five times the requests.
func TestConnectionsThatOnlyLeave(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
		return upstreamError("read answer", exchange.RetryAlways, exchange.ReasonGoAway)
	}}
	e := newEngine(t, o, config{servers: 3, edit: func(r *proxy.Route) { r.Retry.Attempts = 3 }})
	const requests = 200
	for range requests {
		e.wantStatus(e.do(newClient("GET", "/")), 502, "upstream_goaway")
	}
	if n := len(o.streams); n <= requests || n > requests*5/4+20 { // the floor of the budget is beside it
		t.Errorf("%d tries for %d requests", n, requests)
	}
}

// TestRefusedStream: what a server has not looked at is sent again, to another server if
// there is one, and else to the same, whatever the method and however new the connection.
func TestRefusedStream(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 2} {
		for _, used := range []bool{false, true} {
			t.Run(strings.Repeat("s", servers), func(t *testing.T) {
				t.Parallel()
				first := true
				o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
					if s.head.Method == "POST" {
						<-s.got
						if first {
							first = false
							return upstreamError("read answer", exchange.RetryAlways, "refused_stream")
						}
					}
					return answer(dst, 200, "ok")
				}}
				e := newEngine(t, o, config{servers: servers})
				if used {
					for range servers {
						e.do(newClient("GET", "/"))
					}
				}
				c := newClient("POST", "/").sending("body")
				e.do(c)
				if c.status != 200 {
					t.Errorf("used: %v: got %d", used, c.status)
				}
				if got := e.line()["tries"]; got != 2.0 {
					t.Errorf("tries: got %v, want 2", got)
				}
			})
		}
	}
}
