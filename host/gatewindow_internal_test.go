package host

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// gateWindow is a gate with windows of three in 17 slots of a second.
func gateWindow() abi.GateRecord {
	return abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Slots: 17, Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}}}
}

// of is a request with that key.
func of(key string) gaterule.Request { return gaterule.Request{Head: fakeHead{"k": key}} }

// makeWindow is what the guest's first add does: table and page of a tag are there, and the window
// has nothing in it.
func (g *Gate) makeWindow(t *testing.T, tag uint64) *windowTable {
	t.Helper()
	s := g.root.p.shared.windows
	if _, _, ok := s.add(g.shape, &windowAdd{tag: tag}, g.root.p.h.counterClock); !ok {
		t.Fatal("there is no window")
	}
	return s.find(g.shape)
}

// added adds n to a window, as a guest does with the gate's limit.
func (g *Gate) added(tag uint64, n uint32) abi.AddResult {
	a := windowAdd{tag: tag, counts: [abi.WindowColumns]uint32{n}, limit: g.most}
	r, _, _ := g.root.p.shared.windows.add(g.shape, &a, g.root.p.h.counterClock)
	return r
}

func TestGateWindow(t *testing.T) {
	t.Parallel()
	g, now := newGateOf(gateWindow())
	tag := g.tagOf(t, of("a"))
	if _, ok := g.Admit(of("a")); ok {
		t.Fatal("admitted without a table, which the guest has to make")
	}
	g.makeWindow(t, tag+1) // on another page
	if _, ok := g.Admit(of("a")); ok {
		t.Fatal("admitted without a page, which the guest has to make")
	}
	g.makeWindow(t, tag+windowPages) // another key of the same page
	for i, want := range []int64{2, 1, 0} {
		if a, ok := g.Admit(of("a")); !ok || a != (Admission{Remaining: want}) {
			t.Errorf("request %d: got %+v, %t, want %d left", i, a, ok, want)
		}
		now.Add(1e9)
	}
	for range 2 { // a refusal adds nothing
		if _, ok := g.Admit(of("a")); ok {
			t.Error("admitted beyond the limit")
		}
	}
	if r := g.added(tag, 1); r.Added || r.Sums[0] != 3 || r.Streak != 0 {
		t.Errorf("the guest finds another window: %+v", r)
	}
	now.Add(14e9 - 1) // the first counts for 17 slots
	if _, ok := g.Admit(of("a")); ok {
		t.Error("admitted while the first still counts")
	}
	now.Add(1)
	if a, ok := g.Admit(of("a")); !ok || a.Remaining != 0 {
		t.Errorf("when the first has left: got %+v, %t", a, ok)
	}
	if r := g.added(tag, 0); r.Sums[0] != 3 {
		t.Errorf("the guest finds %d, want 3", r.Sums[0])
	}
	now.Add(-100e9) // the latest slot stays the present one
	if _, ok := g.Admit(of("a")); ok {
		t.Error("admitted as the clock was set back")
	}
	now.Add(200e9)
	if a, ok := g.Admit(of("a")); !ok || a.Remaining != 2 {
		t.Errorf("after all that: got %+v, %t", a, ok)
	}
	if _, ok := g.Admit(of("")); ok {
		t.Error("admitted without a key")
	}
}

// TestGateWindowCrowded: a key whose page is full is the guest's, as another has to go.
func TestGateWindowCrowded(t *testing.T) {
	t.Parallel()
	g, now := newGateOf(gateWindow())
	tag := g.tagOf(t, of("a"))
	for i := range uint64(windowPageKeys) {
		g.added(tag+(i+1)*windowPages, uint32(i%2)+1)
	}
	p := &g.root.p.shared.windows.find(g.shape).pages[tag%windowPages]
	before := p.windows[0].tag
	if _, ok := g.Admit(of("a")); ok || p.windows[0].tag != before || p.index(tag) >= 0 {
		t.Error("admitted from a page that is full")
	}
	now.Add(17e9) // all of them are empty
	if a, ok := g.Admit(of("a")); !ok || a.Remaining != 2 {
		t.Errorf("with room again: got %+v, %t", a, ok)
	}
	if r := g.added(tag, 0); r.Sums[0] != 1 {
		t.Errorf("the guest finds %d, want 1", r.Sums[0])
	}
}

// TestGateWindowGone: a table that is given up is not added to.
func TestGateWindowGone(t *testing.T) {
	t.Parallel()
	g, now := newGateOf(gateWindow())
	s := g.root.p.shared.windows
	old := g.makeWindow(t, g.tagOf(t, of("a")))
	if _, ok := g.Admit(of("a")); !ok {
		t.Fatal("not admitted")
	}
	now.Add(100e9)
	s.bytes.Add(maxWindowBytes)
	s.make(windowShape{1, 1e9}, g.root.p.h.counterClock())
	if s.find(g.shape) != nil {
		t.Fatal("the table is not given up")
	}
	if _, ok := g.Admit(of("a")); ok || sumOf(old.pages[g.tagOf(t, of("a"))%windowPages].counts)[0] > 1 {
		t.Error("added to a table that is gone")
	}
	s.bytes.Add(-maxWindowBytes)
	g.makeWindow(t, g.tagOf(t, of("a")))
	if a, ok := g.Admit(of("a")); !ok || a.Remaining != 2 {
		t.Errorf("with a new table: got %+v, %t", a, ok)
	}
}

