package host

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"wproxy/abi"
)

// A fakeClock is the clock of several hosts, each of which has another origin.
type fakeClock struct{ now time.Time }

func (c *fakeClock) host(t *testing.T, skew time.Duration) *Host {
	t.Helper()
	h, err := NewHost(HostOptions{ManualTicks: true, Now: func() time.Time { return c.now.Add(skew) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// takeFrom takes a token of key's bucket.
func takeFrom(h *Host, sp *sharedSpace, l counterLimit, key string) bool {
	for {
		c, _ := sp.counters.table(l, h.counterClock())
		d, state := c.take(sp.counters.key.sum([]byte(key)), 1, h.counterClock)
		switch state {
		case takeDone:
			return d.admitted
		case takeGrow:
			sp.counters.grow(c, h.counterClock())
		case takeGone:
		}
	}
}

// handOver makes next begin with the state of old, of which it is told in two parts; work is
// done between them.
func handOver(old, next *Host, work func()) (second *State) {
	first, mark := old.FirstState(1 << 30)
	next.AdoptFirst(first)
	work()
	second = old.SecondState(mark, 1<<30)
	next.AdoptSecond(second)
	return second
}

// TestStateIsExact: over an upgrade, whoever of the two processes is asked, a key is admitted
// at most rate * time + 2 * burst in any window, and one burst more for each further upgrade
// after which the process before still has clients. Were the clock of the old one to go on,
// more would be.
func TestStateIsExact(t *testing.T) {
	const interval, burst = int64(10 * time.Millisecond), 7
	l := counterLimit{interval, burst}
	for _, thaw := range []bool{false, true} {
		exceeded := false
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, 1))
			clock := &fakeClock{time.Unix(1_000_000, 0)}
			hosts := []*Host{clock.host(t, 0), clock.host(t, time.Hour), clock.host(t, -time.Hour)}
			spaces := []*sharedSpace{hosts[0].shared.acquire("p")}
			admitted := map[string][]time.Time{}
			handed := []time.Time{}
			for i := range 3000 {
				clock.now = clock.now.Add(time.Duration(r.Int64N(interval / 2)))
				if i == 1000 || i == 2000 {
					old, next := hosts[len(spaces)-1], hosts[len(spaces)]
					handOver(old, next, func() { spaces = append(spaces, next.shared.acquire("p")) })
					if thaw {
						old.ResumeState(nil)
					}
					handed = append(handed, clock.now)
				}
				key := fmt.Sprint("k", r.IntN(3))
				at := len(spaces) - 1
				if r.IntN(2) == 0 { // a connection that is still there
					at = r.IntN(len(spaces))
				}
				if takeFrom(hosts[at], spaces[at], l, key) {
					admitted[key] = append(admitted[key], clock.now)
				}
			}
			for key, times := range admitted {
				if n := int64(len(times)); n < int64(times[n-1].Sub(times[0]))/interval/3 {
					t.Errorf("seed %d: %s is admitted %d times only", seed, key, n)
				}
				for i := range times {
					for j := i; j < len(times); j++ {
						bursts := int64(1)
						for _, h := range handed {
							if !h.After(times[j]) {
								bursts++ // what the process before still had
							}
						}
						if most := int64(times[j].Sub(times[i]))/interval + bursts*burst; int64(j-i+1) > most {
							exceeded = true
							if !thaw {
								t.Fatalf("seed %d: %s: %d in %s, at most %d", seed, key, j-i+1, times[j].Sub(times[i]), most)
							}
						}
					}
				}
			}
		}
		if thaw && !exceeded {
			t.Error("with a clock that goes on the bound is kept as well: the test cannot fail")
		}
	}
}

// TestStateOfOneBurst: a bucket that was emptied is empty in the next process, and full again
// when it would have been.
func TestStateOfOneBurst(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	l := counterLimit{int64(time.Second), 5}
	a, b := clock.host(t, 0), clock.host(t, 42*time.Minute)
	sa := a.shared.acquire("p")
	for range 5 {
		takeFrom(a, sa, l, "k")
	}
	var sb *sharedSpace
	handOver(a, b, func() {
		sb = b.shared.acquire("p")
		takeFrom(b, sb, l, "other") // a guest that counts while it starts
		takeFrom(b, sb, l, "k")     // and is refused already? No: buckets come second
	})
	if takeFrom(b, sb, l, "k") {
		t.Error("an empty bucket is full in the next process")
	}
	for i := range 5 {
		clock.now = clock.now.Add(time.Second)
		if !takeFrom(b, sb, l, "k") {
			t.Errorf("second %d: not refilled", i)
		}
		if takeFrom(a, sa, l, "k") {
			t.Error("the process that was left refills")
		}
	}
	if !takeFrom(b, sb, l, "new") {
		t.Error("a new key is refused")
	}
	a.ResumeState(nil)
	if !takeFrom(a, sa, l, "k") {
		t.Error("the clock does not go on")
	}
}

// TestStateOfManyKeys: all buckets of a table that has grown arrive.
func TestStateOfManyKeys(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	l := counterLimit{int64(time.Hour), 1}
	a, b := clock.host(t, 0), clock.host(t, 0)
	sa := a.shared.acquire("p")
	const keys = 5000
	for i := range keys {
		takeFrom(a, sa, l, fmt.Sprint(i))
	}
	sb := b.shared.acquire("p")
	takeFromBefore := sb.counters.key
	handOver(a, b, func() {})
	if sb.counters.key == takeFromBefore || sb.counters.key != sa.counters.key {
		t.Fatal("the key of tags has not come along")
	}
	for i := range keys {
		if takeFrom(b, sb, l, fmt.Sprint(i)) {
			t.Fatalf("key %d is new", i)
		}
	}
	if sa.counters.bytes != sb.counters.bytes {
		t.Errorf("%d bytes, there were %d", sb.counters.bytes, sa.counters.bytes)
	}
	// One that does not fit is left out, and that is told.
	_, mark := a.FirstState(0)
	if s := a.SecondState(mark, 100); s.Left != 1 || len(s.Spaces[0].Counters) != 0 {
		t.Errorf("%d left out, %d tables", s.Left, len(s.Spaces[0].Counters))
	}
}

// TestStateOfWindows: sums, streaks and the time at which counts leave.
func TestStateOfWindows(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	a, b := clock.host(t, 0), clock.host(t, time.Hour)
	sa, sb := a.shared.acquire("p"), b.shared.acquire("p")
	shape := windowShape{slots: 4, width: int64(time.Second)}
	add := func(h *Host, sp *sharedSpace, key string, n uint32) abi.AddResult {
		w := windowAdd{tag: sp.counters.key.sum([]byte(key)), counts: [abi.WindowColumns]uint32{n, 1}, streak: 1}
		r, _, ok := sp.windows.add(shape, &w, h.counterClock)
		if !ok {
			t.Fatal("no room")
		}
		return r
	}
	add(a, sa, "k", 3)
	clock.now = clock.now.Add(2 * time.Second)
	add(a, sa, "k", 5)
	for i := range 100 {
		add(a, sa, fmt.Sprint(i), 1)
	}
	handOver(a, b, func() {})
	if r := add(b, sb, "k", 0); r.Sums[0] != 8 || r.Sums[1] != 3 || r.Streak != 3 {
		t.Errorf("got %+v", r)
	}
	for i := range 100 {
		if r := add(b, sb, fmt.Sprint(i), 1); r.Sums[0] != 2 {
			t.Errorf("key %d: %+v", i, r)
		}
	}
	clock.now = clock.now.Add(2 * time.Second)
	if r := add(b, sb, "k", 0); r.Sums[0] != 5 {
		t.Errorf("after four seconds: %+v", r)
	}
	clock.now = clock.now.Add(time.Minute)
	if r := add(b, sb, "k", 0); r.Sums[0] != 0 {
		t.Errorf("after a minute: %+v", r)
	}
}

func TestStateOfPlaces(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	a, b := clock.host(t, 0), clock.host(t, 0)
	sa, sb := a.shared.acquire("p"), b.shared.acquire("p")
	ask := placeAsk{tag: 7, most: 2, forget: int64(time.Minute)}
	sa.places.take(ask, a.counterClock())
	sa.places.take(ask, a.counterClock())
	sa.places.keep(ask, a.counterClock())
	handOver(a, b, func() {})
	if got, p := sb.places.take(ask, b.counterClock()); !got || p.kept != 1 || p.held != 1 {
		t.Errorf("got %v, %+v: the kept place comes along, the held one stays with its stream", got, p)
	}
	clock.now = clock.now.Add(2 * time.Minute)
	if _, p := sb.places.take(placeAsk{tag: 7}, b.counterClock()); p.kept != 0 {
		t.Errorf("it is never forgotten: %+v", p)
	}
}

// TestStateOfSharedData: what is written while the next process starts comes with the second
// part, and what a guest of the next one has written meanwhile stays if nobody else has.
func TestStateOfSharedData(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	a, b := clock.host(t, 0), clock.host(t, 0)
	sa, gone := a.shared.acquire("p"), a.shared.acquire("gone")
	set := func(sp *sharedSpace, key, value string) { sp.set(key, []byte(value), 0) }
	get := func(sp *sharedSpace, key string) string {
		v, _, _ := sp.get(nil, key)
		return string(v)
	}
	set(sa, "old", "1")
	set(sa, "changed", "1")
	set(gone, "x", "1")
	var sb *sharedSpace
	var cas uint32
	second := handOver(a, b, func() {
		sb = b.shared.acquire("p")
		if get(sb, "old") != "1" {
			t.Error("it is not there when guests start")
		}
		set(sb, "old", "of a guest that starts")
		_, cas, _ = sb.get(nil, "changed")
		set(sa, "changed", "2")
		set(sa, "new", "1")
	})
	if n := len(second.Spaces[slices.IndexFunc(second.Spaces, func(s SpaceState) bool { return s.ID == "p" })].Entries); n != 2 {
		t.Errorf("the second part has %d entries, want the 2 that have changed", n)
	}
	for key, want := range map[string]string{"old": "of a guest that starts", "changed": "2", "new": "1"} {
		if got := get(sb, key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if status := sb.set("changed", []byte("3"), cas); status != abi.StatusCASMismatch {
		t.Errorf("a number from before the second part: %v", status)
	}
	b.DropUnclaimed()
	if b.shared.find("gone") != nil || b.shared.find("p") == nil {
		t.Error("what no plugin has is dropped, and nothing else")
	}
}

// TestStateOfQueues: items move, and come back in order if there is no upgrade.
func TestStateOfQueues(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	a, b := clock.host(t, 0), clock.host(t, 0)
	sa, sb := a.shared.acquire("p"), b.shared.acquire("p")
	open := func(h *Host, sp *sharedSpace) *queue {
		h.shared.mu.Lock()
		defer h.shared.mu.Unlock()
		return h.shared.queueLocked(sp, "q")
	}
	drain := func(q *queue) (all []string) {
		for {
			item, status := q.pop()
			if status != abi.StatusOK {
				return all
			}
			all = append(all, string(item))
		}
	}
	q := open(a, sa)
	for _, item := range []string{"1", "2", "3"} {
		q.push([]byte(item))
	}
	second := handOver(a, b, func() {})
	if got := drain(open(b, sb)); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("the next process has %q", got)
	}
	q.push([]byte("4"))
	a.ResumeState(second)
	if got := drain(q); !slices.Equal(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("back are %q", got)
	}
	if sa.queueBytes.Load() != 0 || sb.queueBytes.Load() != 0 {
		t.Errorf("bytes are left: %d, %d", sa.queueBytes.Load(), sb.queueBytes.Load())
	}
}

// TestStateIsNotTrusted: numbers that no state has do no harm.
func TestStateIsNotTrusted(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	h := clock.host(t, 0)
	sp := h.shared.acquire("p")
	key := sp.counters.key
	h.AdoptSecond(&State{Spaces: []SpaceState{{ID: "p", Key: key, Counters: []CounterState{
		{Interval: 1, Burst: 1, Pages: 3, Tags: []uint64{1}, Full: []int64{1}},
		{Interval: 1, Burst: 1, Pages: 4, Tags: []uint64{1}},
		{Interval: -1, Burst: 1, Pages: 4},
		{Interval: 1, Burst: 1, Pages: 1 << 30},
	}, Windows: []WindowState{
		{Slots: 1000, Width: 1},
		{Slots: 2, Width: 1, Tags: []uint64{1}},
		{Slots: 2, Width: 1, Tags: []uint64{1}, Last: []int64{1}, Streaks: []uint32{1}, Counts: []uint32{1}},
	}, Kept: []KeptState{{1, -5, 1}}}, {ID: "unknown"}}, Metrics: []MetricState{{Plugin: "none"}, {Kind: 77}}})
	if len(sp.counters.tables) != 0 || len(sp.windows.tables) != 0 || len(sp.places.keys) != 0 {
		t.Errorf("taken in: %v %v %v", sp.counters.tables, sp.windows.tables, sp.places.keys)
	}
	// A full time from the far future is an empty bucket at most.
	l := counterLimit{int64(time.Second), 2}
	h.AdoptSecond(&State{Spaces: []SpaceState{{ID: "p", Key: key, Counters: []CounterState{
		{Interval: l.interval, Burst: l.burst, Pages: 16, Tags: []uint64{key.sum([]byte("k"))}, Full: []int64{1 << 62}},
	}}}})
	clock.now = clock.now.Add(time.Second)
	if !takeFrom(h, sp, l, "k") {
		t.Error("a bucket owes more than an empty one does")
	}
}

func TestStateOfMetrics(t *testing.T) {
	clock := &fakeClock{time.Unix(1_000_000, 0)}
	a, b := clock.host(t, 0), clock.host(t, 0)
	plugin := func(h *Host) *Plugin {
		p := &Plugin{h: h, o: PluginOptions{Name: "p"}}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.useMetricsLocked(p)
		return p
	}
	pa, pb := plugin(a), plugin(b)
	define := func(p *Plugin, kind abi.MetricKind, name string) *metric {
		id, _, _ := p.metrics.define(p.kinds, kind, name)
		return p.metrics.at(id)
	}
	define(pa, abi.MetricCounter, "requests").value.Add(5)
	define(pa, abi.MetricCounter, "later").value.Add(7)
	set := define(pa, abi.MetricGauge, "state")
	set.value.Store(2)
	set.recorded.Store(true)
	define(pa, abi.MetricGauge, "alive").value.Add(3)
	now := define(pb, abi.MetricCounter, "requests")
	now.value.Add(1)
	handOver(a, b, func() {})
	for name, tt := range map[string]struct {
		kind abi.MetricKind
		want int64
	}{"requests": {abi.MetricCounter, 6}, "later": {abi.MetricCounter, 7}, "state": {abi.MetricGauge, 2}, "alive": {abi.MetricGauge, 0}} {
		if got := define(pb, tt.kind, name).value.Load(); got != tt.want {
			t.Errorf("%s = %d, want %d", name, got, tt.want)
		}
	}
}
