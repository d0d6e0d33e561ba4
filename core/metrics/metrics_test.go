package metrics_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"wproxy/core/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, b)
	}
	return string(b)
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l+"\n") {
			t.Errorf("not there: %s", l)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	r := m.Route("api", []string{"http", "https"})
	r.Done(1, 204, 3*time.Millisecond)
	r.Done(1, 429, time.Second)
	r.Done(0, 0, 0)
	r.Done(-1, 200, time.Second) // a listener that is not known does not panic
	u := m.Upstream("shop")
	u.Connected(time.Millisecond)
	u.Done(time.Millisecond, 2*time.Millisecond)
	u.Failed(metrics.FailureReset)
	u.Failed("something new")
	u.Retried(metrics.FailureConnect, metrics.RetryOK)
	u.Retried(metrics.FailureConnect, metrics.RetryFailed)
	p := m.Plugin("limit")
	p.Trapped("unreachable")
	p.Burnt(8000)
	p.Burnt(2)
	p.SetInstances(2, 1<<20)
	p.Call("on_request_headers").Observe(2e-6)
	m.Callout("limit", "shop", "timeout")
	m.Refused("no_route")
	m.Connections("http").Inc()
	m.AccessDropped(3)
	m.SetGeneration(3)
	m.SetReload(true)
	want(t, scrape(t, m),
		`wproxy_requests_total{code_class="2xx",listener="https",route="api"} 1`,
		`wproxy_requests_total{code_class="4xx",listener="https",route="api"} 1`,
		`wproxy_requests_total{code_class="other",listener="http",route="api"} 1`,
		`wproxy_request_seconds_count{route="api"} 4`,
		`wproxy_upstream_seconds_count{phase="connect",upstream="shop"} 1`,
		`wproxy_upstream_seconds_count{phase="first_byte",upstream="shop"} 1`,
		`wproxy_upstream_seconds_count{phase="total",upstream="shop"} 1`,
		`wproxy_upstream_failures_total{reason="reset",upstream="shop"} 1`,
		`wproxy_upstream_failures_total{reason="other",upstream="shop"} 1`,
		`wproxy_retries_total{outcome="ok",reason="connect",upstream="shop"} 1`,
		`wproxy_retries_total{outcome="failed",reason="connect",upstream="shop"} 1`,
		`wproxy_plugin_traps_total{cause="unreachable",plugin="limit"} 1`,
		`wproxy_plugin_fuel_total{plugin="limit"} 8002`,
		`wproxy_plugin_instances{plugin="limit"} 2`,
		`wproxy_plugin_memory_bytes{plugin="limit"} 1.048576e+06`,
		`wproxy_plugin_call_seconds_count{callback="on_request_headers",plugin="limit"} 1`,
		`wproxy_plugin_callouts_total{outcome="timeout",plugin="limit",upstream="shop"} 1`,
		`wproxy_refused_total{reason="no_route"} 1`,
		`wproxy_connections{listener="http"} 1`,
		`wproxy_access_log_dropped_total 3`,
		`wproxy_config_generation 3`,
		`wproxy_config_last_reload_ok 1`,
	)
}

func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	for i := range 2 * metrics.MaxReasons {
		m.Refused(fmt.Sprintf("reason_%d", i))
	}
	text := scrape(t, m)
	if n := strings.Count(text, "wproxy_refused_total{"); n > metrics.MaxReasons+1 {
		t.Errorf("got %d series", n)
	}
	if !strings.Contains(text, `wproxy_refused_total{reason="other"}`) {
		t.Error("the rest is not counted")
	}
}

func TestGuestMetrics(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	get := func(plugin, name string, k metrics.Kind, builtin bool) *metrics.GuestMetric {
		t.Helper()
		g, ok := m.Guest(plugin, name, k, builtin)
		if !ok {
			t.Fatalf("%s was refused", name)
		}
		return g
	}
	c := get("auth", "denied;why=no token;route=api", metrics.Counter, false)
	c.Add(2)
	c.Add(-1)
	if get("auth", "denied;why=no token;route=api", metrics.Counter, false) != c {
		t.Error("the same name is another series")
	}
	g := get("auth", "open", metrics.Gauge, false)
	g.Record(5)
	g.Add(-2)
	h := get("auth", "took.µs", metrics.Histogram, false)
	h.Record(3)
	h.Record(3)
	get("limit", "wproxy_limit_total;decision=allow", metrics.Counter, true).Add(1)
	get("evil", "wproxy_limit_total;decision=allow", metrics.Counter, false).Add(1)
	get("evil", "a;__name__=x;plugin=forged;9=1;ok=\xff\"\n", metrics.Counter, false).Add(1)
	if c.Value() != 2 || g.Value() != 3 || h.Value() != 2 {
		t.Errorf("got %d, %d, %d", c.Value(), g.Value(), h.Value())
	}
	for _, bad := range []string{"", ";a=b", "...", strings.Repeat("a", metrics.MaxGuestName+1)} {
		if _, ok := m.Guest("auth", bad, metrics.Counter, false); ok {
			t.Errorf("%.20q was taken", bad)
		}
	}
	if _, ok := m.Guest("auth", "open", metrics.Counter, false); ok {
		t.Error("a gauge was taken for a counter")
	}
	if _, ok := m.Guest("other", "open;x=y", metrics.Gauge, false); ok {
		t.Error("a name with other labels would make the scrape fail")
	}
	want(t, scrape(t, m),
		`wproxy_guest_denied{plugin="auth",route="api",why="no token"} 2`,
		`wproxy_guest_open{plugin="auth"} 3`,
		`wproxy_guest_took___s_count{plugin="auth"} 2`,
		`wproxy_limit_total{decision="allow",plugin="limit"} 1`,
		`wproxy_guest_wproxy_limit_total{decision="allow",plugin="evil"} 1`,
		`wproxy_guest_a{ok="�\"\n",plugin="evil"} 1`,
	)
}