// TestGateWindowConcurrent: gates and adds together admit what the window takes, while tables of
// other shapes come and go.
func TestGateWindowConcurrent(t *testing.T) {
	t.Parallel()
	r := gateWindow()
	r.Burst = 1000
	g, _ := newGateOf(r)
	tag := g.tagOf(t, of("a"))
	g.makeWindow(t, tag)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				switch {
				case i%2 == 0:
					if _, ok := g.Admit(of("a")); ok {
						admitted.Add(1)
					}
				case n%50 == 0:
					g.root.p.shared.windows.make(windowShape{uint32(n/50 + 1), int64(i + 1)}, g.root.p.h.counterClock())
				default:
					if g.added(tag, 1).Added {
						admitted.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 1000 || g.added(tag, 0).Sums[0] != 1000 {
		t.Errorf("%d admitted, %d counted, want 1000", n, g.added(tag, 0).Sums[0])
	}
}

// TestGateWindowMany: a million keys find what they would find with a guest, and make nothing larger.
func TestGateWindowMany(t *testing.T) {
	t.Parallel()
	g, _ := newGateOf(gateWindow())
	for i := range uint64(windowPages) {
		g.makeWindow(t, i)
	}
	bytes := g.root.p.shared.windows.bytes.Load()
	var key [4]byte
	admitted := 0
	for i := range 200_000 {
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		if _, ok := g.Admit(of(string(key[:]))); ok {
			admitted++
		}
	}
	if admitted != windowPages*windowPageKeys || g.root.p.shared.windows.bytes.Load() != bytes {
		t.Errorf("%d admitted in %d bytes, want %d in %d", admitted, g.root.p.shared.windows.bytes.Load(), windowPages*windowPageKeys, bytes)
	}
}

// TestGateReserve: who leaves less than the reserve is the guest's.
func TestGateReserve(t *testing.T) {
	t.Parallel()
	g, now := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 5, Cost: 1, Reserve: 3})
	table := g.makeTable()
	for i, want := range []int64{1, 0} {
		if a, ok := g.Admit(gaterule.Request{}); !ok || a != (Admission{Remaining: want, Full: int64(i + 1)}) {
			t.Errorf("request %d: got %+v, %t, want %d left", i, a, ok, want)
		}
	}
	if _, ok := g.Admit(gaterule.Request{}); ok {
		t.Error("admitted into the reserve")
	}
	if d, _ := table.take(g.tagOf(t, gaterule.Request{}), 1, g.root.p.h.counterClock); !d.admitted || d.remaining != 2 {
		t.Errorf("the guest gets %+v", d)
	}
	now.Add(1e9)
	if _, ok := g.Admit(gaterule.Request{}); ok {
		t.Error("admitted into the reserve, a second later")
	}
	now.Add(1e9)
	if a, ok := g.Admit(gaterule.Request{}); !ok || a.Remaining != 0 {
		t.Errorf("two seconds later: got %+v, %t", a, ok)
	}
}

// TestGateExempt: who is exempt takes nothing, has no key to lack, and is counted apart.
func TestGateExempt(t *testing.T) {
	t.Parallel()
	r := abi.GateRecord{Interval: 1e9, Burst: 1, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}}}
	r.Exempt = []abi.GatePart{abi.GateNetwork([]byte{10, 0, 0, 0}, 8), {Kind: abi.GateHas, Text: "free"}}
	g, _ := newGateOf(r)
	g.metric, g.exemptMetric = &metric{}, &metric{}
	for _, q := range []gaterule.Request{
		{Client: netip.MustParseAddr("10.1.2.3"), Head: fakeHead{}},
		{Client: netip.MustParseAddr("::ffff:10.1.2.3"), Head: fakeHead{"k": "a"}},
		{Head: fakeHead{"free": ""}},
	} {
		if a, ok := g.Admit(q); !ok || a != (Admission{Exempt: true}) {
			t.Errorf("%+v: got %+v, %t", q, a, ok)
		}
	}
	g.makeTable()
	for i, want := range []bool{true, false} {
		if a, ok := g.Admit(of("a")); ok != want || a.Exempt {
			t.Errorf("request %d of somebody else: got %+v, %t", i, a, ok)
		}
	}
	if n, m := g.exemptMetric.value.Load(), g.metric.value.Load(); n != 3 || m != 1 {
		t.Errorf("%d exempt and %d admitted are counted, want 3 and 1", n, m)
	}
	g.root.p.vms.Store(&[]*vm{})
	if _, ok := g.Admit(gaterule.Request{Head: fakeHead{"free": "1"}}); ok {
		t.Error("exempt without a VM")
	}
}

