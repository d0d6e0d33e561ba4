package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// statusThen answers the first tries with a status each, with fields, and the next
// with 200.
func statusThen(fields []string, statuses ...int) func(int, *stream, exchange.Sink[*exchange.Response]) error {
	return func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		select {
		case <-s.got:
		case <-s.done:
		}
		if n >= len(statuses) {
			return answer(dst, 200, "ok")
		}
		h := &exchange.Response{Status: statuses[n], Length: 6}
		for i := 0; i < len(fields); i += 2 {
			h.Fields.Add(fields[i], fields[i+1])
		}
		if err := dst.Head(h, false); err != nil {
			return err
		}
		return dst.Data([]byte(fmt.Sprintf("try %2d", n)), true)
	}
}

// on makes a route try again after statuses and classes.
func on(classes proxy.RetryClass, attempts int, statuses ...int) func(*proxy.Route) {
	return func(r *proxy.Route) {
		r.Retry.On, r.Retry.Attempts = classes, attempts
		for _, s := range statuses {
			r.Retry.Statuses.Add(s)
		}
	}
}

func retried(e *engine) []string {
	list, _ := e.line()["retried"].([]any)
	var out []string
	for _, x := range list {
		out = append(out, fmt.Sprint(x))
	}
	return out
}

func TestRetryOnStatus(t *testing.T) {
	t.Parallel()
	late := time.Now().Add(time.Hour)
	const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
	big := strings.Repeat("x", proxy.MaxHeldBody+1)
	tests := []struct {
		name    string
		c       *client
		edit    func(*proxy.Route)
		servers int
		origin  []int
		fields  []string
		status  int
		body    string
		retried []string
	}{
		{name: "once", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, status: 200, body: "ok", retried: []string{"503"}},
		{name: "the only server", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 1, origin: []int{503}, status: 200, body: "ok", retried: []string{"503"}},
		{
			name: "the last answer is passed on as it is", c: newClient("GET", "/"), edit: on(0, 2, 500, 503), servers: 3, origin: []int{500, 503, 500, 500},
			status: 500, body: "try  2", retried: []string{"500", "503"},
		},
		{name: "another status", c: newClient("GET", "/"), edit: on(0, 2, 503), servers: 3, origin: []int{502}, status: 502, body: "try  0"},
		{name: "429 and 404 can be asked for", c: newClient("GET", "/"), edit: on(0, 2, 404, 429), servers: 3, origin: []int{404, 429}, status: 200, body: "ok", retried: []string{"404", "429"}},
		{name: "POST", c: newClient("POST", "/").sending("x"), edit: on(0, 2, 503), servers: 3, origin: []int{503}, status: 503, body: "try  0"},
		{
			name: "POST that may be repeated", c: newClient("POST", "/").sending("x"),
			edit:    func(r *proxy.Route) { on(0, 2, 503)(r); r.Retry.Idempotent = true },
			servers: 3, origin: []int{503}, status: 200, body: "ok", retried: []string{"503"},
		},
		{name: "PUT, streaming", c: newClient("PUT", "/").sending("a", "", "b"), edit: on(0, 2, 503), servers: 3, origin: []int{503}, status: 200, body: "ok", retried: []string{"503"}},
		{name: "PUT with more than is held", c: newClient("PUT", "/").sending(big, "b"), edit: on(0, 2, 503), servers: 3, origin: []int{503}, status: 503, body: "try  0"},
		{
			name: "PUT with more held", c: newClient("PUT", "/").sending(big, "b"),
			edit:    func(r *proxy.Route) { on(0, 2, 503)(r); r.Retry.BodyBuffer = len(big) },
			servers: 3, origin: []int{503}, status: 200, body: "ok", retried: []string{"503"},
		},
		{
			name: "PUT with nothing held", c: newClient("PUT", "/").sending("a", "b"),
			edit:    func(r *proxy.Route) { on(0, 2, 503)(r); r.Retry.BodyBuffer = -1 },
			servers: 3, origin: []int{503}, status: 503, body: "try  0",
		},
		{
			name: "no budget", c: newClient("GET", "/"), edit: func(r *proxy.Route) { on(0, 2, 503)(r); r.Retry.Budget = -1 },
			servers: 3, origin: []int{503}, status: 503, body: "try  0",
		},
		{name: "retry-after of nothing", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, fields: []string{"retry-after", "0"}, status: 200, body: "ok", retried: []string{"503"}},
		{name: "retry-after too long", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, fields: []string{"retry-after", "2"}, status: 503, body: "try  0"},
		{name: "retry-after that has passed", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, fields: []string{"retry-after", httpDate}, status: 200, body: "ok", retried: []string{"503"}},
		{name: "retry-after as a date too late", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, fields: []string{"retry-after", late.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}, status: 503, body: "try  0"},
		{name: "retry-after that says nothing", c: newClient("GET", "/"), edit: on(0, 1, 503), servers: 2, origin: []int{503}, fields: []string{"retry-after", "soon"}, status: 503, body: "try  0"},
		{
			name: "the deadline comes before the wait is over", c: newClient("GET", "/"), edit: func(r *proxy.Route) { on(0, 1, 503)(r); r.Timeout = 900 * time.Millisecond },
			servers: 2, origin: []int{503}, fields: []string{"retry-after", "1"}, status: 503, body: "try  0",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: statusThen(tt.fields, tt.origin...)}
			e := newEngine(t, o, config{servers: tt.servers, edit: tt.edit})
			c := e.do(tt.c)
			if c.status != tt.status || c.got.String() != tt.body || !c.ended {
				t.Errorf("got %d %q, want %d %q", c.status, c.got.String(), tt.status, tt.body)
			}
			if got := retried(e); !slices.Equal(got, tt.retried) || e.line()["tries"] != float64(len(tt.retried)+1) {
				t.Errorf("retried %v in %v tries, want %v", got, e.line()["tries"], tt.retried)
			}
			if want := strings.Join(tt.c.body, ""); tt.status == 200 {
				if got := o.streams[len(o.streams)-1].body.String(); got != want {
					t.Errorf("the last try has sent %d bytes, want %d", len(got), len(want))
				}
			}
			if tt.status == 200 && tt.c.body == nil && o.dialed() != min(tt.servers, len(o.streams)) {
				t.Errorf("%d connections for %d tries at %d servers: that of a short answer can be used again", o.dialed(), len(o.streams), tt.servers)
			}
			failures := e.metric("wproxy_upstream_failures_total", "reason", "status")
			if failures != float64(len(tt.retried)) {
				t.Errorf("%v failures are counted, want %d", failures, len(tt.retried))
			}
		})
	}
}