// A newer version of a plugin may make a metric one of another kind.
// TestReadCounters: what the page reads of counters is what they have, and a plugin that
// does not ship cannot pass for one that does.
func TestReadCounters(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	for plugin, builtin := range map[string]bool{"limit": true, "evil": false} {
		g, ok := m.Guest(plugin, "wproxy_limit_total;route=api;decision=allowed", metrics.Counter, builtin)
		if !ok {
			t.Fatal("refused")
		}
		g.Add(3)
	}
	m.Guest("limit", "wproxy_limit_level", metrics.Gauge, true)
	got := m.ReadGuestCounters("wproxy_limit_total", "wproxy_limit_level")
	want := []metrics.GuestCount{{Plugin: "limit", Name: "wproxy_limit_total", Labels: map[string]string{"route": "api", "decision": "allowed"}, Value: 3}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	m.Refused("denied")
	m.Refused("denied")
	m.ConnectionRefused("web")
	if got := m.ReadRefused(); !reflect.DeepEqual(got, map[string]uint64{"denied": 2}) {
		t.Errorf("refused: %v", got)
	}
	if got := m.ReadConnectionsRefused(); !reflect.DeepEqual(got, map[string]uint64{"web": 1}) {
		t.Errorf("connections: %v", got)
	}
}

func TestGuestRedefined(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	for _, name := range []string{"n;a=1", "n;a=2", "shared"} {
		if _, ok := m.Guest("p", name, metrics.Counter, false); !ok {
			t.Fatalf("%s was refused", name)
		}
	}
	if _, ok := m.Guest("q", "shared", metrics.Counter, false); !ok {
		t.Fatal("shared was refused")
	}
	if _, ok := m.Guest("p", "n;a=1", metrics.Gauge, false); ok {
		t.Error("a metric has changed its kind without being asked to")
	}
	m.Redefine("p", "n;a=1", metrics.Counter, false) // nothing to do
	if _, ok := m.Guest("p", "n;a=1", metrics.Counter, false); !ok {
		t.Error("the metric is gone")
	}
	m.Redefine("p", "n;a=1", metrics.Gauge, false)
	if g, ok := m.Guest("p", "n;a=1", metrics.Gauge, false); !ok || g.Kind() != metrics.Gauge {
		t.Error("the metric could not be redefined")
	}
	m.Redefine("p", "shared", metrics.Gauge, false)
	if _, ok := m.Guest("p", "shared", metrics.Gauge, false); ok {
		t.Error("a metric that another plugin has part in was redefined")
	}
}

func TestGuestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	for i := range metrics.MaxGuestSeries + 500 {
		g, ok := m.Guest("evil", fmt.Sprintf("hits;path=/%d", i), metrics.Counter, false)
		if !ok {
			t.Fatal("refused: the plugin must not notice")
		}
		g.Add(1)
	}
	for i := range 500 {
		if g, ok := m.Guest("evil", fmt.Sprintf("name_%d", i), metrics.Counter, false); ok {
			g.Add(1)
		}
	}
	text := scrape(t, m)
	if n := strings.Count(text, "wproxy_guest_"); n > metrics.MaxGuestSeries+20 {
		t.Errorf("got %d lines", n)
	}
	want(t, text, `wproxy_guest_hits{path="other",plugin="evil"} 500`, `wproxy_guest_other{plugin="evil"} 500`)
	if g, ok := m.Guest("good", "hits;path=/x", metrics.Counter, false); !ok || g.Value() != 0 {
		t.Error("one plugin's flood is another's loss")
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	for _, n := range []string{"old", "new"} {
		m.Route(n, []string{"http"}).Done(0, 200, 0)
		m.Upstream(n).Failed(metrics.FailureReset)
		m.Plugin(n).SetInstances(1, 1)
		m.Callout(n, "new", "answered")
		m.Callout("new", n, "answered")
		g, _ := m.Guest(n, "x", metrics.Counter, false)
		g.Add(1)
	}
	m.Retain(func(label, name string) bool { return label == "listener" || name == "new" })
	text := scrape(t, m)
	if strings.Contains(text, `"old"`) {
		t.Error("series of what is gone are left")
	}
	want(t, text, `wproxy_requests_total{code_class="2xx",listener="http",route="new"} 1`, `wproxy_guest_x{plugin="new"} 1`)
}

func TestConcurrently(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	r := m.Route("api", []string{"http"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for j := range 200 {
				r.Done(0, 200, time.Millisecond)
				m.Refused(fmt.Sprint(j % 10))
				if g, ok := m.Guest("p", fmt.Sprintf("m;i=%d", j), metrics.Counter, false); ok {
					g.Add(1)
				}
				if j%50 == 0 {
					m.Retain(func(string, string) bool { return true })
				}
			}
		})
	}
	wg.Wait()
	want(t, scrape(t, m), `wproxy_requests_total{code_class="2xx",listener="http",route="api"} 800`, `wproxy_guest_m{i="7",plugin="p"} 4`)
}

