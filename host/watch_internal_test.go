package host

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
)

// newWatchOf returns a watch without a guest, and its clock.
func newWatchOf(slots uint32, width int64) (w *Watch, now *atomic.Int64) {
	now = new(atomic.Int64)
	now.Store(1e9)
	h := &Host{o: HostOptions{ManualTicks: true, Now: func() time.Time { return time.Unix(0, now.Load()) }}}
	p := &Plugin{h: h, shared: newSharedSpace(1 << 20)}
	p.vms.Store(&[]*vm{{}})
	root := &Root{p: p}
	root.refs.Store(handle)
	w = &Watch{
		root: root, shape: windowShape{slots, width},
		key: []abi.GatePart{{Text: "p:"}, {Kind: abi.WatchRoute}, {Text: "\x00"}, {Kind: abi.WatchUpstream}},
	}
	w.statuses.Add(503)
	return w, now
}

// store is what the guest writes of a circuit.
func (w *Watch) store(key string, state, generation uint64) {
	v := binary.LittleEndian.AppendUint64(nil, state)
	w.root.p.shared.set(key, binary.LittleEndian.AppendUint64(v, generation), 0)
}

// count is what the guest counts.
func (w *Watch) count(key string, generation uint64, a windowAdd) abi.AddResult {
	a.tag = w.root.p.shared.counters.key.sum(binary.LittleEndian.AppendUint64([]byte(key), generation))
	r, _, _ := w.root.p.shared.windows.add(w.shape, &a, w.root.p.h.counterClock)
	return r
}

func TestWatchAdmit(t *testing.T) {
	t.Parallel()
	w, _ := newWatchOf(10, 1e9)
	const key = "p:a\x00b"
	w.store(key, 0, 7)
	if _, ok := w.Admit("a", "b"); ok {
		t.Error("the guest was not asked about the first")
	}
	p, ok := w.Admit("a", "b")
	if !ok || string(w.AppendProperty(nil, &p)) != "\x07\x00\x00\x00\x00\x00\x00\x00"+key {
		t.Errorf("closed: %t, %q", ok, w.AppendProperty(nil, &p))
	}
	for _, other := range [][2]string{{"a", ""}, {"", "b"}, {"ab", ""}, {"b", "a"}} {
		for range 2 {
			if _, ok := w.Admit(other[0], other[1]); ok {
				t.Errorf("%q: let through", other)
			}
		}
	}
	s := w.root.p.shared
	for name, value := range map[string]string{
		"open": "\x01\x00\x00\x00\x00\x00\x00\x0012345678", "half-open": "\x02\x00\x00\x00\x00\x00\x00\x0012345678",
		"far open": "\x00\x00\x00\x00\x00\x00\x00\x8012345678", "short": "\x00\x00\x00\x00\x00\x00\x00\x001234567", "empty": "",
	} {
		s.set(key, []byte(value), 0)
		if _, ok := w.Admit("a", "b"); ok {
			t.Errorf("%s: let through", name)
		}
	}
	w.store(key, 0, 8)
	if p, ok := w.Admit("a", "b"); !ok || p.window.generation != 8 {
		t.Errorf("closed again: %t, %+v", ok, p)
	}
	// It is in use, which others are not that come later.
	for i := range 1000 {
		s.set(fmt.Sprintf("other %d", i), make([]byte, 4000), 0)
		if _, ok := w.Admit("a", "b"); !ok {
			t.Fatalf("it has made room for %d others", i)
		}
	}
	if _, evicted := s.stats(); evicted == 0 {
		t.Error("nothing had to make room")
	}
	w.root.p.vms.Store(&[]*vm{})
	if _, ok := w.Admit("a", "b"); ok {
		t.Error("without a VM: let through")
	}
}