// TestDroppedAnswerIsNotWaitedFor: an answer that is not passed on, and that does not
// end at once, is given up with its connection.
func TestDroppedAnswerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		if n > 0 {
			return answer(dst, 200, "ok")
		}
		if err := dst.Head(&exchange.Response{Status: 503, Length: 1 << 20}, false); err != nil {
			return err
		}
		for range 1 << 10 {
			if err := dst.Data(nil, false); err != nil { // about to wait
				return err
			}
		}
		return s.hang()
	}}
	e := newEngine(t, o, config{edit: on(0, 1, 503)})
	c := e.do(newClient("GET", "/"))
	if c.status != 200 || c.got.String() != "ok" || o.dialed() != 2 {
		t.Errorf("got %d %q over %d connections", c.status, c.got.String(), o.dialed())
	}
}

func TestRetryOnReset(t *testing.T) {
	t.Parallel()
	failing := func(e error) func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			if n == 0 {
				return e
			}
			return answer(dst, 200, "ok")
		}
	}
	reset := upstreamError("read answer", exchange.RetryNever, "closed")
	garbage := upstreamError("read answer", exchange.RetryNever, "bad_status_line")
	silent := &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "read_timeout"}
	refused := upstreamError("write request", exchange.RetryAlways, exchange.ReasonRefusedStream)
	for _, tt := range []struct {
		name    string
		method  string
		on      proxy.RetryClass
		err     error
		status  int
		retried string
	}{
		{"reset", "GET", proxy.OnReset, reset, 200, "reset"},
		{"reset of a POST", "POST", proxy.OnReset, reset, 502, ""},
		{"reset by default", "GET", 0, reset, 502, ""},
		{"reset, where only others count", "GET", proxy.OnConnect | proxy.OnRefused | proxy.OnTimeout, reset, 502, ""},
		{"garbage", "GET", proxy.OnReset, garbage, 200, "protocol"},
		{"timeout", "GET", proxy.OnTimeout, silent, 200, "timeout"},
		{"timeout of a POST", "POST", proxy.OnTimeout, silent, 504, ""},
		{"timeout by default", "GET", 0, silent, 504, ""},
		{"refused stream", "GET", 0, refused, 200, "refused"},
		{"refused stream of a POST", "POST", 0, refused, 200, "refused"},
		{"refused stream, where it does not count", "POST", proxy.OnConnect, refused, 502, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, &origin{feed: failing(tt.err)}, config{servers: 2, edit: on(tt.on, 1)})
			c := newClient(tt.method, "/")
			if tt.method == "POST" {
				c.sending("body")
			}
			e.do(c)
			if got := strings.Join(retried(e), " "); c.status != tt.status || got != tt.retried {
				t.Errorf("got %d, retried %q; want %d, %q", c.status, got, tt.status, tt.retried)
			}
		})
	}
}

