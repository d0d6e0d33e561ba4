package health

import (
	"testing"
	"time"
)

func TestState(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	tests := []struct {
		name    string
		up      bool   // initial
		results string // + good, - bad
		states  string // after each: u, d; upper case: changed
	}{
		{"stays up", true, "+++", "uuu"},
		{"the first result decides", true, "-", "D"},
		{"and brings up", false, "+", "U"},
		{"and leaves down", false, "-+-", "ddd"},
		{"down takes three in a row", true, "+--+---", "uuuuuuD"},
		{"up takes two in a row", true, "-+-++", "DdddU"},
		{"flapping changes nothing", true, "+-+-+-+-", "uuuuuuuu"},
		{"down stays down", true, "+-----", "uuuDdd"},
	}
	for _, tt := range tests {
		s := Initial(tt.up, start)
		for i, c := range []byte(tt.results) {
			now := start.Add(time.Duration(i+1) * time.Second)
			r := Result{OK: c == '+'}
			if !r.OK {
				r.Reason = "refused"
			}
			next, changed := s.Next(Thresholds{Up: 2, Down: 3}, r, now)
			got := byte('d')
			if next.Up {
				got = 'u'
			}
			if changed {
				got -= 'a' - 'A'
			}
			if got != tt.states[i] {
				t.Errorf("%s: after %s: got %c, want %c", tt.name, tt.results[:i+1], got, tt.states[i])
			}
			if changed != (next.Up != s.Up) || changed != next.Since.Equal(now) {
				t.Errorf("%s: after %s: changed %v, since %v", tt.name, tt.results[:i+1], changed, next.Since)
			}
			if !next.Known || next.Reason != r.Reason {
				t.Errorf("%s: after %s: %+v", tt.name, tt.results[:i+1], next)
			}
			s = next
		}
	}
}

func TestStateRestart(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	down, _ := Initial(true, at).Next(Thresholds{1, 1}, Result{Reason: "refused"}, at)
	later := at.Add(time.Minute)

	kept := down.Restart(true, later)
	if kept.Up || !kept.Known || !kept.Since.Equal(at) || kept.Reason != "refused" {
		t.Errorf("other checks: %+v; what was found should stay", kept)
	}
	if next, changed := kept.Next(Thresholds{Up: 2, Down: 1}, Result{OK: true}, later); changed || next.Up {
		t.Error("the new thresholds were not needed")
	}
	free := down.Restart(false, later)
	if !free.Up || free.Known || !free.Since.Equal(later) || free.Reason != "" {
		t.Errorf("no checks any more: %+v", free)
	}
}

func TestEjection(t *testing.T) {
	t.Parallel()
	const base, longest = 10 * time.Second, 35 * time.Second
	now := time.Unix(1000, 0)
	var e Ejection
	eject := func(want time.Duration) {
		t.Helper()
		e = e.Eject(base, longest, "x", now)
		if !e.Out || e.Until.Sub(now) != want {
			t.Errorf("ejection %d lasts %v, want %v", e.Total, e.Until.Sub(now), want)
		}
		now = e.Until
		e = e.Return()
	}
	eject(10 * time.Second)
	eject(20 * time.Second)
	eject(30 * time.Second)
	eject(35 * time.Second) // the longest
	now = now.Add(25 * time.Second)
	eject(30 * time.Second) // two are forgotten
	now = now.Add(time.Hour)
	eject(10 * time.Second) // all are
	if e.Total != 6 {
		t.Errorf("%d ejections, want 6", e.Total)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		out, total int
		share      float64
		want       bool
	}{
		{0, 1, 0.5, false},
		{0, 1, 1, true},
		{0, 2, 0.5, true},
		{1, 2, 0.5, false},
		{0, 3, 0.5, true},
		{1, 3, 0.5, false},
		{2, 10, 0.3, true},
		{3, 10, 0.3, false},
		{0, 10, 0, false},
	} {
		if got := mayEject(tt.out, tt.total, tt.share); got != tt.want {
			t.Errorf("%d of %d are out, %v may be: another one: %v", tt.out, tt.total, tt.share, got)
		}
	}
	for _, tt := range []struct {
		available, total int
		share            float64
		begins, goesOn   bool
	}{
		{0, 1, 0.5, true, true},
		{1, 1, 1, false, false},
		{1, 2, 0.5, false, false},
		{1, 3, 0.5, true, true},
		{2, 3, 0.5, false, false},
		{1, 3, 0.3, false, false}, // of a few servers one is enough, before and after
		{2, 10, 0.3, true, true},
		{3, 10, 0.3, false, true},
		{4, 10, 0.3, false, false},
		{29, 100, 0.3, true, true},
		{39, 100, 0.3, false, true},
		{40, 100, 0.3, false, false},
		{9, 10, 0.9, false, true},
		{10, 10, 0.9, false, false}, // all are enough
		{0, 3, 0, false, false},
		{0, 0, 0.5, false, false},
	} {
		for on, want := range map[bool]bool{false: tt.begins, true: tt.goesOn} {
			if got := tooFew(tt.available, tt.total, tt.share, on); got != want {
				t.Errorf("%d of %d, below %v, after %v: panic %v", tt.available, tt.total, tt.share, on, got)
			}
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	row := &Outlier{Errors: 3}
	var c tally
	for i, ok := range []bool{false, false, true, false, false} {
		if ok {
			c.success(row)
		} else if why := c.failure(row, at(0)); why != "" {
			t.Errorf("try %d: %s", i, why)
		}
	}
	if why := c.failure(row, at(0)); why != "3 failures in a row" {
		t.Errorf("got %q", why)
	}

	ratio := &Outlier{Ratio: 0.5, Min: 10, Window: time.Second}
	run := func(c *tally, ms, good, bad int) (why string) {
		for range good {
			c.success(ratio)
		}
		for range bad {
			why = c.failure(ratio, at(ms))
		}
		return why
	}
	var few, half, old, slow tally
	if why := run(&few, 0, 0, 9); why != "" {
		t.Errorf("9 tries are too few: %s", why)
	}
	run(&half, 0, 0, 1) // begins the window
	if why := run(&half, 0, 6, 4); why != "" {
		t.Errorf("5 of 11: %s", why)
	}
	if why := run(&half, 100, 0, 1); why != "6 of 12 tries failed" {
		t.Errorf("6 of 12: %q", why)
	}
	run(&old, 0, 0, 9)
	if why := run(&old, 5000, 0, 1); why != "" {
		t.Errorf("failures of 5 s ago count: %s", why)
	}
	run(&slow, 0, 0, 5)
	if why := run(&slow, 700, 0, 5); why != "10 of 10 tries failed" {
		t.Errorf("the two halves of a window count together: %q", why)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	j := newJudge(Outlier{On: []string{"connect", "503"}})
	all := newJudge(Outlier{On: []string{"5xx"}})
	for status, want := range map[int][2]bool{200: {}, 404: {}, 500: {false, true}, 503: {true, true}, 599: {false, true}, 600: {}} {
		if got := [2]bool{j.failure(status), all.failure(status)}; got != want {
			t.Errorf("status %d: got %v, want %v", status, got, want)
		}
	}
}
