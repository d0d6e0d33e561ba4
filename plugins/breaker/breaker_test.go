package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

// fakeHost has shared data and counters in maps, and a clock that tests move.
type fakeHost struct {
	values map[string]fakeValue
	cas    uint32
	time   int64
	adds   map[string][]fakeAdd
	streak map[string]int64
	held   map[string]int64
	kept   map[string]int64
	before func() // before the next Set
	take   func() // before the next place is taken
	fail   bool   // counters fail
}

type fakeValue struct {
	data []byte
	cas  uint32
}

type fakeAdd struct {
	at     int64
	counts [3]int64
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		values: map[string]fakeValue{}, adds: map[string][]fakeAdd{}, streak: map[string]int64{},
		held: map[string]int64{}, kept: map[string]int64{}, time: 1e18,
	}
}

func (h *fakeHost) now() int64 { return h.time }

func (h *fakeHost) Get(key []byte) ([]byte, uint32, bool) {
	v, ok := h.values[string(key)]
	return slices.Clone(v.data), v.cas, ok
}

func (h *fakeHost) Set(key, value []byte, cas uint32) bool {
	if h.before != nil {
		f := h.before
		h.before = nil
		f()
	}
	if v, ok := h.values[string(key)]; ok && v.cas != cas {
		return false
	}
	h.cas++
	h.values[string(key)] = fakeValue{slices.Clone(value), h.cas}
	return true
}

func (h *fakeHost) Add(record []byte) bool {
	if h.fail {
		return false
	}
	r, key := abi.AddRecord(record[:abi.AddRecordSize]), string(record[abi.AddRecordSize:])
	add := fakeAdd{at: h.time / r.Width()}
	for i := range add.counts {
		add.counts[i] = int64(r.Count(i))
	}
	h.adds[key] = append(h.adds[key], add)
	if h.streak[key] += int64(r.Streak()); r.Streak() < 0 {
		h.streak[key] = 0
	}
	result := abi.AddResult{Added: true, Streak: h.streak[key]}
	for _, a := range h.adds[key] {
		if a.at > add.at-int64(r.Slots()) {
			for i := range a.counts {
				result.Sums[i] += a.counts[i]
			}
		}
	}
	r.SetResult(result)
	return true
}

func (h *fakeHost) Lease(record []byte) bool {
	if h.fail {
		return false
	}
	r, key := abi.LeaseRecord(record[:abi.LeaseRecordSize]), string(record[abi.LeaseRecordSize:])
	done := true
	switch r.Op() {
	case abi.LeaseTake:
		if f := h.take; f != nil {
			h.take = nil
			f()
		}
		if done = h.held[key]+h.kept[key] < r.Places(); done {
			h.held[key]++
		}
	case abi.LeaseKeep:
		h.held[key]--
		h.kept[key]++
	case abi.LeaseBack:
		h.held[key]--
	}
	r.SetResult(done, h.held[key], h.kept[key])
	return true
}

// harness is a breaker with its circuit and what it has told.
type harness struct {
	*breaker
	t    *testing.T
	host *fakeHost
	c    *circuit
	told []string
}