// TestStaleConnectionCostsNoAttempt: that a connection was at its end says nothing about
// the server, so a server that turns out to be dead can still be left for another.
func TestStaleConnectionCostsNoAttempt(t *testing.T) {
	t.Parallel()
	o := &origin{feed: stale}
	e := newEngine(t, o, config{servers: 1})
	e.do(newClient("GET", "/"))
	dead := true
	o.dial = func(int) error {
		if dead {
			dead = false
			return upstreamError("dial", exchange.RetryAlways, "upstream_refused")
		}
		return nil
	}
	c := e.do(newClient("GET", "/"))
	if got := strings.Join(retried(e), " "); c.status != 200 || got != "reset connect" {
		t.Errorf("got %d, retried %q", c.status, got)
	}
}

// TestPerTry: a try whose answer does not begin in time is given up, and its
// connection with it; the time counts from the end of a request that is slow in coming.
func TestPerTry(t *testing.T) {
	t.Parallel()
	silent := func(tries int) func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			if n < tries {
				return s.hang()
			}
			<-s.got
			return answer(dst, 200, "ok")
		}
	}
	slow := func(c *client, dst exchange.Sink[*exchange.Request]) error {
		if err := dst.Head(&c.req, false); err != nil {
			return err
		}
		for range 5 {
			if err := dst.Data([]byte("x"), false); err != nil {
				return err
			}
			if err := dst.Data(nil, false); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
		return dst.Data([]byte("y"), true)
	}
	for _, tt := range []struct {
		name    string
		c       *client
		servers int
		silent  int
		on      proxy.RetryClass
		timeout time.Duration
		status  int
		reason  string
		took    time.Duration // at least; a back-off may come on top
		tries   float64
	}{
		{"the next server answers", newClient("GET", "/"), 3, 1, proxy.OnTimeout, 10 * time.Second, 200, "", time.Second, 2},
		{"none does", newClient("GET", "/"), 3, 9, proxy.OnTimeout, 10 * time.Second, 504, "upstream_per_try_timeout", 3 * time.Second, 3},
		{"no tries after a timeout", newClient("GET", "/"), 3, 1, proxy.OnConnect, 10 * time.Second, 504, "upstream_per_try_timeout", time.Second, 1},
		{"a POST is not repeated", newClient("POST", "/").sending("x"), 3, 1, proxy.OnTimeout, 10 * time.Second, 504, "upstream_per_try_timeout", time.Second, 1},
		{"a slow upload has its time", &client{feed: slow}, 1, 0, proxy.OnTimeout, time.Minute, 200, "", 5 * time.Second, 1},
		{"a slow upload to a silent server", &client{feed: slow}, 2, 1, proxy.OnTimeout, time.Minute, 200, "", 6 * time.Second, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: silent(tt.silent)}
				e := newEngine(t, o, config{servers: tt.servers, edit: func(r *proxy.Route) {
					r.Retry = proxy.Retry{Attempts: 2, On: tt.on, PerTry: time.Second, Backoff: time.Millisecond, MaxBackoff: time.Millisecond}
					r.Timeout = tt.timeout
				}})
				c := tt.c
				if c.feed != nil {
					c = newClient("PUT", "/")
					c.feed, c.req.Length = tt.c.feed, exchange.LengthUnknown
				}
				begin := time.Now()
				e.do(c)
				took := time.Since(begin)
				e.wantStatus(c, tt.status, tt.reason)
				if took < tt.took || took > tt.took+20*time.Millisecond || e.line()["tries"] != tt.tries {
					t.Errorf("it took %v and %v tries, want %v and %v", took, e.line()["tries"], tt.took, tt.tries)
				}
				e.logger.Close()
				e.pool.Close()
			})
		})
	}
}

