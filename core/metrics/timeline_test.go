package metrics

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestLatencyBuckets: every time is in a bucket whose middle is within 7% of it.
func TestLatencyBuckets(t *testing.T) {
	t.Parallel()
	last := -1
	for us := int64(0); us < 200e6; us += us/50 + 1 {
		d := time.Duration(us) * time.Microsecond
		b := latencyBucket(d)
		if b < last {
			t.Fatalf("%v is in bucket %d, and what is shorter in %d", d, b, last)
		}
		last = b
		middle := latencyOf(b)
		if off := math.Abs(float64(middle-d)) / float64(d+1); d > 200*time.Microsecond && off > 0.07 {
			t.Errorf("%v is in a bucket around %v", d, middle)
		}
	}
	if last >= latencyBuckets || latencyBucket(time.Hour) != latencyBuckets-1 || latencyBucket(-1) != 0 {
		t.Errorf("buckets end at %d, an hour is in %d, less than nothing in %d", last, latencyBucket(time.Hour), latencyBucket(-1))
	}
	if latencyOf(latencyBuckets-1) < 90*time.Second {
		t.Errorf("the last bucket is at %v", latencyOf(latencyBuckets-1))
	}
}

// TestTimeline: points are what was counted in their time, and the oldest go.
func TestTimeline(t *testing.T) {
	t.Parallel()
	m := New()
	l, tr := m.Timeline(), m.Traffic()
	if got := l.Points(10); len(got) != 0 {
		t.Errorf("before the first sample: %v", got)
	}
	begin := time.Unix(1_000_000_000, 0)
	l.Sample(begin)
	for i := range 100 {
		tr.Done(Fine, time.Duration(i+1)*time.Millisecond)
	}
	tr.Done(ClientError, time.Millisecond)
	tr.Done(UpstreamError, time.Millisecond)
	tr.Done(UpstreamError, time.Millisecond)
	tr.Done(ProxyError, time.Millisecond)
	l.Sample(begin.Add(2 * time.Second))
	p := l.Points(10)
	if len(p) != 1 || p[0].Begin != begin.Unix() || p[0].Seconds != 2 || p[0].Requests != 104 || p[0].Client != 1 || p[0].Upstream != 2 || p[0].Proxy != 1 {
		t.Errorf("got %+v", p)
	}
	if q := p[0].P50; q < 0.044 || q > 0.053 {
		t.Errorf("p50 of 1 to 100 ms: %v", q)
	}
	if q := p[0].P99; q < 0.090 || q > 0.108 {
		t.Errorf("p99 of 1 to 100 ms: %v", q)
	}
	tr.Done(Fine, 0)
	l.Sample(begin.Add(PointTime)) // counts for the point that begins
	p = l.Points(10)
	if len(p) != 2 || p[0].Requests != 104 || p[0].Seconds != 5 || p[1].Requests != 1 || p[1].Begin != begin.Unix()+5 {
		t.Errorf("a point later: %+v", p)
	}
	now := begin
	for range 3 * timelinePoints {
		now = now.Add(PointTime)
		tr.Done(Fine, 0)
		l.Sample(now)
	}
	p = l.Points(10_000)
	if len(p) != timelinePoints+1 || p[len(p)-1].Begin != now.Unix() || p[0].Begin != now.Add(-15*time.Minute).Unix() {
		t.Errorf("%d points, from %d to %d", len(p), p[0].Begin, p[len(p)-1].Begin)
	}
	if got := l.Points(3); len(got) != 3 || got[2] != p[len(p)-1] || got[0] != p[len(p)-3] {
		t.Errorf("the last three are %+v", got)
	}
	l.Sample(now.Add(24 * time.Hour)) // the machine slept
	l.Sample(now)                     // the clock was set back
	if p = l.Points(2); p[len(p)-1].Begin != now.Unix() {
		t.Errorf("after a change of the clock: %+v", p)
	}
}

// TestMarks: the last ones are kept, cut at the border of a character.
func TestMarks(t *testing.T) {
	t.Parallel()
	l := New().Timeline()
	if got := l.Marks(0); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for range timelineMarks + 10 {
		l.Mark("down", strings.Repeat("ü", markText))
	}
	all := l.Marks(0)
	if len(all) != timelineMarks || all[0].Seq != 11 || all[timelineMarks-1].Seq != timelineMarks+10 {
		t.Errorf("%d marks from %d", len(all), all[0].Seq)
	}
	if got := all[0].Text; got != strings.Repeat("ü", markText/2)+"…" {
		t.Errorf("text: got %q", got)
	}
	if got := l.Marks(timelineMarks + 8); len(got) != 2 || got[0].Seq != timelineMarks+9 {
		t.Errorf("after one that is known: %v", got)
	}
}

// TestTotals: quantiles are those of what came since.
func TestTotals(t *testing.T) {
	t.Parallel()
	m := New()
	r := m.Route("a", []string{"http"})
	if got := r.Read(); got.Times.Count != 0 || got.Times.Quantile(.5) != 0 {
		t.Errorf("nothing was counted: %+v", got)
	}
	for range 100 {
		r.Done(0, 200, 40*time.Second)
	}
	old := r.Read()
	for range 50 {
		r.Done(0, 404, 2*time.Millisecond)
		r.Done(0, 503, 300*time.Millisecond)
	}
	now := r.Read()
	if now.ByClass[2] != 100 || now.ByClass[4] != 50 || now.ByClass[5] != 50 {
		t.Errorf("classes: %v", now.ByClass)
	}
	d := now.Times.Since(old.Times)
	if d.Count != 100 || math.Abs(d.Sum-15.1) > 0.01 {
		t.Errorf("since: %d in %v s", d.Count, d.Sum)
	}
	if q := d.Quantile(.25); q < .001 || q > .0025 {
		t.Errorf("a quarter: %v", q)
	}
	if q := d.Quantile(.99); q < .25 || q > .5 {
		t.Errorf("p99: %v", q)
	}
	if got := old.Times.Since(now.Times); got.Count != 100 {
		t.Errorf("a histogram that was begun anew: %+v", got)
	}
	p := m.Plugin("p")
	p.Call("on_tick")
	p.Call("on_log").Observe(3e-6)
	if c := p.ReadCalls(); len(c) != 1 || c[0].Callback != "on_log" || c[0].Times.Count != 1 {
		t.Errorf("calls: %+v", c)
	}
	m.Callout("p", "a", "ok")
	m.Callout("p", "b", "ok")
	m.Callout("q", "b", "failed")
	if c := m.ReadCallouts(); c["p"]["ok"] != 2 || c["q"]["failed"] != 1 {
		t.Errorf("callouts: %v", c)
	}
}

func TestTrafficAllocates(t *testing.T) {
	tr := New().Traffic()
	if n := testing.AllocsPerRun(100, func() { tr.Done(ClientError, time.Millisecond) }); n != 0 {
		t.Errorf("an exchange: %v allocations", n)
	}
}

func BenchmarkTraffic(b *testing.B) {
	tr := New().Traffic()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tr.Done(Fine, time.Millisecond)
		}
	})
}