func TestHandlesDoNotAllocate(t *testing.T) {
	m := metrics.New()
	r, u := m.Route("api", []string{"http"}), m.Upstream("u")
	g, _ := m.Guest("p", "x", metrics.Counter, false)
	m.Refused("no_route")
	if n := testing.AllocsPerRun(1000, func() {
		r.Done(0, 200, time.Millisecond)
		u.Done(1, 2)
		u.Failed(metrics.FailureReset)
		m.Refused("no_route")
		g.Add(1)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzGuestName(f *testing.F) {
	for _, s := range []string{"a", "a;b=c", ";;;", "a;b=c;b=d", "é;=;x=", "wproxy_x;plugin=y"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, name string, builtin bool) {
		m := metrics.New()
		if g, ok := m.Guest("p", name, metrics.Counter, builtin); ok {
			g.Add(1)
		}
		scrape(t, m) // whatever the name, the scrape works
	})
}

func BenchmarkDone(b *testing.B) {
	m := metrics.New()
	r, u := m.Route("api", []string{"http"}), m.Upstream("u")
	b.ReportAllocs()
	for b.Loop() {
		r.Done(0, 200, 3*time.Millisecond)
		u.Done(time.Millisecond, 2*time.Millisecond)
	}
}

// TestAnnounce: what is announced is there with 0; what is not appears with its first
// count, the same for all who count.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	series := func() int {
		n := 0
		for _, f := range gather(t, m) {
			switch f.GetName() {
			case "wproxy_requests_total", "wproxy_request_seconds", "wproxy_upstream_seconds", "wproxy_upstream_failures_total", "wproxy_retries_total":
				n += len(f.GetMetric())
			}
		}
		return n
	}
	r, u := m.Route("api", []string{"a", "b"}), m.Upstream("u")
	if n := series(); n != 0 {
		t.Fatalf("%d series before anything was counted", n)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r.Done(1, 200, time.Second)
			u.Failed(metrics.FailureTimeout)
			u.Retried("no such reason", metrics.RetryOK)
			m.Upstream("u").Failed(metrics.FailureTimeout) // of another generation
		})
	}
	wg.Wait()
	if n := series(); n != 4 {
		t.Errorf("%d series, want 4", n)
	}
	for _, f := range gather(t, m) {
		want := map[string]float64{"wproxy_requests_total": 8, "wproxy_upstream_failures_total": 16, "wproxy_retries_total": 8}[f.GetName()]
		if want != 0 && f.GetMetric()[0].GetCounter().GetValue() != want {
			t.Errorf("%s: %v, want %v", f.GetName(), f.GetMetric()[0].GetCounter().GetValue(), want)
		}
	}
	r.Announce()
	u.Announce()
	if n, want := series(), 2*6+1+3+9+9*3; n != want {
		t.Errorf("%d series announced, want %d", n, want)
	}
}

func gather(t *testing.T, m *metrics.Metrics) []*dto.MetricFamily {
	t.Helper()
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGuestLimit: all plugins together have a bound too, and what is there before it
// stays.
func TestGuestLimit(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	m.SetGuestLimit(100)
	count := func(name string) *metrics.GuestMetric {
		var last *metrics.GuestMetric
		for i := range 80 {
			g, ok := m.Guest(name, fmt.Sprintf("seen;who=%d", i), metrics.Counter, false)
			if !ok {
				t.Fatal("refused")
			}
			g.Add(1)
			last = g
		}
		return last
	}
	first := count("a")
	second := count("b")
	if first.Value() != 1 || second.Value() != 60 {
		t.Errorf("the last series of the first has %d, of the second %d, which 60 share", first.Value(), second.Value())
	}
	text := scrape(t, m)
	if n := strings.Count(text, "wproxy_guest_seen{"); n != 101 || !strings.Contains(text, `wproxy_guest_seen{plugin="b",who="other"} 60`) {
		t.Errorf("%d series: %s", n, text)
	}
	m.SetGuestLimit(1000)
	if g, _ := m.Guest("b", "seen;who=79", metrics.Counter, false); g.Value() != 0 {
		t.Errorf("with more room there is none")
	}
}
