package host

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// newGateOf returns a gate without a guest, and its clock.
func newGateOf(r abi.GateRecord) (g *Gate, now *atomic.Int64) {
	now = new(atomic.Int64)
	now.Store(1e9)
	h := &Host{o: HostOptions{ManualTicks: true, Now: func() time.Time { return time.Unix(0, now.Load()) }}}
	p := &Plugin{h: h, shared: newSharedSpace(1 << 20)}
	p.vms.Store(&[]*vm{{}})
	root := &Root{p: p}
	root.refs.Store(handle)
	g = &Gate{root: root, limit: counterLimit{r.Interval, r.Burst}, cost: r.Cost, reserve: r.Reserve, places: r.Places, placesKey: r.PlacesKey}
	g.setLimit(&r)
	if !g.setRules(&r) || !g.setLines(r.Fields) || !g.setRefusals(&vm{p: p}, r.Refusals) {
		panic("no gate")
	}
	return g, now
}

// A fakeHead has these lines.
type fakeHead map[string]string

func (h fakeHead) Get(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

// ask is Admit for a request of a client.
func (g *Gate) ask(client netip.Addr) (Admission, bool) {
	return g.Admit(gaterule.Request{Client: client})
}

// makeTable is what the guest's first take does.
func (g *Gate) makeTable() *counterTable {
	t, _ := g.root.p.shared.counters.table(g.limit, g.root.p.h.counterClock())
	return t
}

func TestGateAdmit(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("192.0.2.1")
	g, now := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateClient, Bits: 64}}})
	if _, ok := g.ask(client); ok {
		t.Fatal("admitted without a table, which the guest has to make")
	}
	table := g.makeTable()
	for i, want := range []Admission{{Remaining: 2, Full: 1}, {Remaining: 1, Full: 2}, {Remaining: 0, Full: 3}} {
		if got, ok := g.ask(client); !ok || got != want {
			t.Errorf("request %d: got %+v, %t, want %+v", i, got, ok, want)
		}
	}
	tag := g.tagOf(t, gaterule.Request{Client: client})
	for range 3 { // a refusal takes nothing
		if _, ok := g.ask(client); ok {
			t.Error("admitted beyond the burst")
		}
	}
	now.Add(1e9 + 1)
	if got, ok := g.ask(client); !ok || got != (Admission{Remaining: 0, Full: 3}) {
		t.Errorf("a second later: got %+v, %t", got, ok)
	}
	if d, _ := table.take(tag, 1, g.root.p.h.counterClock); d.admitted {
		t.Error("the guest finds another bucket")
	}
	if _, ok := g.ask(netip.Addr{}); ok {
		t.Error("admitted without an address")
	}
	// Without a VM, and with the root closed, whoever opens a stream has to find out.
	now.Add(10e9)
	vms := g.root.p.vms.Load()
	g.root.p.vms.Store(&[]*vm{})
	if _, ok := g.ask(client); ok {
		t.Error("admitted without a VM")
	}
	g.root.p.vms.Store(vms)
	g.root.refs.Store(handle - 1)
	if _, ok := g.ask(client); ok {
		t.Error("admitted with the root closed")
	}
	g.root.refs.Store(handle)
	if got, ok := g.ask(client); !ok || got.Remaining != 2 {
		t.Errorf("with a VM again: got %+v, %t", got, ok)
	}
}

func (g *Gate) tagOf(t *testing.T, r gaterule.Request) uint64 {
	t.Helper()
	tag, _, found := g.tags(&r)
	if found != gaterule.Known {
		t.Fatal("no key")
	}
	return tag
}

// TestGateCrowded: a key whose page is full is the guest's: the table has to grow, or another
// key has to go.
func TestGateCrowded(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("192.0.2.1")
	g, _ := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateClient, Bits: 64}}, Refusals: limited})
	table, clock, tag := g.makeTable(), g.root.p.h.counterClock, g.tagOf(t, gaterule.Request{Client: client})
	for i := range uint64(counterPageBuckets) {
		table.take(tag+(i+1)*counterFirstPages, 1, clock)
	}
	before := len(table.page(tag).buckets)
	if a, ok := g.ask(client); ok || a.Refusal() != nil || len(table.page(tag).buckets) != before {
		t.Error("admitted from a page that is full")
	}
	g.root.p.shared.counters.grow(table, clock())
	if got, ok := g.ask(client); !ok || got.Remaining != 2 {
		t.Errorf("after it has grown: got %+v, %t", got, ok)
	}
	if g.table.Load() == table {
		t.Error("the table that is gone is still in use")
	}
}

