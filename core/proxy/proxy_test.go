package proxy_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{})
	for range 3 {
		c := e.do(newClient("GET", "/x?y=1").with("accept", "*/*"))
		e.wantStatus(c, 200, "")
		if c.got.String() != "ok" {
			t.Errorf("body: got %q", c.got.String())
		}
	}
	if e.origin.dials != 1 {
		t.Errorf("got %d connections for 3 exchanges, want 1", e.origin.dials)
	}
	s := e.origin.streams[0]
	if s.head.Target != "/x?y=1" || s.head.Authority != "a.example.com" || s.head.Method != "GET" {
		t.Errorf("upstream got %+v", s.head)
	}
	m := e.line()
	for k, want := range map[string]any{
		"client": "192.0.2.1", "method": "GET", "host": "a.example.com", "path": "/x?y=1", "bytes_out": 2.,
		"route": "r", "upstream": "u", "server": "127.0.0.1:10", "tries": 1.,
	} {
		if m[k] != want {
			t.Errorf("%s: got %v, want %v", k, m[k], want)
		}
	}
	if id := s.head.Fields.Value("x-request-id"); len(id) != 32 {
		t.Errorf("x-request-id: got %q", id)
	}
	if got := e.metric("wproxy_requests_total", "route", "r", "listener", "http", "code_class", "2xx"); got != 3 {
		t.Errorf("requests: got %v, want 3", got)
	}
	if got := e.metric("wproxy_upstream_seconds", "upstream", "u", "phase", "total"); got != 3 {
		t.Errorf("upstream times: got %v, want 3", got)
	}
}

func TestBodiesAndTrailers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 40<<10)
	for _, tt := range []struct {
		name   string
		pieces []string
	}{
		{"one piece", []string{"hello"}},
		{"pieces", []string{"hel", "lo"}},
		{"with flushes", []string{"hel", "", "lo", "", ""}},
		{"large", []string{big, big, big}},
		{"empty", []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				f := &exchange.Fields{}
				f.Add("x-sum", "1")
				if err := dst.Head(&exchange.Response{Status: 201, Length: exchange.LengthUnknown}, false); err != nil {
					return err
				}
				if err := errors.Join(dst.Data([]byte("a"), false), dst.Data(nil, false), dst.Data([]byte("b"), false)); err != nil {
					return err
				}
				return dst.Trailer(f)
			}}
			e := newEngine(t, o, config{})
			c := newClient("POST", "/").sending(tt.pieces...)
			c.trailer = &exchange.Fields{}
			c.trailer.Add("x-end", "2")
			e.do(c)
			e.wantStatus(c, 201, "")
			s := o.streams[0]
			if want := strings.Join(tt.pieces, ""); s.body.String() != want {
				t.Errorf("upstream got %d bytes, want %d", s.body.Len(), len(want))
			}
			if len(s.trailed) != 1 || s.trailed[0].Name != "x-end" {
				t.Errorf("request trailer: got %v", s.trailed)
			}
			if c.got.String() != "ab" || len(c.trailed) != 1 || c.flushes != 1 {
				t.Errorf("client got %q, trailer %v, %d flushes", c.got.String(), c.trailed, c.flushes)
			}
			if m := e.line(); m["bytes_in"] != float64(len(strings.Join(tt.pieces, ""))) || m["bytes_out"] != 2. {
				t.Errorf("bytes: got %v in, %v out", m["bytes_in"], m["bytes_out"])
			}
			e.do(newClient("GET", "/"))
			if o.dials != 1 {
				t.Errorf("the connection was not used again")
			}
		})
	}
}

func TestOwnAnswers(t *testing.T) {
	t.Parallel()
	refuse := func(int) error {
		return &exchange.Error{Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 502, Reason: "upstream_refused"}
	}
	bad := func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return &exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 502, Reason: "bad_status_line"}
	}
	silent := func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return &exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 504, Reason: "read_timeout"}
	}
	surprise := func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		return dst.Head(&exchange.Response{Status: 101}, false)
	}
	tests := []struct {
		name   string
		o      *origin
		c      *client
		status int
		reason string
	}{
		{"no server answers", &origin{dial: refuse}, newClient("GET", "/"), 502, "upstream_refused"},
		{"garbage", &origin{feed: bad}, newClient("GET", "/"), 502, "upstream_bad_status_line"},
		{"silence", &origin{feed: silent}, newClient("GET", "/"), 504, "upstream_read_timeout"},
		{"101 that nobody asked for", &origin{feed: surprise}, newClient("GET", "/"), 502, "upstream_unexpected_upgrade"},
		{"encoded slash", &origin{}, newClient("GET", "/a%2fb"), 400, "encoded_slash"},
		{"garbage after a body", &origin{feed: bad}, newClient("POST", "/").sending("a", "", "b"), 502, "upstream_bad_status_line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, tt.o, config{})
			e.do(tt.c)
			e.wantStatus(tt.c, tt.status, tt.reason)
			if !strings.Contains(tt.c.got.String(), "reason: "+tt.reason) {
				t.Errorf("body: got %q", tt.c.got.String())
			}
			if got := e.metric("wproxy_refused_total", "reason", tt.reason); got != 1 {
				t.Errorf("refused: got %v, want 1", got)
			}
		})
	}
}

