package proxy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

// A probe is a filter factory whose filters tell a log what they see, and do
// what their hooks say.
type probe struct {
	name     string
	log      *events
	fail     error
	detach   bool
	head     func(f *probeFilter, h *exchange.Request, end bool) error
	data     func(f *probeFilter, p []byte, end bool) error
	response func(f *probeFilter, h *exchange.Response, end bool) error
	body     func(f *probeFilter, p []byte, end bool) error // of the response
	closed   func(x *filter.Exchange)
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	e.all = append(e.all, s)
	e.mu.Unlock()
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.all, " ")
}

func (p *probe) Name() string { return p.name }

func (p *probe) New(x *filter.Exchange) (filter.Filter, error) {
	if p.fail != nil {
		return nil, p.fail
	}
	return &probeFilter{p: p, x: x}, nil
}

type probeFilter struct {
	p    *probe
	x    *filter.Exchange
	req  exchange.Sink[*exchange.Request]
	resp exchange.Sink[*exchange.Response]
}

func (f *probeFilter) Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request] {
	f.req = next
	return probeRequest{f}
}

func (f *probeFilter) Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response] {
	f.resp = next
	return probeResponse{f}
}

func (f *probeFilter) Close(err error) {
	if f.p.closed != nil {
		f.p.closed(f.x)
	}
	if err != nil {
		f.p.log.add(f.p.name + "!close")
		return
	}
	f.p.log.add(f.p.name + ".close")
}

func (f *probeFilter) answer(status int, body string) error {
	h := &exchange.Response{Status: status}
	h.Fields.Add("x-from", f.p.name)
	return f.x.Engine.Answer(f, &filter.Answer{Head: h, Body: []byte(body), Reason: f.p.name + "_said_so"})
}

type probeRequest struct{ f *probeFilter }

func (r probeRequest) Head(h *exchange.Request, end bool) error {
	r.f.p.log.add(r.f.p.name + ">")
	if r.f.p.head != nil {
		return r.f.p.head(r.f, h, end)
	}
	return r.f.req.Head(h, end)
}

func (r probeRequest) Data(p []byte, end bool) error {
	r.f.p.log.add(r.f.p.name + ">data")
	if r.f.p.data != nil {
		return r.f.p.data(r.f, p, end)
	}
	return r.f.req.Data(p, end)
}

func (r probeRequest) Trailer(f *exchange.Fields) error { return r.f.req.Trailer(f) }
func (r probeRequest) Detached() bool                   { return r.f.p.detach }

type probeResponse struct{ f *probeFilter }

func (r probeResponse) Head(h *exchange.Response, end bool) error {
	r.f.p.log.add("<" + r.f.p.name)
	h.Fields.Add("x-via-"+r.f.p.name, "1")
	if r.f.p.response != nil {
		return r.f.p.response(r.f, h, end)
	}
	return r.f.resp.Head(h, end)
}

func (r probeResponse) Data(p []byte, end bool) error {
	r.f.p.log.add("<" + r.f.p.name + "data")
	if r.f.p.body != nil {
		return r.f.p.body(r.f, p, end)
	}
	return r.f.resp.Data(p, end)
}

func (r probeResponse) Trailer(f *exchange.Fields) error { return r.f.resp.Trailer(f) }
func (r probeResponse) Detached() bool                   { return r.f.p.detach }

// chain makes probes a, b, c; edit changes them.
func chain(edit func(a, b, c *probe)) (*events, []filter.Factory) {
	log := &events{}
	a, b, c := &probe{name: "a", log: log}, &probe{name: "b", log: log}, &probe{name: "c", log: log}
	if edit != nil {
		edit(a, b, c)
	}
	return log, []filter.Factory{a, b, c}
}