// TestWatchKnown: however many routes reloads leave behind, what is known of them is bounded, and
// each is let through but for once.
func TestWatchKnown(t *testing.T) {
	t.Parallel()
	w, _ := newWatchOf(10, 1e9)
	for i := range 2*maxWatchKnown + 10 {
		route := fmt.Sprint(i)
		w.store("p:"+route+"\x00b", 0, 0)
		_, first := w.Admit(route, "b")
		if _, second := w.Admit(route, "b"); first || !second {
			t.Fatalf("route %d: let through %t, %t", i, first, second)
		}
		if n := len(*w.known.Load()); n > maxWatchKnown {
			t.Fatalf("%d are known", n)
		}
	}
}

func TestWatchCount(t *testing.T) {
	t.Parallel()
	w, now := newWatchOf(10, 1e9)
	const key = "p:a\x00b"
	w.store(key, 0, 7)
	w.Admit("a", "b")
	p, _ := w.Admit("a", "b")
	if w.Count(&p, "", 200) || len(w.root.p.shared.windows.tables) != 0 {
		t.Error("a window was made")
	}
	nothing := windowAdd{}
	w.count(key, 6, windowAdd{counts: [3]uint32{1}}) // of another generation
	if w.Count(&p, "", 200) {
		t.Error("counted, though there is no window of this generation")
	}
	w.count(key, 7, windowAdd{counts: [3]uint32{1}})
	for _, failure := range []string{"", "none"} {
		if !w.Count(&p, failure, 200) {
			t.Errorf("failure %q: not counted", failure)
		}
	}
	if r := w.count(key, 7, nothing); r.Sums != [3]int64{3} || r.Streak != 0 {
		t.Errorf("after three: %+v", r)
	}
	if w.Count(&p, "", 503) || w.Count(&p, "connect", 200) {
		t.Error("a failure was counted")
	}
	for name, a := range map[string]windowAdd{
		"a failure": {counts: [3]uint32{1, 1}}, "a slow one": {counts: [3]uint32{1, 0, 1}}, "a streak": {streak: 1},
	} {
		now.Add(60e9)
		w.count(key, 7, windowAdd{counts: [3]uint32{5}, streak: -1})
		now.Add(1e9)
		w.count(key, 7, a)
		if w.Count(&p, "", 200) {
			t.Errorf("%s: counted", name)
		}
		if r := w.count(key, 7, nothing); r.Sums[0] != 5+int64(a.counts[0]) {
			t.Errorf("%s: %+v", name, r)
		}
		now.Add(9e9)
		if got := w.Count(&p, "", 200); got {
			t.Errorf("%s, at the end of its window: counted", name)
		}
		now.Add(1e9)
		if got := w.Count(&p, "", 200); got != (a.streak == 0) {
			t.Errorf("%s, after its window: counted %t", name, got)
		}
	}
	if r := w.count(key, 6, nothing); r.Sums != [3]int64{} || r.Streak != 0 {
		t.Errorf("the other generation: %+v", r)
	}
}

// TestWatchTableGone: a window is counted in as long as its table is in use, and a table that
// was given up is left.
func TestWatchTableGone(t *testing.T) {
	t.Parallel()
	w, now := newWatchOf(10, 1e9)
	const key = "p:a\x00b"
	w.store(key, 0, 0)
	w.Admit("a", "b")
	p, _ := w.Admit("a", "b")
	w.count(key, 0, windowAdd{counts: [3]uint32{1}})
	if !w.Count(&p, "", 200) {
		t.Fatal("not counted")
	}
	makeRoom := func() {
		s := w.root.p.shared.windows
		s.bytes.Add(maxWindowBytes)
		s.full.Store(0)
		s.make(windowShape{5, 1e9}, w.root.p.h.counterClock())
		s.bytes.Add(-maxWindowBytes)
	}
	now.Add(5e9)
	makeRoom()
	if !w.Count(&p, "", 200) {
		t.Error("a table whose windows are not empty was given up")
	}
	now.Add(60e9)
	makeRoom()
	if n := len(w.root.p.shared.windows.tables); n != 0 || w.Count(&p, "", 200) {
		t.Errorf("%d tables are left, or the one that is gone was counted in", n)
	}
	w.count(key, 0, windowAdd{counts: [3]uint32{1}})
	if !w.Count(&p, "", 200) {
		t.Error("not counted in the new table")
	}
	if r := w.count(key, 0, windowAdd{}); r.Sums != [3]int64{2} {
		t.Errorf("in the new table: %+v", r)
	}
}

