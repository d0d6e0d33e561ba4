//go:build !race

package health_test

import (
	"testing"
	"time"

	"wproxy/core/health"
)

// TestObserverAllocates nothing, whatever has become of a try.
func TestObserverAllocates(t *testing.T) {
	w := newWorld(t, 1)
	w.serve(health.Settings{Outlier: &health.Outlier{
		Errors: 1 << 30, Ratio: 1, Min: 1 << 30, Window: time.Second, On: []string{"connect", "503"}, Share: 1,
	}})
	o := w.cluster.Endpoints[0].Observer
	for name, f := range map[string]func(){
		"a good answer":            func() { o.Answered(200) },
		"a bad answer":             func() { o.Answered(503) },
		"a failure":                func() { o.Failed("connect") },
		"one that does not matter": func() { o.Failed("queue") },
	} {
		if n := testing.AllocsPerRun(100, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