func newHarness(t *testing.T, doc string, host *fakeHost) *harness {
	t.Helper()
	c, err := parseConfig([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, host: host, c: newCircuit(c, "api", "backend")}
	h.breaker = &breaker{config: c, store: host, counters: host, now: host.now, changed: func(_ *circuit, from, to record, why string) {
		h.told = append(h.told, fmt.Sprintf("%s>%s: %s", from.state, to.state, why))
	}}
	return h
}

var (
	good    = result{counts: true}
	bad     = result{counts: true, failed: true}
	late    = result{counts: true, slow: true}
	nothing = result{}
)

// run lets a request through and counts r of it.
func (h *harness) run(r result) pass {
	h.t.Helper()
	p := h.enter(h.c)
	if p.admitted {
		h.leave(h.c, p, r)
	}
	return p
}

func (h *harness) state() state {
	r, _ := h.load(h.c)
	return r.state
}

// TestTransitions steps through settings: each letter of steps is a request that comes to a
// good (g), bad (b), slow (s) or no (n) end, "-" one that must be refused, and a digit that
// many seconds.
func TestTransitions(t *testing.T) {
	for _, tc := range []struct {
		name, doc, steps string
		want             []string
	}{
		{"ratio", `{"failures":0.5,"min_requests":4}`, "ggbb-", []string{"closed>open: 2 of 4 requests failed"}},
		{"below the ratio", `{"failures":0.6,"min_requests":4}`, "gbgb", nil},
		{"too few", `{"failures":0.5,"min_requests":4}`, "bbb", nil},
		{"the one that is enough went well", `{"failures":"50%","min_requests":4}`, "bbbg-", []string{"closed>open: 3 of 4 requests failed"}},
		{"out of the window", `{"failures":0.5,"min_requests":4,"window":"5s"}`, "bb5bb", nil},
		{"still in the window", `{"failures":0.5,"min_requests":4,"window":"5s"}`, "bb4bb-", []string{"closed>open: 4 of 4 requests failed"}},
		{"no end", `{"failures":0.5,"min_requests":2}`, "nnnnb", nil},
		{"slow", `{"failures":false,"slow":0.5,"slow_call":"1s","min_requests":2}`, "gbs-", nil},
		{"slow ratio", `{"failures":0,"slow":0.5,"slow_call":"1500ms","min_requests":2}`, "gs-", []string{"closed>open: 1 of 2 requests took 1.500 s or more"}},
		{"consecutive", `{"failures":0,"consecutive":3}`, "bbgbbnb-", []string{"closed>open: 3 in a row failed"}},
		{"consecutive, beyond the window", `{"failures":0,"consecutive":3,"window":"1s"}`, "b2b2b-", []string{"closed>open: 3 in a row failed"}},
		{"closes", `{"failures":0,"consecutive":1,"open_for":"5s","probes":2}`, "b4-1gg", []string{
			"closed>open: 1 in a row failed", "open>half-open: it was open for 5 s", "half-open>closed: 2 probes went well",
		}},
		{"counts anew", `{"failures":0,"consecutive":2,"open_for":"1s","probes":1}`, "bb1gbgb", []string{
			"closed>open: 2 in a row failed", "open>half-open: it was open for 1 s", "half-open>closed: 1 probes went well",
		}},
		{"grows", `{"failures":0,"consecutive":1,"open_for":"1s","open_for_growth":3,"open_for_max":"4s"}`, "b1b2-1b3-1b3-1g", []string{
			"closed>open: 1 in a row failed", "open>half-open: it was open for 1 s", "half-open>open: a probe failed",
			"open>half-open: it was open for 3 s", "half-open>open: a probe failed",
			"open>half-open: it was open for 4 s", "half-open>open: a probe failed", "open>half-open: it was open for 4 s",
		}},
		{"shrinks", `{"failures":0,"consecutive":1,"open_for":"1s","probes":1}`, "b1b2gb1g", []string{
			"closed>open: 1 in a row failed", "open>half-open: it was open for 1 s", "half-open>open: a probe failed",
			"open>half-open: it was open for 2 s", "half-open>closed: 1 probes went well",
			"closed>open: 1 in a row failed", "open>half-open: it was open for 1 s", "half-open>closed: 1 probes went well",
		}},
		{"a slow probe", `{"failures":0,"consecutive":1,"slow":0.9,"slow_call":"1s","open_for":"1s"}`, "b1s-", []string{
			"closed>open: 1 in a row failed", "open>half-open: it was open for 1 s", "half-open>open: a probe took 1 s or more",
		}},
		{"a probe without an end", `{"failures":0,"consecutive":1,"open_for":"1s","probes":1}`, "b1nnng", []string{
			"closed>open: 1 in a row failed", "open>half-open: it was open for 1 s", "half-open>closed: 1 probes went well",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, tc.doc, newFakeHost())
			for i, step := range tc.steps {
				switch {
				case '0' <= step && step <= '9':
					h.host.time += int64(step-'0') * 1e9
					continue
				case step == '-':
					if p := h.enter(h.c); p.admitted && tc.want != nil {
						t.Errorf("step %d: admitted", i)
					}
					continue
				}
				if p := h.run(map[rune]result{'g': good, 'b': bad, 's': late, 'n': nothing}[step]); !p.admitted {
					t.Errorf("step %d: refused", i)
				}
			}
			if !slices.Equal(h.told, tc.want) {
				t.Errorf("told\n%s\nwant\n%s", strings.Join(h.told, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestRetryAfter: what is left of the time is told.
func TestRetryAfter(t *testing.T) {
	h := newHarness(t, `{"failures":0,"consecutive":1,"open_for":"5s"}`, newFakeHost())
	h.run(bad)
	h.host.time += 1500e6
	if p := h.enter(h.c); p.admitted || p.retry != 3500e6 || p.state != open {
		t.Errorf("%+v", p)
	}
	h.host.time -= 3600e9 // the clock is set back: the time is over rather than an hour longer
	if p := h.enter(h.c); !p.probe {
		t.Errorf("after the clock was set back: %+v", p)
	}
}

// TestProbes: exactly so many at a time, and one for one that has come to no end.
func TestProbes(t *testing.T) {
	h := newHarness(t, `{"failures":0,"consecutive":1,"open_for":"1s","probes":3}`, newFakeHost())
	h.run(bad)
	h.host.time += 1e9
	var probes []pass
	for range 10 {
		if p := h.enter(h.c); p.admitted {
			probes = append(probes, p)
		} else if p.retry <= 0 || p.state != halfOpen {
			t.Errorf("%+v", p)
		}
	}
	if len(probes) != 3 {
		t.Fatalf("%d probes, want 3", len(probes))
	}
	h.leave(h.c, probes[0], nothing)
	again := h.enter(h.c)
	if !again.probe || h.enter(h.c).admitted {
		t.Error("a place that was given back is one place")
	}
	h.leave(h.c, probes[1], good)
	h.leave(h.c, probes[2], good)
	if h.enter(h.c).admitted || h.state() != halfOpen {
		t.Error("two of three went well, and one is still under way")
	}
	h.leave(h.c, again, good)
	if h.state() != closed {
		t.Errorf("all went well: %s", h.state())
	}
}

// TestLateResults: what was let through in another generation changes nothing.
func TestLateResults(t *testing.T) {
	h := newHarness(t, `{"failures":0,"consecutive":1,"open_for":"1s","probes":2}`, newFakeHost())
	early := h.enter(h.c)
	h.run(bad)
	h.leave(h.c, early, bad)
	h.host.time += 1e9
	one, two := h.enter(h.c), h.enter(h.c)
	h.leave(h.c, early, bad)
	h.leave(h.c, one, bad)
	h.host.time += 2e9
	next := h.enter(h.c) // half open again
	h.leave(h.c, two, bad)
	if !next.probe || h.state() != halfOpen {
		t.Errorf("a probe of the time before opens it: %s", h.state())
	}
	if n := len(h.told); n != 4 {
		t.Errorf("%d changes, want 4: %v", n, h.told)
	}
}

// TestLatePlace: a VM that has seen the circuit half open, and takes a place when a probe has
// failed meanwhile and left its own, does not send another.
func TestLatePlace(t *testing.T) {
	host := newFakeHost()
	doc := `{"failures":0,"consecutive":1,"open_for":"1s","probes":1}`
	a, b := newHarness(t, doc, host), newHarness(t, doc, host)
	a.run(bad)
	host.time += 1e9
	probe := a.enter(a.c)
	if !probe.probe {
		t.Fatalf("%+v", probe)
	}
	host.take = func() { // between b's look at the circuit and its place
		a.leave(a.c, probe, bad)
		b.counters.Lease(b.c.lease(abi.LeaseBack, probe.generation)) // as the host does at the stream's end
	}
	if p := b.enter(b.c); p.admitted || p.state != open {
		t.Errorf("beside the probe, which failed, another request got through: %+v", p)
	}
	for key, n := range host.held {
		if n != 0 {
			t.Errorf("%d places of %q are held", n, key)
		}
	}
	// The same where the probe went well: the request is one of a closed circuit.
	host.time += 2e9
	if probe = a.enter(a.c); !probe.probe {
		t.Fatalf("%+v", probe)
	}
	host.take = func() { a.leave(a.c, probe, good) }
	if p := b.enter(b.c); !p.admitted || p.probe || p.state != closed {
		t.Errorf("after the circuit has closed: %+v", p)
	}
}

// TestTwoVMs: two VMs that change a circuit at the same time change it once.
func TestTwoVMs(t *testing.T) {
	host := newFakeHost()
	doc := `{"failures":0,"consecutive":1,"open_for":"1s","probes":1}`
	a, b := newHarness(t, doc, host), newHarness(t, doc, host)
	pa, pb := a.enter(a.c), b.enter(b.c)
	host.before = func() { b.leave(b.c, pb, bad) }
	a.leave(a.c, pa, bad)
	if len(a.told)+len(b.told) != 1 {
		t.Errorf("changes: %v, %v", a.told, b.told)
	}
	host.time += 1e9
	var other pass
	host.before = func() { other = b.enter(b.c) }
	if p := a.enter(a.c); p.admitted == other.admitted {
		t.Errorf("one probe: %+v, %+v", p, other)
	}
	if len(a.told)+len(b.told) != 2 {
		t.Errorf("changes: %v, %v", a.told, b.told)
	}
}

// TestBrokenHost: without counters a closed circuit lets all through, and a half open one
// none.
func TestBrokenHost(t *testing.T) {
	h := newHarness(t, `{"failures":0,"consecutive":1,"open_for":"1s"}`, newFakeHost())
	h.run(bad)
	h.host.time += 1e9
	h.host.fail = true
	if h.run(good).admitted {
		t.Error("a probe without a place")
	}
	h.host.values[string(h.c.key)] = fakeValue{data: []byte("not ours"), cas: 7}
	for range 3 {
		if !h.run(bad).admitted {
			t.Error("refused")
		}
	}
}

func TestJudge(t *testing.T) {
	c, err := parseConfig([]byte(`{"on":["connect","tls"],"statuses":["5xx",429]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		failure string
		status  int
		want    result
	}{
		{"", 200, good},
		{"none", 200, good},
		{"", 404, good},
		{"", 500, bad},
		{"", 599, bad},
		{"", 429, bad},
		{"", 600, good},
		{"connect", 0, bad},
		{"tls", 0, bad},
		{"timeout", 0, nothing},
		{"reset", 0, nothing},
		{"something new", 0, nothing},
	} {
		if got := c.judge(tc.failure, tc.status); got != tc.want {
			t.Errorf("%q %d: %+v, want %+v", tc.failure, tc.status, got, tc.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	one := record{open, 7, 1e18, 5e9}
	f.Add(one.append(nil))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parseRecord(b)
		if ok && (r.state >= states || binary.LittleEndian.Uint64(r.append(nil)[8:]) != r.generation) {
			t.Errorf("%x: %+v", b, r)
		}
	})
}

// TestAllocs: neither a request that goes well nor one that is refused allocates.
func TestAllocs(t *testing.T) {
	h := newHarness(t, `{"min_requests":1000000000}`, newFakeHost())
	quiet := &quietHost{}
	h.store, h.counters = quiet, quiet
	for _, s := range []state{closed, open, halfOpen} {
		r := record{state: s, until: h.host.time + 1e9, openFor: 5e9}
		quiet.value = r.append(nil)
		if n := testing.AllocsPerRun(100, func() {
			p := h.enter(h.c)
			h.leave(h.c, p, good)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", s, n)
		}
	}
}

// quietHost answers without allocating.
type quietHost struct{ value []byte }

func (h *quietHost) Get([]byte) ([]byte, uint32, bool) { return h.value, 1, true }
func (h *quietHost) Set([]byte, []byte, uint32) bool   { return true }
func (h *quietHost) Lease([]byte) bool                 { return true }
func (h *quietHost) Add([]byte) bool                   { return true }
