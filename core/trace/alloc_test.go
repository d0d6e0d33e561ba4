//go:build !race

package trace_test

import (
	"testing"
	"time"

	"wproxy/core/trace"
)

// TestSendDoesNotAllocate: a request that is recorded costs its encoding, whose memory is
// used again.
func TestSendDoesNotAllocate(t *testing.T) {
	var r receiver
	var c counts
	tr := open(&r, &c, nil)
	defer tr.Close()
	now := time.Now()
	one := func() {
		own, above := tr.Begin(parent, true, false)
		b := tr.Batch()
		b.Begin(&trace.Span{Trace: own.Trace, ID: own.Span, Parent: above, Name: "GET all", Kind: trace.Server, Start: now, End: now})
		b.Text("url.path", "/a/b")
		b.Int("http.response.status_code", 200)
		b.Float("wproxy.plugin.seconds", .001)
		tr.Send(b)
	}
	for range 10_000 {
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n >= 1 { // the queue may grow meanwhile
		t.Errorf("got %v allocations, want 0", n)
	}
}