// TestGateHandOver: what another process has counted is counted, and what a gate has taken goes
// to the next one.
func TestGateHandOver(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("192.0.2.1")
	r := abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateClient, Bits: 64}}}
	old, now := newGateOf(r)
	old.makeTable()
	for range 2 {
		old.ask(client)
	}
	room := stateRoom{left: 1 << 20}
	list := old.root.p.shared.counters.state(now.Load(), &room)
	next, _ := newGateOf(r)
	next.makeTable() // its guest has begun to count
	next.root.p.shared.counters.key = old.root.p.shared.counters.key
	next.ask(netip.MustParseAddr("192.0.2.2")) // and its gate knows the table
	next.root.p.shared.counters.adopt(list, now.Load())
	if got, ok := next.ask(client); !ok || got.Remaining != 0 {
		t.Errorf("got %+v, %t, want the last token", got, ok)
	}
	if _, ok := next.ask(client); ok {
		t.Error("admitted beyond the burst")
	}
}

// TestGateConcurrent: gates and takes together admit what the bucket holds.
func TestGateConcurrent(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("192.0.2.1")
	g, _ := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 1000, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateClient, Bits: 64}}})
	table, clock, tag := g.makeTable(), g.root.p.h.counterClock, g.tagOf(t, gaterule.Request{Client: client})
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				if i%2 == 0 {
					if _, ok := g.ask(client); ok {
						admitted.Add(1)
					}
				} else if d, _ := table.take(tag, 1, clock); d.admitted {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 1000 {
		t.Errorf("%d admitted, want 1000", n)
	}
}

func TestGateField(t *testing.T) {
	t.Parallel()
	g, _ := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 1, Cost: 1, Fields: []abi.GateField{
		{Name: "a", Value: []abi.GatePart{{Text: "r="}, {Kind: abi.GateRemaining}, {Text: ";t="}, {Kind: abi.GateFull}}},
		{Name: "b", Value: []abi.GatePart{{Text: "always"}, {Text: " this"}}},
	}})
	var kept []string
	for i := range int64(100) {
		_, v := g.Field(0, Admission{Remaining: i, Full: 7})
		kept = append(kept, v)
	}
	if kept[3] != "r=3;t=7" || kept[99] != "r=99;t=7" {
		t.Errorf("got %q, %q", kept[3], kept[99])
	}
	if name, v := g.Field(1, Admission{Remaining: 1, Full: 7}); name != "b" || v != "always this" {
		t.Errorf("got %q %q", name, v)
	}
}

// TestGateKeepsNothing: a gate that nobody has asked since its table or windows were given up does not keep
// their memory, which others have been given: there may be as many gates as there are routes.
func TestGateKeepsNothing(t *testing.T) {
	t.Parallel()
	g, now := newGateOf(abi.GateRecord{Interval: 1e9, Burst: 3, Cost: 1, Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}}})
	s := g.root.p.shared.counters
	small := g.makeTable()
	if _, ok := g.Admit(of("a")); !ok {
		t.Fatal("not admitted")
	}
	s.grow(small, now.Load())
	if n := small.held(); n > 0 {
		t.Errorf("%d bytes are kept of a table that has grown", n)
	}
	if a, ok := g.Admit(of("a")); !ok || a.Remaining != 1 {
		t.Errorf("after it has grown: got %+v, %t", a, ok)
	}
	large := g.table.Load()
	now.Add(100e9)
	s.mu.Lock()
	s.roomLocked(maxCounterBytes, nil, now.Load())
	s.mu.Unlock()
	if n := large.held(); s.find(g.limit) != nil || n > 0 {
		t.Errorf("%d bytes are kept of a table that was given up", n)
	}

	g, now = newGateOf(gateWindow())
	w := g.root.p.shared.windows
	table := g.makeWindow(t, g.tagOf(t, of("a")))
	if _, ok := g.Admit(of("a")); !ok {
		t.Fatal("not admitted")
	}
	now.Add(100e9)
	w.bytes.Add(maxWindowBytes)
	w.make(windowShape{1, 1e9}, now.Load())
	if n := table.size() - windowTableBytes; w.find(g.shape) != nil || n > 0 {
		t.Errorf("%d bytes are kept of windows that were given up", n)
	}
	if n := w.bytes.Load() - maxWindowBytes; n != 0 {
		t.Errorf("%d bytes are counted of nothing", n)
	}
}

// held returns the bytes of a table's buckets.
func (t *counterTable) held() (n int) {
	for i := range t.pages {
		n += 16 * cap(t.pages[i].buckets)
	}
	return n
}
