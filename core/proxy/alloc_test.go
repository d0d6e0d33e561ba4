//go:build !race

package proxy_test

import (
	"context"
	"io"
	"testing"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/trace"
	"wproxy/core/upstream"
)

// quiet is a client that allocates nothing itself.
type quiet struct {
	req    exchange.Request
	status int
}

func (q *quiet) Feed(dst exchange.Sink[*exchange.Request]) error { return dst.Head(&q.req, true) }
func (q *quiet) Head(h *exchange.Response, _ bool) error         { q.status = h.Status; return nil }
func (q *quiet) Data([]byte, bool) error                         { return nil }
func (q *quiet) Trailer(*exchange.Fields) error                  { return nil }
func (q *quiet) Reset(exchange.Code)                             {}
func (q *quiet) ResetWhenGone(exchange.Resetter)                 {}

// quietConn is a connection and its own stream.
type quietConn struct {
	h    exchange.Response
	body [1024]byte
}

func (q *quietConn) Reserve() bool                                   { return true }
func (q *quietConn) Open(context.Context) (exchange.Upstream, error) { return q, nil }
func (q *quietConn) Reused() bool                                    { return true }
func (q *quietConn) Idle() bool                                      { return true }
func (q *quietConn) Close() error                                    { return nil }
func (q *quietConn) Head(*exchange.Request, bool) error              { return nil }
func (q *quietConn) Data([]byte, bool) error                         { return nil }
func (q *quietConn) Trailer(*exchange.Fields) error                  { return nil }
func (q *quietConn) Reset(exchange.Code)                             {}
func (q *quietConn) Feed(dst exchange.Sink[*exchange.Response]) error {
	q.h.Status, q.h.Length = 200, 1024
	if err := dst.Head(&q.h, false); err != nil {
		return err
	}
	return dst.Data(q.body[:], true)
}

func newQuiet(tb testing.TB) (*engine, *quiet, func()) {
	tb.Helper()
	return newQuietWith(tb, nil)
}

// newQuietWith is newQuiet with a Tracer; nil: none.
func newQuietWith(tb testing.TB, tracer *trace.Tracer) (*engine, *quiet, func()) {
	tb.Helper()
	e := newEngine(tb, &origin{}, config{noLog: true})
	logger, err := access.Open(access.Options{Writer: io.Discard})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { logger.Close() })
	c := &quietConn{}
	e.upstream.Pool = pool.New(pool.Options{Dial: func(context.Context, *upstream.Endpoint) (pool.Conn, error) { return c, nil }})
	e.recorder = access.NewRecorder()
	e.Proxy = proxy.New(proxy.Options{Metrics: e.metrics, Recorder: e.recorder}, &proxy.Snapshot{
		Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: logger, Tracer: tracer,
	})
	proto := newClient("GET", "/some/path?x=y").with(
		"accept", "*/*", "user-agent", "test/1.0", "accept-encoding", "gzip", "cookie", "a=b", "x-forwarded-for", "1.1.1.1")
	q := &quiet{}
	ctx := tb.Context()
	return e, q, func() {
		f := q.req.Fields
		f.Replace(proto.req.Fields.List())
		q.req = proto.req
		q.req.Fields = f
		e.Serve(ctx, q)
	}
}

// The plain path may allocate two small things beyond what codecs need for the
// heads. It needs one: the request id.
func TestExchangeAllocations(t *testing.T) {
	e, q, run := newQuiet(t)
	e.route.Retry.On = proxy.OnConnect | proxy.OnReset | proxy.OnTimeout // asked for, they cost nothing either
	e.route.Retry.Statuses.Add(503)
	run()
	if n := testing.AllocsPerRun(1000, run); n > 1 {
		t.Errorf("got %v allocations per exchange, want 1", n)
	}
	if q.status != 200 {
		t.Errorf("got %d", q.status)
	}
	if kept := e.recorder.Since(0); len(kept) != 0 {
		t.Errorf("plain exchanges were kept: %s", kept[0].Line)
	}
}

// TestUnrecordedAllocations: with tracing on, a request that is not recorded costs one
// text more, what the upstream is told.
func TestUnrecordedAllocations(t *testing.T) {
	tracer := trace.Open(trace.Options{URL: "http://127.0.0.1:0/", Service: "test"})
	defer tracer.Close()
	_, _, run := newQuietWith(t, tracer)
	run()
	if n := testing.AllocsPerRun(1000, run); n > 2 {
		t.Errorf("got %v allocations per exchange, want 2", n)
	}
}

func BenchmarkExchange(b *testing.B) {
	_, _, run := newQuiet(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}