func TestNoRoute(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{})
	table, err := route.New[*proxy.Route](nil)
	if err != nil {
		t.Fatal(err)
	}
	old := e.Swap(&proxy.Snapshot{Table: table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: e.logger})
	<-old.Drained()
	for _, tt := range []struct{ accept, kind, body string }{
		{"", "text/plain; charset=utf-8", "404 Not Found\nreason: no_route\n"},
		{"application/json", "application/json", `"reason":"no_route"`},
		{"text/plain;q=0.1, application/json;q=0.2", "application/json", `{"status":404,`},
		{"text/html,*/*;q=0.8", "text/plain; charset=utf-8", "no_route"},
		{"application/*", "application/json", "no_route"},
		{"application/json;q=0", "text/plain; charset=utf-8", "no_route"},
	} {
		c := newClient("GET", "/")
		if tt.accept != "" {
			c.with("accept", tt.accept)
		}
		e.do(c)
		e.wantStatus(c, 404, "no_route")
		if c.fields.Value("content-type") != tt.kind || !strings.Contains(c.got.String(), tt.body) {
			t.Errorf("accept %q: got %s %q", tt.accept, c.fields.Value("content-type"), c.got.String())
		}
	}
	c := e.do(newClient("HEAD", "/"))
	if c.got.Len() != 0 || c.length == 0 {
		t.Errorf("HEAD: got %d bytes, length %d", c.got.Len(), c.length)
	}
	if got := e.metric("wproxy_requests_total", "route", "", "code_class", "4xx"); got != 7 {
		t.Errorf("requests without a route: got %v, want 7", got)
	}
}

func TestEarlyResponse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    *origin
		feed func(c *client, dst exchange.Sink[*exchange.Request]) error
	}{
		{
			"answered while the body streams",
			&origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.headed
				return answer(dst, 413, "too much")
			}},
			func(c *client, dst exchange.Sink[*exchange.Request]) error {
				if err := errors.Join(dst.Head(&c.req, false), dst.Data([]byte("a"), false), dst.Data(nil, false)); err != nil {
					return err
				}
				<-c.answered
				if err := dst.Data([]byte("b"), false); !errors.Is(err, exchange.ErrAnswered) {
					t.Errorf("Data after the answer: got %v", err)
				}
				return exchange.ErrAnswered
			},
		},
		{
			"answered and closed: the write fails",
			&origin{
				data: func(int, *stream, []byte) error {
					return &exchange.Error{Op: "write", Side: exchange.UpstreamSide, Status: 502, Reason: "closed", Retry: exchange.RetryIfReused}
				},
				feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
					return answer(dst, 413, "too much")
				},
			},
			func(c *client, dst exchange.Sink[*exchange.Request]) error {
				if err := dst.Head(&c.req, false); err != nil {
					return err
				}
				return dst.Data([]byte("a"), false)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.o, config{})
			c := newClient("POST", "/").sending()
			c.feed = tt.feed
			e.do(c)
			e.wantStatus(c, 413, "")
			if c.got.String() != "too much" {
				t.Errorf("body: got %q", c.got.String())
			}
			if st := e.pool.Stats(); st.Open != 0 {
				t.Errorf("the connection was kept")
			}
		})
	}
}

func TestCutAnswer(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		if err := dst.Head(&exchange.Response{Status: 200, Length: 10}, false); err != nil {
			return err
		}
		if err := dst.Data([]byte("half"), false); err != nil {
			return err
		}
		return &exchange.Error{Op: "read body", Side: exchange.UpstreamSide, Status: 502, Reason: "truncated"}
	}}
	for _, c := range []*client{newClient("GET", "/"), newClient("POST", "/").sending("a", "", "b")} {
		e := newEngine(t, o, config{})
		e.do(c)
		if !c.reset || c.ended {
			t.Errorf("%s: reset %v, ended %v: a cut answer must not look complete", c.req.Method, c.reset, c.ended)
		}
		if m := e.line(); m["status"] != 200. || m["reason"] != "upstream_truncated" {
			t.Errorf("log: %v", m)
		}
	}
}

// TestAnswerTakenBack: an answer that is cut before the client has seen any of
// it becomes an error that says so.
func TestAnswerTakenBack(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		h := &exchange.Response{Status: 200, Length: 10}
		h.Fields.Add("x-from", "upstream")
		if err := errors.Join(dst.Head(h, false), dst.Data([]byte("half"), false)); err != nil {
			return err
		}
		return &exchange.Error{Op: "read body", Side: exchange.UpstreamSide, Status: 502, Reason: "truncated"}
	}}
	e := newEngine(t, o, config{})
	c := newClient("GET", "/")
	c.holds = true
	e.do(c)
	e.wantStatus(c, 502, "upstream_truncated")
	if c.reset || !c.ended || c.fields.Has("x-from") || strings.Contains(c.got.String(), "half") {
		t.Errorf("reset %v, ended %v, fields %v, body %q", c.reset, c.ended, c.fields.List(), c.got.String())
	}
	if m := e.line(); m["bytes_out"] != float64(c.got.Len()) {
		t.Errorf("log: %v", m)
	}
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	for _, streaming := range []bool{false, true} {
		o := &origin{}
		e := newEngine(t, o, config{})
		c := newClient("GET", "/")
		if streaming {
			c = newClient("POST", "/").sending("a", "", "b")
		}
		o.feed = func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
			c.leave()
			return s.hang()
		}
		e.do(c)
		if !o.streams[0].reset || o.streams[0].code != exchange.CodeCancel || len(o.streams) != 1 {
			t.Errorf("streaming %v: the upstream was not reset, or tried again", streaming)
		}
		if m := e.line(); m["status"] != 499. || m["reason"] != "client_gone" {
			t.Errorf("streaming %v: log: %v", streaming, m)
		}
	}
}