func TestChain(t *testing.T) {
	t.Parallel()
	answering := func(f *probeFilter, _ *exchange.Request, _ bool) error {
		if err := f.answer(429, "slow down"); err != nil {
			return err
		}
		return exchange.ErrAnswered
	}
	broken := func(*probeFilter, *exchange.Request, bool) error { return errors.New("a bug") }
	refused := func(*probeFilter, *exchange.Request, bool) error {
		return &exchange.Error{Op: "filter", Status: 413, Reason: "too_much"}
	}
	respond := &proxy.Respond{Status: 200, Body: []byte("fixed")}
	tests := []struct {
		name   string
		edit   func(a, b, c *probe)
		route  func(*proxy.Route)
		body   []string
		status int
		reason string
		got    string
		events string
		tries  int
	}{
		{
			name: "order", status: 200, got: "ok", tries: 1,
			events: "a> b> c> <c <b <a <cdata <bdata <adata a.close b.close c.close",
		},
		{
			name: "detached", edit: func(a, _, c *probe) { a.detach, c.detach = true, true }, body: []string{"x", "y"}, status: 200, got: "ok", tries: 1,
			events: "a> b> c> b>data b>data <c <b <a <bdata a.close b.close c.close",
		},
		{
			name: "the middle one answers", edit: func(_, b, _ *probe) { b.head = answering }, status: 429, reason: "b_said_so", got: "slow down",
			events: "a> b> <b <a <bdata <adata a.close b.close c.close",
		},
		{
			name: "the first one answers a body", edit: func(a, _, _ *probe) { a.head = answering }, body: []string{"x", "y"}, status: 429, reason: "a_said_so", got: "slow down",
			events: "a> <a <adata a.close b.close c.close",
		},
		{
			name: "respond", route: func(r *proxy.Route) { r.Split, r.Respond = nil, respond }, status: 200, got: "fixed",
			events: "<c <b <a <cdata <bdata <adata a.close b.close c.close",
		},
		{
			name: "denied", route: func(r *proxy.Route) { r.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, status: 403, reason: "denied",
			events: "<c <b <a <cdata <bdata <adata a.close b.close c.close",
		},
		{
			name: "a factory fails", edit: func(_, b, _ *probe) { b.fail = errors.New("no VM") }, status: 503, reason: "plugin_failed:b",
			events: "a.close",
		},
		{
			name: "a factory refuses", edit: func(_, b, _ *probe) {
				b.fail = &exchange.Error{Op: "new", Status: 504, Reason: "plugin_timeout:b"}
			}, status: 504, reason: "plugin_timeout:b", events: "a.close",
		},
		{
			name: "a filter is broken", edit: func(_, b, _ *probe) { b.head = broken }, status: 500, reason: "internal",
			events: "a> b> <b <a <bdata <adata a.close b.close c.close",
		},
		{
			name: "a filter refuses", edit: func(_, b, _ *probe) { b.head = refused }, status: 413, reason: "too_much",
			events: "a> b> <b <a <bdata <adata a.close b.close c.close",
		},
		{
			name: "a filter swallows the request", edit: func(_, b, _ *probe) {
				b.head = func(*probeFilter, *exchange.Request, bool) error { return nil }
			}, status: 502, reason: "incomplete", events: "a> b> a.close b.close c.close",
		},
		{
			name: "a filter replaces the response", edit: func(_, b, _ *probe) {
				b.response = func(f *probeFilter, _ *exchange.Response, _ bool) error {
					if err := answer(f.resp, 502, "replaced"); err != nil {
						return err
					}
					return exchange.ErrAnswered
				}
			}, status: 502, got: "replaced", tries: 1, events: "a> b> c> <c <b <a <adata a.close b.close c.close",
		},
		{
			name: "a filter fails on the response", edit: func(_, b, _ *probe) {
				b.response = func(*probeFilter, *exchange.Response, bool) error {
					return &exchange.Error{Op: "filter", Status: 502, Reason: "body_too_large"}
				}
			}, status: 502, reason: "body_too_large", tries: 1, events: "a> b> c> <c <b a.close b.close c.close",
		},
		{
			name: "a filter answers after the upstream", edit: func(_, b, _ *probe) {
				b.response = func(f *probeFilter, h *exchange.Response, end bool) error {
					if err := f.answer(500, "late"); !errors.Is(err, exchange.ErrAnswered) {
						return errors.New("two answers")
					}
					return f.resp.Head(h, end)
				}
			}, status: 200, got: "ok", tries: 1, events: "a> b> c> <c <b <a <cdata <bdata <adata a.close b.close c.close",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log, filters := chain(tt.edit)
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				return answer(dst, 200, "ok")
			}}
			e := newEngine(t, o, config{edit: func(r *proxy.Route) {
				r.Filters = filters
				if tt.route != nil {
					tt.route(r)
				}
			}})
			c := newClient("GET", "/")
			if tt.body != nil {
				c.sending(tt.body...)
			}
			e.do(c)
			e.wantStatus(c, tt.status, tt.reason)
			if tt.got != "" && c.got.String() != tt.got {
				t.Errorf("body: got %q, want %q", c.got.String(), tt.got)
			}
			got := log.String()
			if strings.HasPrefix(tt.name, "a factory") {
				got = got[strings.LastIndex(got, " ")+1:]
			}
			if got != tt.events {
				t.Errorf("events:\ngot  %s\nwant %s", got, tt.events)
			}
			if len(o.streams) != tt.tries {
				t.Errorf("tries: got %d, want %d", len(o.streams), tt.tries)
			}
		})
	}
}