// TestPerTryBoundsConnecting: the time of a try is over while its connection is made.
func TestPerTryBoundsConnecting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{}
		e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) { r.Retry.PerTry = time.Second }})
		dials := 0
		e.upstream.Pool = pool.New(pool.Options{Dial: func(ctx context.Context, _ *upstream.Endpoint) (pool.Conn, error) {
			if dials++; dials == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return &conn{o: o}, nil
		}})
		defer e.upstream.Pool.Close()
		begin := time.Now()
		c := newClient("POST", "/").sending("x")
		e.Serve(t.Context(), c)
		if got := strings.Join(retried(e), " "); c.status != 200 || got != "connect" || time.Since(begin) != time.Second {
			t.Errorf("got %d, retried %q, after %v", c.status, got, time.Since(begin))
		}
		e.logger.Close()
		e.pool.Close()
	})
}

// TestAnswerInTimeIsNotBounded: per_try ends with the head of the answer.
func TestAnswerInTimeIsNotBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			if err := dst.Head(&exchange.Response{Status: 200, Length: 2}, false); err != nil {
				return err
			}
			select {
			case <-time.After(time.Minute):
			case <-s.done:
			}
			return dst.Data([]byte("ok"), true)
		}}
		e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Retry.PerTry, r.Timeout = time.Second, time.Hour }})
		if c := e.do(newClient("GET", "/")); c.status != 200 || c.reset || o.streams[0].reset {
			t.Errorf("got %d, cut %v", c.status, c.reset)
		}
		e.logger.Close()
		e.pool.Close()
	})
}

// TestBackoffEndsWithTheClient: nobody waits for somebody who has gone, or for an
// answer that somebody else gives.
func TestBackoffEndsWithTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: statusThen([]string{"retry-after", "30"}, 503)}
		e := newEngine(t, o, config{edit: func(r *proxy.Route) { on(0, 1, 503)(r); r.Retry.RetryAfter = time.Minute }})
		c := newClient("GET", "/")
		begin := time.Now()
		time.AfterFunc(5*time.Second, c.leave)
		e.do(c)
		if took := time.Since(begin); took != 5*time.Second || len(o.streams) != 1 || c.status != 0 {
			t.Errorf("after %v and %d tries: %d", took, len(o.streams), c.status)
		}
		if m := e.line(); m["reason"] != "client_gone" || m["status"] != 499.0 || len(retried(e)) != 0 {
			t.Errorf("logged %v", m)
		}
		// And who stays is served after the whole time.
		o.streams, o.feed = nil, statusThen([]string{"retry-after", "30"}, 503)
		begin = time.Now()
		if e.do(newClient("GET", "/")).status != 200 || time.Since(begin) < 30*time.Second || time.Since(begin) > 31*time.Second {
			t.Errorf("after %v", time.Since(begin))
		}
		e.logger.Close()
		e.pool.Close()
	})
}

