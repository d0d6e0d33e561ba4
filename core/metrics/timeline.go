package metrics

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"
)

// A Point is what happened in PointTime.
type Point struct {
	Begin    int64   `json:"t"`        // Unix time
	Seconds  float64 `json:"s"`        // how much of it has passed; less than PointTime in the last point only
	Requests uint64  `json:"requests"` // exchanges that ended
	Client   uint64  `json:"client"`   // of them, errors by whose doing they are
	Upstream uint64  `json:"upstream"`
	Proxy    uint64  `json:"proxy"`
	P50      float64 `json:"p50"` // seconds; 0: there were none
	P99      float64 `json:"p99"`
}

// A Mark is something that happened once: a reload, a server that went down.
type Mark struct {
	Seq  uint64    `json:"seq"` // the first is 1
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // one of a few words
	Text string    `json:"text"` // for people
}

// A Timeline remembers the last quarter of an hour in fixed memory. It is safe for
// concurrent use.
type Timeline struct {
	traffic *Traffic

	mu sync.Mutex
	// Guarded by mu.
	points  [timelinePoints]Point // a ring
	n       uint64                // points that are over
	current tally
	begin   time.Time // of current; zero: nothing was sampled yet
	sampled time.Time
	marks   [timelineMarks]Mark // a ring
	seq     uint64              // of the last mark
}

// Run samples each second until ctx is done.
func (l *Timeline) Run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		l.Sample(time.Now())
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sample takes over what has been counted up to now.
func (l *Timeline) Sample(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := now.Truncate(PointTime)
	if l.begin.IsZero() || at.Before(l.begin) { // the clock may be set back
		l.begin = at
	}
	for steps := 0; l.begin.Before(at); steps++ {
		if steps == timelinePoints { // the machine slept, or the clock was set
			l.begin = at
			break
		}
		l.points[l.n%uint64(timelinePoints)] = l.point(PointTime)
		l.n++
		l.current, l.begin = tally{}, l.begin.Add(PointTime)
	}
	l.traffic.drain(&l.current)
	l.sampled = now
}

// point makes the point of current.
func (l *Timeline) point(passed time.Duration) Point {
	o := &l.current.outcomes
	return Point{
		Begin: l.begin.Unix(), Seconds: passed.Seconds(), Requests: l.current.total(),
		Client: o[ClientError], Upstream: o[UpstreamError], Proxy: o[ProxyError],
		P50: l.current.quantile(.5).Seconds(), P99: l.current.quantile(.99).Seconds(),
	}
}

// Points returns the last points, at most n of them, oldest first. The last one is not
// over yet.
func (l *Timeline) Points(n int) []Point {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begin.IsZero() {
		return []Point{}
	}
	have := min(l.n, uint64(timelinePoints), uint64(max(n-1, 0))) //nolint:gosec // not negative
	out := make([]Point, 0, have+1)
	for i := l.n - have; i < l.n; i++ {
		out = append(out, l.points[i%uint64(timelinePoints)])
	}
	return append(out, l.point(max(l.sampled.Sub(l.begin), 0)))
}

// Mark remembers that something happened. It does not block for long, and may be called
// with locks held.
func (l *Timeline) Mark(kind, text string) {
	if len(text) > markText {
		n := markText
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.marks[l.seq%timelineMarks] = Mark{l.seq, now, kind, text}
}

// Marks returns the marks after the one numbered after, as far as they are remembered,
// oldest first.
func (l *Timeline) Marks(after uint64) []Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Mark{}
	if l.seq > timelineMarks {
		after = max(after, l.seq-timelineMarks)
	}
	for i := after + 1; i <= l.seq; i++ {
		out = append(out, l.marks[i%timelineMarks])
	}
	return out
}
