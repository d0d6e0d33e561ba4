package proxy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// callEngine is an engine, and a Caller beside it.
func callEngine(t *testing.T, o *origin, cfg config) (*engine, *proxy.Caller) {
	t.Helper()
	e := newEngine(t, o, cfg)
	return e, proxy.NewCaller(proxy.Options{Metrics: e.metrics})
}

func callHead(method, target string, pairs ...string) *exchange.Request {
	h := &exchange.Request{Method: method, Scheme: "http", Authority: "auth.example.com"}
	if err := h.ParseTarget(target); err != nil {
		panic(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Fields.Add(pairs[i], pairs[i+1])
	}
	return h
}

// do makes a call and checks what holds after every one.
func doCall(t *testing.T, e *engine, c *proxy.Caller, r *proxy.Call) (*proxy.CallAnswer, error) {
	t.Helper()
	r.Upstream = e.upstream
	a, err := c.Do(t.Context(), r)
	if (a == nil) == (err == nil) {
		t.Errorf("answer %v and error %v", a, err)
	}
	live := e.upstream.Cluster.Live
	if live.Active.Load() != 0 || live.Retrying.Load() != 0 {
		t.Errorf("still live: %d, retrying %d", live.Active.Load(), live.Retrying.Load())
	}
	if st := e.pool.Stats(); st.Open != st.Idle {
		t.Errorf("%d connections open, %d at rest", st.Open, st.Idle)
	}
	if line := e.log.String(); line != "" {
		t.Errorf("a call is no request, and was logged: %s", line)
	}
	return a, err
}

func TestCallIsSent(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 100<<10) // more than is pushed before the answer is read
	var trailer exchange.Fields
	trailer.Add("x-sum", "1")
	for _, tt := range []struct {
		name    string
		body    string
		trailer *exchange.Fields
		length  int64
	}{
		{"nothing", "", nil, 0},
		{"empty trailer", "", new(exchange.Fields), 0},
		{"body", "hello", nil, 5},
		{"large body", big, nil, int64(len(big))},
		{"trailer", "hello", &trailer, exchange.LengthUnknown},
		{"only a trailer", "", &trailer, exchange.LengthUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				h := &exchange.Response{Status: 418, Length: exchange.LengthUnknown}
				h.Fields.Add("x-a", "1")
				h.Fields.Add("x-a", "2")
				var f exchange.Fields
				f.Add("x-end", "y")
				return errors.Join(dst.Head(&exchange.Response{Status: 103}, false), dst.Head(h, false),
					dst.Data([]byte("a"), false), dst.Data(nil, false), dst.Data([]byte("b"), false), dst.Trailer(&f))
			}}
			e, c := callEngine(t, o, config{})
			e.upstream.Cluster.Host, e.upstream.Cluster.HostName = upstream.HostName, "elsewhere"
			h := callHead("POST", "/check?x=1", "x-token", "t", "connection", "x", "transfer-encoding", "chunked", "upgrade", "h", "content-length", "77")
			a, err := doCall(t, e, c, &proxy.Call{Request: h, Body: []byte(tt.body), Trailer: tt.trailer})
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 418 || string(a.Body) != "ab" || a.Fields.Len() != 2 || a.Trailer.Value("x-end") != "y" {
				t.Errorf("answer %+v", a)
			}
			s := o.streams[0]
			if s.head.Method != "POST" || s.head.Target != "/check?x=1" || s.head.Authority != "auth.example.com" || s.head.Length != tt.length {
				t.Errorf("head %+v", s.head)
			}
			if got := s.head.Fields.List(); len(got) != 1 || got[0].Name != "x-token" {
				t.Errorf("fields %v", got)
			}
			if s.body.String() != tt.body {
				t.Errorf("%d bytes of body, want %d", s.body.Len(), len(tt.body))
			}
			if want := tt.trailer != nil && tt.trailer.Len() > 0; (len(s.trailed) > 0) != want {
				t.Errorf("trailer %v", s.trailed)
			}
			if n := e.metric("wproxy_upstream_seconds", "upstream", "u", "phase", "total"); n != 1 {
				t.Errorf("%v tries counted", n)
			}
		})
	}
}

