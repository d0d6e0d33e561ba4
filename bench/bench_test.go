package main

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	// The name holds all that could confuse a parser.
	in := "4242 (a) b (c) S 17 4242 4242 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0 12345 1000000 321 18446744073709551615\n"
	got, err := parseStat([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := procStat{pid: 4242, parent: 17, cpu: 3 * time.Second, rss: 321 * int64(os.Getpagesize())}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "1 S 2", "1 (x", "1 (x) S 2 3", strings.Replace(in, " 17 ", " x ", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestReleaseOf(t *testing.T) {
	for _, tt := range []struct{ path, out, want string }{
		{"/usr/bin/envoy", "\n/usr/bin/envoy  version: 0123/1.40.0/Clean/RELEASE/BoringSSL\n\n", "version: 0123/1.40.0/Clean/RELEASE/BoringSSL"},
		{"/x/traefik", "Version:      3.7.15\nCodename: x\n", "Version: 3.7.15"},
		{"/usr/sbin/nginx", "nginx version: nginx/1.22.1", "nginx version: nginx/1.22.1"},
	} {
		if got := releaseOf(tt.path, tt.out); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.out, got, tt.want)
		}
	}
}

func TestUsageOfItself(t *testing.T) {
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Skip("no /proc:", err)
	}
	if u.rss <= 0 {
		t.Errorf("got %d bytes resident, want more than 0", u.rss)
	}
}

func TestDescends(t *testing.T) {
	stats := map[int]procStat{1: {pid: 1}, 2: {pid: 2, parent: 1}, 3: {pid: 3, parent: 2}, 8: {pid: 8, parent: 9}, 9: {pid: 9, parent: 8}}
	for _, c := range []struct {
		pid, root int
		want      bool
	}{{3, 1, true}, {3, 3, true}, {2, 3, false}, {8, 1, false}} {
		if got := descends(stats, c.pid, c.root); got != c.want {
			t.Errorf("descends(%d, %d): got %v, want %v", c.pid, c.root, got, c.want)
		}
	}
}

func TestParseResult(t *testing.T) {
	s, err := parseResult("Running 5s test\nbench-result 1000 2000000 500 900 1500 3\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.rate(); got != 500 {
		t.Errorf("rate: got %v, want 500", got)
	}
	if s.p999 != 1500*time.Microsecond || s.errors != 3 {
		t.Errorf("got p99.9 %v errors %d, want 1.5ms and 3", s.p999, s.errors)
	}
	for _, bad := range []string{"", "bench-result 1 2", "bench-result 0 2000000 0 0 0 0"} {
		if _, err := parseResult(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// TestOnce: a load that asks for no URL twice does not do so in another run either, and others know
// nothing of it.
func TestOnce(t *testing.T) {
	now := time.Now()
	first, second := load{once: true}.environment(now), load{once: true}.environment(now.Add(1))
	if len(first) != 2 || !strings.HasPrefix(first[1], "BENCH_ONCE=") || first[1] == second[1] {
		t.Errorf("got %q, then %q", first, second)
	}
	if got := (load{}).environment(now); len(got) != 1 {
		t.Errorf("a load that repeats itself has %q", got)
	}
	for _, s := range scenarios() {
		if s.load.once && s.load.h2 {
			t.Errorf("%s: h2load asks for one URL", s.name)
		}
	}
}

func TestRatioPairsRounds(t *testing.T) {
	at := func(us ...int) *result {
		r := &result{}
		for _, u := range us {
			if u == 0 {
				r.samples = append(r.samples, sample{}) // that round failed
				continue
			}
			r.samples = append(r.samples, sample{requests: 1000, cpu: time.Duration(u) * time.Millisecond})
		}
		return r
	}
	// The second round was twice as slow for both; the third is only half there.
	if got := ratio(at(30, 60, 500), at(20, 40, 0)); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
	if got := ratio(at(30), nil); !math.IsNaN(got) {
		t.Errorf("without a yardstick: got %v, want NaN", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{math.NaN(), 7}, 7}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v): got %v, want %v", c.in, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("median of nothing is a number")
	}
}

func TestParseOptions(t *testing.T) {
	var sink strings.Builder
	o, err := parseOptions([]string{"-quick", "-only", "h1-1k,start", "-seconds", "9"}, &sink)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 2 || o.seconds != 9 || len(o.only) != 2 {
		t.Errorf("got %+v", o)
	}
	for _, bad := range [][]string{{"-only", "h1-2k"}, {"-rounds", "0"}, {"x"}, {"-what"}} {
		if _, err := parseOptions(bad, &sink); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

// TestReportWithoutResults: nothing installed, or everything failed, still
// gives a report.
func TestReportWithoutResults(t *testing.T) {
	rep := &report{groups: []group{
		{scenario: scenarios()[0], results: []*result{{variant: variant{proxy: "nginx"}, samples: []sample{{}}, failed: "it\nbroke"}}},
		{scenario: scenario{kind: idleMemory}, results: []*result{{}}},
	}}
	got := rep.markdown()
	for _, want := range []string{"| nginx | - | - | - |", "failed at least once: it broke"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestParseH2Load(t *testing.T) {
	const out = "TLS Protocol: TLSv1.3\nApplication protocol: h2\n\nfinished in 2.00s, 500.00 req/s, 1MB/s\n" +
		"requests: 1000 total, 1008 started, 1000 done, 998 succeeded, 2 failed, 0 errored, 0 timeout\n"
	s, err := parseH2Load(out, 2)
	if err != nil {
		t.Fatal(err)
	}
	if s.requests != 998 || s.errors != 2 || s.rate() != 499 {
		t.Errorf("got %d requests, %d errors, %v a second", s.requests, s.errors, s.rate())
	}
	for _, bad := range []string{"", strings.Replace(out, "protocol: h2", "protocol: http/1.1", 1), strings.Replace(out, "998", "0", 1)} {
		if _, err := parseH2Load(bad, 2); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