func TestInterim(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		for _, s := range []int{100, 103, 102} {
			if err := dst.Head(&exchange.Response{Status: s}, false); err != nil {
				return err
			}
		}
		return answer(dst, 200, "")
	}}
	e := newEngine(t, o, config{})
	c := e.do(newClient("GET", "/"))
	if len(c.interim) != 2 || c.interim[0] != 103 || c.status != 200 {
		t.Errorf("got %v, %d, want 103, 102, 200", c.interim, c.status)
	}
	old := newClient("GET", "/")
	old.req.Version = exchange.HTTP10
	if e.do(old); len(old.interim) != 0 || old.status != 200 {
		t.Errorf("HTTP/1.0: got %v, %d", old.interim, old.status)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, accepted := range []bool{true, false} {
		o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			if !accepted {
				return answer(dst, 426, "no")
			}
			if err := dst.Head(&exchange.Response{Status: 101, Upgrade: "websocket"}, false); err != nil {
				return err
			}
			if err := errors.Join(dst.Data([]byte("welcome"), false), dst.Data(nil, true)); err != nil { // half-closed
				return err
			}
			return nil
		}}
		e := newEngine(t, o, config{})
		c := newClient("GET", "/chat")
		c.req.Upgrade = "websocket"
		c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
			if err := dst.Head(&c.req, false); err != nil {
				return err
			}
			<-c.answered
			if !accepted {
				return dst.Data(nil, true)
			}
			// The upstream has closed its half; ours is still open.
			return errors.Join(dst.Data([]byte("hello"), false), dst.Data(nil, false), dst.Data([]byte("bye"), false), dst.Data(nil, true))
		}
		e.do(c)
		s := o.streams[0]
		if accepted && (c.status != 101 || c.got.String() != "welcome" || s.body.String() != "hellobye" || !s.ended) {
			t.Errorf("tunnel: status %d, client got %q, upstream got %q", c.status, c.got.String(), s.body.String())
		}
		if !accepted && (c.status != 426 || s.body.Len() != 0) {
			t.Errorf("refused upgrade: status %d, upstream got %q", c.status, s.body.String())
		}
	}
}

func TestSlowReaderHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, &origin{}, config{noLog: true})
		slow := newClient("GET", "/")
		slow.gate = make(chan struct{})
		done := make(chan struct{})
		go func() { e.Serve(t.Context(), slow); close(done) }()
		synctest.Wait()
		if c := newClient("GET", "/"); true {
			e.Serve(t.Context(), c)
			if c.status != 200 {
				t.Errorf("got %d", c.status)
			}
		}
		close(slow.gate)
		<-done
	})
}

func TestSwapDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, &origin{}, config{noLog: true})
		c := newClient("GET", "/")
		c.gate = make(chan struct{})
		done := make(chan struct{})
		go func() { e.Serve(t.Context(), c); close(done) }()
		synctest.Wait()
		next := e.snapshot
		old := e.Swap(&proxy.Snapshot{Table: next.Table, Listeners: next.Listeners, NoRoute: next.NoRoute})
		if old != e.snapshot {
			t.Error("Swap returned another snapshot")
		}
		synctest.Wait()
		select {
		case <-old.Drained():
			t.Error("drained while an exchange is on it")
		default:
		}
		close(c.gate)
		<-done
		<-old.Drained()
		if c.status != 200 {
			t.Errorf("got %d", c.status)
		}
	})
}

// TestNoHost: an HTTP/1.0 client need not say which host it asks.
func TestNoHost(t *testing.T) {
	t.Parallel()
	ask := func() *client {
		c := newClient("GET", "/x")
		c.req.Version, c.req.Authority = exchange.HTTP10, ""
		return c
	}
	e := newEngine(t, &origin{}, config{})
	c := e.do(ask())
	e.wantStatus(c, 200, "")
	if got := e.origin.streams[0].head.Authority; got != "127.0.0.1:10" {
		t.Errorf("the upstream sees host %q, want its own address", got)
	}

	d, err := route.NewRedirect("https", 308, 443)
	if err != nil {
		t.Fatal(err)
	}
	e = newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Split, r.Redirect = nil, d }})
	c = e.do(ask())
	e.wantStatus(c, 400, "missing_host")
	if c.fields.Has("location") {
		t.Errorf("redirected to %q", c.fields.Value("location"))
	}
}