// TestWatchEvicted: a circuit that has made room for others is asked for again, whether or not
// it comes back.
func TestWatchEvicted(t *testing.T) {
	t.Parallel()
	w, _ := newWatchOf(10, 1e9)
	const key = "p:a\x00b"
	w.store(key, 0, 1)
	w.Admit("a", "b")
	if _, ok := w.Admit("a", "b"); !ok {
		t.Fatal("not let through")
	}
	for i := range 1000 {
		w.root.p.shared.set(fmt.Sprint(i), make([]byte, 4000), 0)
	}
	if _, ok := w.Admit("a", "b"); ok {
		t.Error("let through, though its circuit is not known any more")
	}
	w.store(key, 1, 2)
	if _, ok := w.Admit("a", "b"); ok {
		t.Error("let through an open circuit")
	}
	w.store(key, 0, 3)
	if p, ok := w.Admit("a", "b"); !ok || p.window.generation != 3 {
		t.Errorf("closed again: %t, %+v", ok, p)
	}
}

// TestSharedKeepsWhatIsNew: where everything that is there is being read, what is written finds room all
// the same, and stays until others come.
func TestSharedKeepsWhatIsNew(t *testing.T) {
	t.Parallel()
	s := newSharedSpace(4 * (size(2, 16) + sharedCellBytes))
	cells := map[string]*sharedCell{}
	for i := range 20 {
		key := fmt.Sprintf("%02d", i)
		if status := s.set(key, make([]byte, 16), 0); status != abi.StatusOK {
			t.Fatalf("%s: %v", key, status)
		}
		if cells[key] = s.cell([]byte(key)); cells[key] == nil {
			t.Fatalf("%s has made room for others that were there before it", key)
		}
		there := 0
		for _, c := range cells {
			if c.read() != nil {
				there++
			}
		}
		want := min(i+1, 4)
		if bytes, _ := s.stats(); there != want || len(s.entries) != want || bytes != int64(want)*(size(2, 16)+sharedCellBytes) {
			t.Errorf("%d are there, %d of them by their cells, want %d; they take %d bytes", len(s.entries), there, want, bytes)
		}
	}
}

// TestSharedStateOfCells: what is read through its cell is not what an upgrade leaves behind.
func TestSharedStateOfCells(t *testing.T) {
	t.Parallel()
	s := newSharedSpace(1 << 20)
	s.set("in use", make([]byte, 16), 0)
	c := s.cell([]byte("in use"))
	c.read()
	s.set("other", make([]byte, 16), 0)
	for range 2 {
		c.read()
		if list, _ := s.entriesSince(0, &stateRoom{left: size(6, 16)}); len(list) != 1 || list[0].Key != "in use" {
			t.Errorf("kept %+v", list)
		}
	}
}

// TestWatchConcurrent: what is counted by host and guest at the same time is all counted.
func TestWatchConcurrent(t *testing.T) {
	t.Parallel()
	w, _ := newWatchOf(10, 1e9)
	const key = "p:a\x00b"
	w.store(key, 0, 0)
	var wg sync.WaitGroup
	var host atomic.Int64
	const each = 2000
	for range 4 {
		wg.Go(func() {
			for range each {
				p, ok := w.Admit("a", "b")
				if ok && w.Count(&p, "", 200) {
					host.Add(1)
					continue
				}
				w.count(key, 0, windowAdd{counts: [3]uint32{1}, streak: -1})
			}
		})
	}
	wg.Wait()
	if r := w.count(key, 0, windowAdd{}); r.Sums != [3]int64{4 * each} || host.Load() < 4*each-16 {
		t.Errorf("%+v, %d of them by the host", r, host.Load())
	}
}
