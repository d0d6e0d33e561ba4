package host_test

import (
	"slices"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// definer defines the metric x with that kind when it is configured, and counts on it
// with each request.
func definer(kind int32) *wasmtest.Module {
	m := wasmtest.NewGuest()
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	increment := m.Env(abi.ImportIncrementMetric, "iI>i")
	id := m.Slot(4)
	m.Func("proxy_on_configure", "ii>i", wasmtest.Eq(call(define, i32(kind), m.Str("x"), i32(id)), i32(0)))
	m.Headers("request", call(increment, wasmtest.Load32(i32(id)), i64(1)), drop(), i32(0))
	return m
}

// A name that nobody has any more is a new one when it comes back: whoever exports its
// metrics may have dropped them in between.
func TestMetricsOfANameThatComesBack(t *testing.T) {
	k := &sink{}
	s := start(t, definer(0), options{host: host.HostOptions{Metrics: k}})
	next := mustLoad(t, s.host, definer(0), "test")
	root, err := next.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.root.Close()
	s.plugin.Close()
	if want := []string{"test x Counter"}; !slices.Equal(k.seen, want) {
		t.Errorf("asked for %q while the plugin was there all the time, want %q", k.seen, want)
	}
	c := &host.Context{}
	if err := root.Open(c, newStream()); err != nil { // a stream that lives longer than the plugin
		t.Fatal(err)
	}
	root.Close()
	next.Close()
	next.Close() // has no effect
	again := mustLoad(t, s.host, definer(0), "test")
	if _, err := again.NewRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"test x Counter", "test x Counter"}; !slices.Equal(k.seen, want) {
		t.Errorf("asked for %q, want %q", k.seen, want)
	}
	_ = c.Finish(nil)
}

// A newer version of a plugin may make a metric one of another kind, while the older
// one serves.
func TestMetricChangesKind(t *testing.T) {
	k := &sink{}
	s := start(t, definer(0), options{host: host.HostOptions{Metrics: k}})
	next := mustLoad(t, s.host, definer(1), "test")
	root, err := next.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*host.Root{s.root, root} {
		c := &host.Context{}
		if err := r.Open(c, newStream()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		_ = c.Finish(nil)
	}
	want := []string{"test x Counter", "test x Gauge", "x add 1 on r1", "x add 1 on r1"}
	if !slices.Equal(k.seen, want) {
		t.Errorf("exported %q, want %q", k.seen, want)
	}
	// And back again, once nobody has the older kind any more.
	s.root.Close()
	s.plugin.Close()
	if _, err := mustLoad(t, s.host, definer(0), "test").NewRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if want = append(want, "test x Counter"); !slices.Equal(k.seen, want) {
		t.Errorf("exported %q, want %q", k.seen, want)
	}
}