func TestUnreachedFilterPassesTheAnswerUnseen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var parked *probeFilter
		log, filters := chain(func(_, b, _ *probe) {
			b.head = func(f *probeFilter, _ *exchange.Request, _ bool) error {
				parked = f
				<-release
				return exchange.ErrAnswered
			}
		})
		e := newEngine(t, &origin{}, config{noLog: true, edit: func(r *proxy.Route) { r.Filters = filters }})
		c := newClient("GET", "/")
		done := make(chan struct{})
		go func() { e.Serve(t.Context(), c); close(done) }()
		synctest.Wait()
		// From another goroutine, as a tick does.
		if err := parked.answer(503, "no"); err != nil {
			t.Error(err)
		}
		close(release)
		<-done
		if got, want := log.String(), "a> b> <b <a <bdata <adata a.close b.close c.close"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if c.status != 503 || c.fields.Has("x-via-c") {
			t.Errorf("status %d, fields %v", c.status, c.fields.List())
		}
	})
}

func TestOneAnswer(t *testing.T) {
	t.Parallel()
	// A reply from another goroutine races with the upstream's answer: the
	// client sees one of them, whole.
	won := map[int]int{}
	for i := range 300 {
		log := &events{}
		var wg sync.WaitGroup
		p := &probe{name: "a", log: log, head: func(f *probeFilter, h *exchange.Request, end bool) error {
			wg.Go(func() {
				for range i % 7 {
					time.Sleep(0)
				}
				_ = f.answer(429, "from the filter")
			})
			err := f.req.Head(h, end)
			wg.Wait() // a filter's own goroutines end with it
			return err
		}}
		o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			select {
			case <-s.got:
				return answer(dst, 200, "from the upstream")
			case <-s.done:
				return s.hang()
			}
		}}
		e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
		c := newClient("GET", "/")
		if i%2 == 0 {
			c.sending("x")
		}
		e.do(c)
		want := map[int]string{200: "from the upstream", 429: "from the filter"}[c.status]
		if want == "" || c.got.String() != want || !c.ended {
			t.Fatalf("got %d %q", c.status, c.got.String())
		}
		won[c.status]++
	}
	t.Log("answers:", won)
}

func TestCollectedBodyIsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, filters := chain(func(a, _, _ *probe) {
			a.head = func(*probeFilter, *exchange.Request, bool) error { return nil }
			a.data = func(*probeFilter, []byte, bool) error { return nil }
		})
		e := newEngine(t, &origin{}, config{noLog: true, edit: func(r *proxy.Route) { r.Filters, r.Timeout = filters, 3*time.Second }})
		c := newClient("POST", "/").sending()
		c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
			if err := errors.Join(dst.Head(&c.req, false), dst.Data([]byte("x"), false)); err != nil {
				return err
			}
			<-c.answered // the client sends nothing more
			return exchange.ErrAnswered
		}
		start := time.Now()
		e.Serve(t.Context(), c)
		if c.status != 504 || time.Since(start) != 3*time.Second {
			t.Errorf("got %d after %v, want 504 after 3s", c.status, time.Since(start))
		}
		if got := log.String(); !strings.Contains(got, "<a") || strings.Contains(got, "<b") {
			t.Errorf("events: %s", got)
		}
	})
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	d, err := route.NewRedirect("/new", 308, 443)
	if err != nil {
		t.Fatal(err)
	}
	log, filters := chain(nil)
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Split, r.Redirect, r.Filters = nil, d, filters }})
	c := e.do(newClient("GET", "/old"))
	e.wantStatus(c, 308, "")
	if c.fields.Value("location") == "" || c.fields.Value("x-via-a") != "1" || strings.Contains(log.String(), "a>") {
		t.Errorf("fields %v, events %s", c.fields.List(), log)
	}
}

