package proxy_test

import (
	"bytes"
	"strings"
	"testing"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
)

// TestOutcome is whose doing it is that an exchange did not end well.
func TestOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason string
		status int
		tries  int
		want   metrics.Outcome
	}{
		{"", 200, 1, metrics.Fine},
		{"", 304, 1, metrics.Fine},
		{"", 404, 1, metrics.ClientError},
		{"", 500, 1, metrics.UpstreamError},
		{"", 503, 0, metrics.ProxyError}, // the route's own answer
		{"no_route", 404, 0, metrics.ClientError},
		{"plugin_reply:limit", 429, 0, metrics.ClientError},
		{"plugin_reply:auth", 503, 0, metrics.ProxyError},
		{"plugin_reply:page", 200, 0, metrics.Fine},
		{"plugin_failed:p", 503, 0, metrics.ProxyError},
		{"plugin_failed:p", 503, 1, metrics.ProxyError},
		{"plugin_length:p", 200, 1, metrics.ProxyError},
		{"no_server", 503, 0, metrics.UpstreamError},
		{"queue_full", 503, 0, metrics.UpstreamError},
		{"too_many_tunnels", 503, 0, metrics.ProxyError},
		{"upstream_refused", 502, 2, metrics.UpstreamError},
		{"timeout", 504, 1, metrics.UpstreamError},
		{"upstream_truncated", 200, 1, metrics.UpstreamError},
		{"truncated", 200, 1, metrics.UpstreamError},
		{"client_gone", 499, 1, metrics.ClientError},
		{"client_gone", 200, 1, metrics.ClientError},
		{"tunnel_idle", 101, 1, metrics.Fine},
		{"acme_challenge", 200, 0, metrics.Fine},
	} {
		if got := proxy.OutcomeOf(&access.Record{Reason: tt.reason, Status: tt.status, Tries: tt.tries}); got != tt.want {
			t.Errorf("%s with %d after %d tries: got %d, want %d", tt.reason, tt.status, tt.tries, got, tt.want)
		}
	}
}

// TestRecorder: what is notable is kept, also where nothing is logged.
func TestRecorder(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{dial: func(n int) error {
		if n == 0 {
			return upstreamError("dial", exchange.RetryAlways, "upstream_refused")
		}
		return nil
	}}, config{noLog: true, servers: 2})
	e.do(newClient("GET", "/first?sig=abc"))
	e.do(newClient("GET", "/second"))
	kept := e.recorder.Since(0)
	if len(kept) != 1 || kept[0].Kind != access.Retried {
		t.Fatalf("got %v", kept)
	}
	for _, want := range []string{`"path":"/first?sig=***"`, `"retried":["connect"]`, `"tries":2`, `"status":200`, `"upstream":"u"`} {
		if !strings.Contains(string(kept[0].Line), want) {
			t.Errorf("%s has no %s", kept[0].Line, want)
		}
	}
	e.Refused(&access.Record{Status: 400, Reason: "bad_field", Listener: "http"})
	if kept = e.recorder.Since(kept[0].Seq); len(kept) != 1 || kept[0].Kind != access.Refused {
		t.Errorf("got %v", kept)
	}
}

// TestResponseFieldInTheLog: what a filter has put into its own answer is in the log,
// although it takes its head back when it is closed.
func TestResponseFieldInTheLog(t *testing.T) {
	t.Parallel()
	p := &probe{name: "p", log: &events{}, head: func(f *probeFilter, _ *exchange.Request, _ bool) error { return f.answer(200, "own") }}
	p.closed = func(x *filter.Exchange) { x.Response.Fields.Reset() }
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
	var out bytes.Buffer
	l, err := access.Open(access.Options{Writer: &out, Fields: []string{"response:x-from", "header:x-in"}})
	if err != nil {
		t.Fatal(err)
	}
	e.Swap(&proxy.Snapshot{Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: l})
	e.do(newClient("GET", "/").with("x-in", "1"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `{"response:x-from":"p","header:x-in":"1"}`+"\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}