// A call takes the pool's connections and is tried again like a request.
func TestCallIsRetried(t *testing.T) {
	t.Parallel()
	e, c := callEngine(t, &origin{feed: stale}, config{})
	for i, want := range []int{1, 3} { // the second finds a connection that the server has closed
		if _, err := doCall(t, e, c, &proxy.Call{Request: callHead("GET", "/")}); err != nil {
			t.Fatal(err)
		}
		if got := len(e.origin.streams); got != want {
			t.Errorf("call %d: %d tries so far, want %d", i, got, want)
		}
	}
	if n := e.metric("wproxy_retries_total", "upstream", "u", "outcome", "ok"); n != 1 {
		t.Errorf("%v retries counted", n)
	}
	_, err := doCall(t, e, c, &proxy.Call{Request: callHead("POST", "/"), Body: []byte("x")})
	if ce, ok := errors.AsType[*proxy.CallError](err); !ok || ce.Begun || ce.Status != 502 {
		t.Errorf("a POST that may have been seen: %v", err)
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	timeout := &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "timeout"}
	refused := &exchange.Error{Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 502, Reason: "upstream_refused"}
	full := func(most int) func(int) bool {
		return func(n int) bool { most -= n; return most >= 0 }
	}
	for _, tt := range []struct {
		name string
		dial func(int) error
		feed func(int, *stream, exchange.Sink[*exchange.Response]) error
		room func(int) bool
		head func(int, int) bool
		want proxy.CallError
	}{
		{
			name: "refused", dial: func(int) error { return refused },
			want: proxy.CallError{Status: 502, Reason: "upstream_refused"},
		},
		{
			name: "timeout",
			feed: func(int, *stream, exchange.Sink[*exchange.Response]) error { return timeout },
			want: proxy.CallError{Status: 504, Reason: "timeout"},
		},
		{
			name: "cut after the head",
			feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				_ = dst.Head(&exchange.Response{Status: 200, Length: 10}, false)
				_ = dst.Data([]byte("half"), false)
				return upstreamError("read answer", exchange.RetryNever, "truncated")
			},
			want: proxy.CallError{Begun: true, Reason: "upstream_truncated"},
		},
		{
			name: "too large", room: full(10),
			feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				_ = dst.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false)
				if err := dst.Data(make([]byte, 10), false); err != nil {
					return err
				}
				return dst.Data([]byte("x"), true)
			},
			want: proxy.CallError{Begun: true, Reason: "answer_too_large"},
		},
		{
			name: "head too large", head: func(lines, bytes int) bool { return lines != 2 || bytes != 7 },
			feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				h := &exchange.Response{Status: 200, Length: 10}
				h.Fields.Add("x-a", "1")
				h.Fields.Add("x", "23")
				if err := dst.Head(h, false); err != nil {
					return err
				}
				return dst.Data(make([]byte, 10), true)
			},
			want: proxy.CallError{Begun: true, Reason: "answer_too_large"},
		},
		{
			name: "trailer too large", head: func(lines, bytes int) bool { return lines != 1 || bytes != 6 },
			feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				h := &exchange.Response{Status: 200, Length: exchange.LengthUnknown}
				h.Fields.Add("x-a", "1")
				var f exchange.Fields
				f.Add("x-end", "y")
				if err := errors.Join(dst.Head(h, false), dst.Data([]byte("x"), false)); err != nil {
					return err
				}
				return dst.Trailer(&f)
			},
			want: proxy.CallError{Begun: true, Reason: "answer_too_large"},
		},
		{
			name: "an upgrade that nobody asked for",
			feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				return dst.Head(&exchange.Response{Status: 101}, false)
			},
			want: proxy.CallError{Status: 502, Reason: "upstream_unexpected_upgrade"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, c := callEngine(t, &origin{dial: tt.dial, feed: tt.feed}, config{})
			for range 2 { // what one has left behind must not be seen by the next
				_, err := doCall(t, e, c, &proxy.Call{Request: callHead("GET", "/"), Room: tt.room, HeadRoom: tt.head})
				if ce, ok := errors.AsType[*proxy.CallError](err); !ok || *ce != tt.want {
					t.Errorf("error %+v, want %+v", err, tt.want)
				}
			}
		})
	}
}

// A call ends with its context, whatever it waits for.
func TestCallIsCancelled(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }}
	e, c := callEngine(t, o, config{})
	for _, body := range []string{"", "body", strings.Repeat("x", 100<<10)} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := c.Do(ctx, &proxy.Call{Upstream: e.upstream, Request: callHead("POST", "/"), Body: []byte(body)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, &proxy.Call{Upstream: e.upstream, Request: callHead("GET", "/")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before it began: %v", err)
	}
	if st := e.pool.Stats(); st.Open != st.Idle || e.upstream.Cluster.Live.Active.Load() != 0 {
		t.Errorf("after all: %+v", st)
	}
}

// The pool of an upstream whose deadline has passed does not make a connection.
func TestCallDeadline(t *testing.T) {
	t.Parallel()
	o := &origin{dial: func(int) error { time.Sleep(50 * time.Millisecond); return context.DeadlineExceeded }}
	e, c := callEngine(t, o, config{})
	_, err := doCall(t, e, c, &proxy.Call{Request: callHead("GET", "/"), Deadline: time.Now().Add(10 * time.Millisecond)})
	if ce, ok := errors.AsType[*proxy.CallError](err); !ok || ce.Status != 504 {
		t.Errorf("error %v", err)
	}
}

// A call without an authority goes by the server's name.
func TestCallWithoutAuthority(t *testing.T) {
	t.Parallel()
	o := &origin{}
	e, c := callEngine(t, o, config{})
	h := callHead("GET", "/")
	h.Authority = ""
	if _, err := doCall(t, e, c, &proxy.Call{Request: h}); err != nil {
		t.Fatal(err)
	}
	if got := o.streams[0].head.Authority; got != "127.0.0.1:10" {
		t.Errorf("authority %q", got)
	}
}