func TestPluginsInTheLog(t *testing.T) {
	t.Parallel()
	p := &probe{name: "a", log: &events{}, head: func(f *probeFilter, h *exchange.Request, end bool) error {
		f.x.SetLogField("cache", "hit")
		f.x.Verdicts = append(f.x.Verdicts, filter.Verdict{Plugin: "a", Verdict: "allow", Took: 5 * time.Microsecond})
		return f.req.Head(h, end)
	}}
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
	e.do(newClient("GET", "/"))
	m := e.line()
	if m["cache"] != "hit" || len(m["plugins"].([]any)) != 1 {
		t.Errorf("log: %v", m)
	}
}

// TestReasonOfAFilter: a filter that replaces the response it holds says why, and
// the log says the same, whoever made the response.
func TestReasonOfAFilter(t *testing.T) {
	t.Parallel()
	replace := func(f *probeFilter, _ *exchange.Response, _ bool) error {
		f.x.Mu.Lock()
		f.x.Reason = "plugin_failed:a"
		f.x.Mu.Unlock()
		if err := f.resp.Head(&exchange.Response{Status: 503}, true); err != nil {
			return err
		}
		return exchange.ErrAnswered
	}
	pass := func(f *probeFilter, h *exchange.Response, end bool) error { return f.resp.Head(h, end) }
	broken := &origin{feed: func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return upstreamError("read answer", exchange.RetryNever, "truncated")
	}}
	for _, tt := range []struct {
		name     string
		origin   *origin
		response func(f *probeFilter, h *exchange.Response, end bool) error
		status   int
		reason   string
	}{
		{"the upstream's, replaced", &origin{}, replace, 503, "plugin_failed:a"},
		{"ours, replaced", broken, replace, 503, "plugin_failed:a"},
		{"the upstream's", &origin{}, pass, 200, ""},
		{"ours", broken, pass, 502, "upstream_truncated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var last string // the log alone would not show what is left over
			p := &probe{name: "a", log: &events{}, response: tt.response}
			e := newEngine(t, tt.origin, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
			p.head = func(f *probeFilter, h *exchange.Request, end bool) error {
				last = f.x.Reason
				return f.req.Head(h, end)
			}
			for range 2 {
				c := newClient("GET", "/")
				e.do(c)
				e.wantStatus(c, tt.status, tt.reason)
				if last != "" {
					t.Errorf("the exchange begins with reason %q", last)
				}
			}
		})
	}
}

func TestPanicLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"request", "response", "response of a streaming request"} {
		bomb := func(*probeFilter, *exchange.Response, bool) error { panic("a bug") }
		p := &probe{name: "a", log: &events{}, response: bomb}
		if where == "request" {
			p.response, p.head = nil, func(*probeFilter, *exchange.Request, bool) error { panic("a bug") }
		}
		e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
		c := newClient("GET", "/")
		if strings.Contains(where, "streaming") {
			c.sending("a", "", "b", "c")
		}
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "a bug") {
					t.Errorf("%s: recovered %v", where, v)
				}
			}()
			e.Serve(t.Context(), c)
		}()
		if !c.reset {
			t.Errorf("%s: the client was not reset", where)
		}
		old := e.Swap(&proxy.Snapshot{Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute})
		<-old.Drained()
		if st := e.pool.Stats(); st.Open != 0 || e.upstream.Cluster.Live.Active.Load() != 0 {
			t.Errorf("%s: %d connections are open, %d exchanges live", where, st.Open, e.upstream.Cluster.Live.Active.Load())
		}
		if got := p.log.String(); !strings.HasSuffix(got, "a!close") {
			t.Errorf("%s: events %s", where, got)
		}
	}
}
