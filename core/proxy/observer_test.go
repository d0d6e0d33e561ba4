package proxy_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// A watcher is an upstream.Observer that writes down what it is told.
type watcher struct {
	mu   sync.Mutex
	said []string
}

func (w *watcher) Answered(status int) { w.say(fmt.Sprint(status)) }
func (w *watcher) Failed(kind string)  { w.say(kind) }

func (w *watcher) say(s string) {
	w.mu.Lock()
	w.said = append(w.said, s)
	w.mu.Unlock()
}

// TestObserver: each try is told of once, by what has become of it.
func TestObserver(t *testing.T) {
	t.Parallel()
	feed := func(f func(exchange.Sink[*exchange.Response]) error) func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error { return f(dst) }
	}
	fails := func(e *exchange.Error) func(int, *stream, exchange.Sink[*exchange.Response]) error {
		return feed(func(exchange.Sink[*exchange.Response]) error { return e })
	}
	tests := []struct {
		name string
		o    *origin
		c    *client
		want []string
	}{
		{"200", &origin{}, newClient("GET", "/"), []string{"200"}},
		{"with a body", &origin{}, newClient("POST", "/").sending("a", "b"), []string{"200"}},
		{"503", &origin{feed: feed(func(dst exchange.Sink[*exchange.Response]) error { return answer(dst, 503, "no") })}, newClient("GET", "/"), []string{"503"}},
		{"refused", &origin{dial: func(int) error { return upstreamError("dial", exchange.RetryAlways, "upstream_refused") }}, newClient("GET", "/"), []string{"connect", "connect"}},
		{"reset before the head", &origin{feed: fails(&exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"})}, newClient("GET", "/"), []string{"reset"}},
		{"silent", &origin{feed: fails(&exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 504, Reason: "read_timeout"})}, newClient("GET", "/"), []string{"timeout"}},
		{"no HTTP", &origin{feed: fails(&exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 502, Reason: "bad_status_line"})}, newClient("GET", "/"), []string{"protocol"}},
		{"reset in the body", &origin{feed: feed(func(dst exchange.Sink[*exchange.Response]) error {
			h := &exchange.Response{Status: 200, Length: 10}
			if err := dst.Head(h, false); err != nil {
				return err
			}
			if err := dst.Data([]byte("half"), false); err != nil {
				return err
			}
			return &exchange.Error{Op: "read body", Side: exchange.UpstreamSide, Reason: "truncated"}
		})}, newClient("GET", "/"), []string{"reset"}},
		{"the queue is full", &origin{dial: func(int) error {
			return &exchange.Error{Op: "get connection", Side: exchange.UpstreamSide, Status: 503, Reason: "queue_full"}
		}}, newClient("GET", "/"), []string{"queue"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, tt.o, config{})
			w := &watcher{}
			e.upstream.Cluster.Endpoints[0].Observer = w
			e.do(tt.c)
			if !slices.Equal(w.said, tt.want) {
				t.Errorf("got %q, want %q", w.said, tt.want)
			}
		})
	}
}

// TestObserverOfStale: that a connection at rest was closed says nothing.
func TestObserverOfStale(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{feed: stale}, config{})
	w := &watcher{}
	e.upstream.Cluster.Endpoints[0].Observer = w
	e.do(newClient("GET", "/"))
	e.do(newClient("GET", "/"))
	if want := []string{"200", "200"}; !slices.Equal(w.said, want) {
		t.Errorf("got %q, want %q", w.said, want)
	}
}

// TestReplace: exchanges that begin go to the new servers.
func TestReplace(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{})
	other, err := upstream.NewEndpoint("127.0.0.1:90", 1)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := e.upstream.Cluster.With([]*upstream.Endpoint{other})
	if err != nil {
		t.Fatal(err)
	}
	if cluster.Live != e.upstream.Cluster.Live {
		t.Error("the live counters are others")
	}
	w := &watcher{}
	other.Observer = w
	next := &proxy.Upstream{Cluster: cluster, Picker: roundRobin(t, cluster), Pool: e.pool, Metrics: e.upstream.Metrics}
	e.do(newClient("GET", "/"))
	e.upstream.Replace(next)
	c := e.do(newClient("GET", "/"))
	if c.status != 200 || len(w.said) != 1 || e.line()["server"] != "127.0.0.1:90" {
		t.Errorf("status %d from %v", c.status, e.line()["server"])
	}
	// And a set that has become empty has nobody.
	empty, err := cluster.With(nil)
	if err != nil {
		t.Fatal(err)
	}
	none := &proxy.Upstream{Cluster: empty, Picker: nobody{}, Pool: e.pool, Metrics: e.upstream.Metrics}
	e.upstream.Replace(none)
	e.wantStatus(e.do(newClient("GET", "/")), 503, "no_server")
}

type nobody struct{}

func (nobody) Pick(uint64, []*upstream.Endpoint) *upstream.Endpoint { return nil }
