package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"wproxy/core/access"
	"wproxy/core/balance"
	"wproxy/core/filter"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/route"
	"wproxy/core/upstream"
)

// An engine is a Proxy with one route "r" to one upstream "u".
type engine struct {
	*proxy.Proxy
	t        testing.TB
	origin   *origin
	route    *proxy.Route
	snapshot *proxy.Snapshot
	upstream *proxy.Upstream
	pool     *pool.Pool
	metrics  *metrics.Metrics
	log      *bytes.Buffer
	logger   *access.Logger
	recorder *access.Recorder
}

type config struct {
	servers int // 0: one
	routes  []route.Entry[*proxy.Route]
	trust   []netip.Prefix
	edit    func(*proxy.Route)
	noLog   bool
}

func roundRobin(t testing.TB, c *upstream.Cluster) balance.Picker {
	t.Helper()
	p, err := balance.New(c, balance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newEngine(tb testing.TB, o *origin, cfg config) *engine {
	tb.Helper()
	e := &engine{t: tb, origin: o, metrics: metrics.New(), log: new(bytes.Buffer)}
	var endpoints []*upstream.Endpoint
	for i := range max(cfg.servers, 1) {
		ep, err := upstream.NewEndpoint("127.0.0.1:"+string(rune('1'+i))+"0", 1)
		if err != nil {
			tb.Fatal(err)
		}
		endpoints = append(endpoints, ep)
	}
	cluster, err := upstream.NewCluster("u", endpoints, "")
	if err != nil {
		tb.Fatal(err)
	}
	e.pool = pool.New(pool.Options{Dial: func(context.Context, *upstream.Endpoint) (pool.Conn, error) {
		o.mu.Lock()
		n := o.dials
		o.dials++
		o.mu.Unlock()
		if o.dial != nil {
			if err := o.dial(n); err != nil {
				return nil, err
			}
		}
		return &conn{o: o}, nil
	}})
	e.upstream = &proxy.Upstream{
		Cluster: cluster, Picker: roundRobin(tb, cluster), Pool: e.pool, Metrics: e.metrics.Upstream("u"),
	}
	e.route = e.newRoute("r")
	if cfg.edit != nil {
		cfg.edit(e.route)
	}
	entries := append([]route.Entry[*proxy.Route]{{Spec: route.Spec{Name: "r", Paths: []string{"/*"}}, Value: e.route}}, cfg.routes...)
	for i := range cfg.routes {
		r := cfg.routes[i].Value
		r.Metrics = e.metrics.Route(r.Name, []string{"http"})
		if r.Split == nil && r.Redirect == nil && r.Respond == nil {
			r.Split = []proxy.Target{{Upstream: e.upstream, Weight: 1}}
		}
	}
	table, err := route.New(entries)
	if err != nil {
		tb.Fatal(err)
	}
	if !cfg.noLog {
		if e.logger, err = access.Open(access.Options{Writer: e.log}); err != nil {
			tb.Fatal(err)
		}
	}
	e.snapshot = &proxy.Snapshot{
		Table: table, Listeners: []*proxy.Listener{{Name: "http", TrustProxy: cfg.trust}},
		NoRoute: e.metrics.Route("", []string{"http"}), Access: e.logger,
	}
	e.recorder = access.NewRecorder()
	e.Proxy = proxy.New(proxy.Options{Metrics: e.metrics, Recorder: e.recorder}, e.snapshot)
	tb.Cleanup(func() { e.logger.Close(); e.pool.Close() })
	return e
}

func (e *engine) newRoute(name string) *proxy.Route {
	return &proxy.Route{
		Name: name, Info: filter.Route{Name: name}, Metrics: e.metrics.Route(name, []string{"http"}),
		Split: []proxy.Target{{Upstream: e.upstream, Weight: 1}},
	}
}

// do serves one exchange and checks what holds for every one.
func (e *engine) do(c *client) *client {
	e.t.Helper()
	e.Serve(e.t.Context(), c)
	if !c.ended && !c.reset {
		e.t.Errorf("the answer is neither whole nor cut")
	}
	if n := e.upstream.Cluster.Live.Active.Load(); n != 0 {
		e.t.Errorf("%d exchanges are still counted as live", n)
	}
	if n := e.upstream.Cluster.Live.Retrying.Load(); n != 0 {
		e.t.Errorf("%d retries are still counted as live", n)
	}
	st := e.pool.Stats()
	if st.Open != st.Idle {
		e.t.Errorf("%d connections open, %d at rest", st.Open, st.Idle)
	}
	return c
}

// line returns the last line of the access log.
func (e *engine) line() map[string]any {
	e.t.Helper()
	if err := e.logger.Flush(); err != nil {
		e.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(e.log.String()), "\n")
	var m map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil {
		e.t.Fatal(err)
	}
	return m
}

// metric returns the sum of the samples of a metric whose labels include pairs.
func (e *engine) metric(name string, pairs ...string) float64 {
	e.t.Helper()
	all, err := e.metrics.Gatherer().Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := 0
			for i := 0; i < len(pairs); i += 2 {
				for _, l := range m.GetLabel() {
					if l.GetName() == pairs[i] && l.GetValue() == pairs[i+1] {
						match++
					}
				}
			}
			if match*2 == len(pairs) {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func (e *engine) wantStatus(c *client, status int, reason string) {
	e.t.Helper()
	if c.status != status {
		e.t.Errorf("status: got %d, want %d", c.status, status)
	}
	m := e.line()
	got, _ := m["reason"].(string)
	if got != reason {
		e.t.Errorf("reason: got %q, want %q", got, reason)
	}
	if m["status"] != float64(status) {
		e.t.Errorf("logged status: got %v, want %d", m["status"], status)
	}
}