// TestBackoffGrows: waits double up to the longest, and are left to chance below that.
func TestBackoffGrows(t *testing.T) {
	t.Parallel()
	for tries, bound := range map[int]time.Duration{
		1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 3: 40 * time.Millisecond, 4: 50 * time.Millisecond, 90: 50 * time.Millisecond,
	} {
		least, most := time.Hour, time.Duration(0)
		for range 2000 {
			d := proxy.BackoffOf(10*time.Millisecond, 50*time.Millisecond, tries)
			least, most = min(least, d), max(most, d)
		}
		if most > bound || most < bound*95/100 || least > bound/20 {
			t.Errorf("after %d tries: from %v to %v, want 0 to %v", tries, least, most, bound)
		}
	}
}

// TestDeadlineHeader: servers are told what is left, in each try.
func TestDeadlineHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		timeout, perTry time.Duration
		want            []string
	}{
		{10 * time.Second, 0, []string{"10000", "9000"}},
		{10 * time.Second, 3 * time.Second, []string{"3000", "3000"}},
		{3500 * time.Millisecond, 3 * time.Second, []string{"3000", "2500"}},
		{-1, 0, []string{"", ""}},
		{-1, time.Second * 5, []string{"5000", "5000"}},
	} {
		t.Run(fmt.Sprint(tt.timeout, tt.perTry), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: statusThen([]string{"retry-after", "1"}, 503)}
				e := newEngine(t, o, config{servers: 2, edit: func(r *proxy.Route) {
					on(0, 1, 503)(r)
					r.Timeout, r.Retry.PerTry = tt.timeout, tt.perTry
					r.Retry.Backoff, r.Retry.MaxBackoff = 1, 1
				}})
				e.upstream.DeadlineHeader = "x-left"
				e.do(newClient("GET", "/").with("x-left", "999999", "x-left", "7"))
				var got []string
				for _, s := range o.streams {
					got = append(got, s.head.Fields.Joined("x-left"))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				e.logger.Close()
				e.pool.Close()
			})
		})
	}
}

// TestFullServer: servers that have no room are left for another, whatever the method, the
// attempts and the budget; when all are full the client is told when to come back.
func TestFullServer(t *testing.T) {
	t.Parallel()
	o := &origin{}
	e := newEngine(t, o, config{servers: 3, edit: func(r *proxy.Route) { r.Retry.BudgetMin = -1 }})
	for _, ep := range e.upstream.Cluster.Endpoints {
		ep.MaxRequests = 1
	}
	e.upstream.Pool = pool.New(pool.Options{Queue: -1, Dial: func(context.Context, *upstream.Endpoint) (pool.Conn, error) { return &conn{o: o}, nil }})
	defer e.upstream.Pool.Close()
	all := e.upstream.Cluster.Endpoints
	take := func(ep *upstream.Endpoint) pool.Conn {
		c, _, err := e.upstream.Pool.Get(t.Context(), pool.Request{Endpoint: ep})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	take(all[0])
	take(all[1])
	most := 0
	for range 60 { // where a retry goes is left to chance
		c := newClient("POST", "/").sending("x")
		e.Serve(t.Context(), c)
		if c.status != 200 || e.line()["server"] != all[2].Name {
			t.Errorf("got %d from %v", c.status, e.line()["server"])
		}
		most = max(most, len(retried(e)))
	}
	if most != 2 {
		t.Errorf("at most %d full servers were left, want 2: they cost no attempt and no budget", most)
	}
	take(all[2])
	c := newClient("GET", "/")
	e.Serve(t.Context(), c)
	e.wantStatus(c, 503, pool.ReasonFull)
	if got := c.fields.Value("retry-after"); got != "1" {
		t.Errorf("retry-after: %q", got)
	}
	if got := e.metric("wproxy_refused_total", "reason", "queue_full"); got != 1 {
		t.Errorf("%v are counted", got)
	}
}