// TestGateMissing: those who lack a part of the key share a bucket, if that is what the guest does.
func TestGateMissing(t *testing.T) {
	t.Parallel()
	r := abi.GateRecord{
		Interval: 1e9, Burst: 2, Cost: 1,
		Key:     []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}, {Kind: abi.GateClient, Bits: 64}},
		Missing: []abi.GatePart{{Text: "<"}, {Kind: abi.GateRoute}},
	}
	g, _ := newGateOf(r)
	table := g.makeTable()
	a := netip.MustParseAddr("192.0.2.1")
	for i, tt := range []struct {
		q    gaterule.Request
		want bool
	}{
		{gaterule.Request{Client: a, Head: fakeHead{}}, true},
		{gaterule.Request{Head: fakeHead{"k": "v"}}, true}, // no client
		{gaterule.Request{Client: a, Head: fakeHead{"k": ""}}, false},
		{gaterule.Request{Client: a, Head: fakeHead{}, Route: "other"}, true},
		{gaterule.Request{Client: a, Head: fakeHead{"k": strings.Repeat("v", abi.MaxGateValues+1)}, Route: "third"}, false},
		{gaterule.Request{Client: a, Head: fakeHead{"k": "v"}}, true},
	} {
		if _, ok := g.Admit(tt.q); ok != tt.want {
			t.Errorf("request %d: %t, want %t", i, ok, tt.want)
		}
	}
	tag := g.root.p.shared.counters.key.sum([]byte("<\x00\x00\x00\x00"))
	if d, _ := table.take(tag, 1, g.root.p.h.counterClock); d.admitted {
		t.Error("the guest finds another bucket")
	}
	r.Missing = nil
	g, _ = newGateOf(r)
	g.makeTable()
	if _, ok := g.Admit(gaterule.Request{Client: a, Head: fakeHead{}}); ok {
		t.Error("admitted without a key")
	}
}

// TestGatePlaces: a place is held until the request leaves, and given back at once if there are no tokens.
func TestGatePlaces(t *testing.T) {
	t.Parallel()
	r := abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Places: 2, PlacesKey: "p", Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}}}
	g, now := newGateOf(r)
	s := g.root.p.shared.places
	if _, ok := g.Admit(of("a")); ok || len(s.keys) > 0 {
		t.Fatalf("admitted without a table, or with %v", s.keys)
	}
	g.makeTable()
	a, ok1 := g.Admit(of("a"))
	b, ok2 := g.Admit(of("a"))
	if _, ok3 := g.Admit(of("a")); !ok1 || !ok2 || ok3 || a.Remaining != 2 || b.Remaining != 1 {
		t.Errorf("%t %t %t: want two, with %+v, %+v", ok1, ok2, ok3, a, b)
	}
	if p := s.keys[g.root.p.shared.counters.key.sum([]byte("p\x01\x00\x00\x00a"))]; p.held != 2 {
		t.Errorf("%d places are held where the guest looks, want 2", p.held)
	}
	c, ok := g.Admit(of("b"))
	if !ok || len(s.keys) != 2 {
		t.Errorf("another key: %t, %v", ok, s.keys)
	}
	g.Leave(a)
	if a, ok = g.Admit(of("a")); !ok || a.Remaining != 0 {
		t.Errorf("when one has left: %+v, %t", a, ok)
	}
	g.Leave(a)
	for range 3 { // there are places, but no tokens
		if _, ok := g.Admit(of("a")); ok {
			t.Error("admitted without tokens")
		}
	}
	g.Leave(b)
	g.Leave(c)
	if len(s.keys) != 0 {
		t.Errorf("%v are held by nobody", s.keys)
	}
	now.Add(60e9)
	r.Interval, r.Burst, r.Cost, r.Exempt = 0, 0, 0, []abi.GatePart{{Kind: abi.GateHas, Text: "free"}}
	g, _ = newGateOf(r)
	for _, head := range []fakeHead{{"k": "a"}, {"k": "a", "free": ""}, {"k": "a"}} {
		if _, ok := g.Admit(gaterule.Request{Head: head}); !ok {
			t.Errorf("%v: not admitted", head)
		}
	}
	if _, ok := g.Admit(of("a")); ok {
		t.Error("admitted to places that are taken")
	}
}

// TestGatePlacesConcurrent: gates and streams together never hold more places than there are.
func TestGatePlacesConcurrent(t *testing.T) {
	t.Parallel()
	g, _ := newGateOf(abi.GateRecord{Places: 3, Key: []abi.GatePart{{Text: "k"}}})
	s, tag := g.root.p.shared.places, g.root.p.shared.counters.key.sum([]byte("k"))
	var inside atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				var a Admission
				var ok bool
				if i%2 == 0 {
					a, ok = g.Admit(gaterule.Request{})
				} else {
					ok, _ = s.take(placeAsk{tag: tag, most: 3}, 0)
				}
				if !ok {
					continue
				}
				if inside.Add(1) > 3 {
					t.Error("more than there are places")
				}
				runtime.Gosched()
				inside.Add(-1)
				if i%2 == 0 {
					g.Leave(a)
				} else {
					s.release(tag)
				}
			}
		})
	}
	wg.Wait()
	if len(s.keys) != 0 {
		t.Errorf("%v are held by nobody", s.keys)
	}
}
