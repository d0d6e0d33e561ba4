package host

import (
	"math/rand/v2"
	"testing"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// limited is a refusal for want of tokens.
var limited = []abi.GateRefusal{{Why: abi.GateLimited, Status: 429, Details: "limited", Body: "no", Fields: []abi.GateField{
	{Name: "a", Value: []abi.GatePart{{Kind: abi.GateRemaining}, {Text: ";"}, {Kind: abi.GateRetry, Bits: 3}}},
	{Name: "b", Value: []abi.GatePart{{Text: "always"}}},
}}}

// TestGateRefusesAsTake: a bucket that has not the tokens tells at a gate what it tells a take, at any time, which
// changes nothing of it; where the take gets the tokens, the gate does, or leaves it to the guest.
func TestGateRefusesAsTake(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	refused, lent := 0, 0
	for range 200 {
		burst := 1 + r.Int64N(6)
		cost := 1 + r.Int64N(burst)
		g, now := newGateOf(abi.GateRecord{
			Interval: 1 + r.Int64N(5e9), Burst: burst, Cost: cost, Reserve: r.Int64N(burst - cost + 1),
			Key: []abi.GatePart{{Text: "k"}}, Refusals: limited,
		})
		table, tag := g.makeTable(), g.tagOf(t, gaterule.Request{})
		for range 50 {
			now.Add(r.Int64N(3 * g.limit.interval))
			before := table.page(tag).bucketOf(tag)
			a, ok := g.Admit(gaterule.Request{})
			if ok {
				continue
			}
			if table.page(tag).bucketOf(tag) != before {
				t.Fatalf("%+v: a refusal changes the bucket", g.limit)
			}
			d, _ := table.take(tag, cost, g.root.p.h.counterClock)
			switch {
			case a.Refusal() == nil && d.admitted: // of the reserve
				lent++
			case a.Refusal() == nil || d.admitted:
				t.Fatalf("%+v: a refusal %t, a take gets it %t", g.limit, a.Refusal() != nil, d.admitted)
			case a.Remaining != max(d.remaining-g.reserve, 0) || a.Full != upToSeconds(d.full) || a.Retry != upToSeconds(d.retry):
				t.Fatalf("%+v: got %+v, a take says %+v", g.limit, a, d)
			default:
				refused++
			}
		}
	}
	if refused < 500 || lent < 500 {
		t.Errorf("%d refused, %d lent", refused, lent)
	}
}

// bucketOf returns the bucket of a tag.
func (p *counterPage) bucketOf(tag uint64) counterBucket {
	for _, b := range p.buckets {
		if b.tag == tag {
			return b
		}
	}
	return counterBucket{}
}

// TestGateRefusesAsAdd is that of windows.
func TestGateRefusesAsAdd(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 200 {
		most := 1 + r.Int64N(6)
		g, now := newGateOf(abi.GateRecord{
			Interval: 1 + r.Int64N(2e9), Burst: most, Cost: 1 + r.Int64N(most), Slots: 1 + r.Uint32N(17),
			Key: []abi.GatePart{{Text: "k"}}, Refusals: limited,
		})
		tag := g.tagOf(t, gaterule.Request{})
		g.makeWindow(t, tag)
		add := windowAdd{tag: tag, counts: [abi.WindowColumns]uint32{uint32(g.cost)}, limit: most}
		for range 50 {
			now.Add(r.Int64N(4 * g.shape.width))
			a, ok := g.Admit(gaterule.Request{})
			if ok {
				continue
			}
			d, _, _ := g.root.p.shared.windows.add(g.shape, &add, g.root.p.h.counterClock)
			if a.Refusal() == nil || d.Added || a.Remaining != most-d.Sums[0] || a.Retry != upToSeconds(d.Retry) || a.Full != 0 {
				t.Fatalf("%+v: got %+v, an add says %+v", g.shape, a, d)
			}
			refused++
		}
	}
	if refused < 500 {
		t.Errorf("%d refused", refused)
	}
}

// TestGateRefusal: what a refusal says, and that it counts by itself only what goes on.
func TestGateRefusal(t *testing.T) {
	t.Parallel()
	record := abi.GateRecord{Interval: 10e9, Burst: 1, Cost: 1, Places: 1, Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "k"}}}
	record.Refusals = append(limited[:1:1], abi.GateRefusal{Why: abi.GateKeyless, Verdict: "keyless"})
	g, now := newGateOf(record)
	g.makeTable()
	for _, r := range g.refusals {
		if r != nil {
			r.metric = &metric{}
		}
	}
	places := g.root.p.shared.places
	a, ok := g.Admit(of("a"))
	if !ok || a.Refusal() != nil {
		t.Fatalf("got %+v, %t", a, ok)
	}
	if b, ok := g.Admit(of("a")); ok || b.Refusal() != nil {
		t.Errorf("no place, of which nothing is said: got %+v, %t", b, ok)
	}
	g.Leave(a)
	now.Add(1)
	a, ok = g.Admit(of("a"))
	if r := a.Refusal(); ok || r == nil || r.metric.value.Load() != 0 || len(places.keys) != 1 {
		t.Fatalf("no tokens: got %+v, %t, places %v", a, ok, places.keys)
	}
	var reply Reply
	a.Refusal().Reply(&reply, a)
	want := Reply{Status: 429, Details: "limited", Body: []byte("no"), GRPCStatus: -1}
	if reply.Status != want.Status || reply.Details != want.Details || string(reply.Body) != "no" || reply.GRPCStatus != -1 ||
		len(reply.Fields) != 2 || reply.Fields[0] != (abi.Pair{Name: "a", Value: "0;10"}) || reply.Fields[1] != (abi.Pair{Name: "b", Value: "always"}) {
		t.Errorf("got %+v", reply)
	}
	now.Add(8e9)
	b := a
	b.Retry = 2
	if b.Refusal().Reply(&reply, b); reply.Fields[0].Value != "0;3" {
		t.Errorf("got %+v, want at least 3", reply.Fields)
	}
	if g.Fields(a) != 0 {
		t.Error("it gets the lines of those that are let through")
	}
	g.Leave(a)
	if len(places.keys) != 0 {
		t.Errorf("%v are held by nobody", places.keys)
	}
	c, ok := g.Admit(gaterule.Request{Head: fakeHead{}})
	if r := c.Refusal(); !ok || r == nil || r.Verdict() != "keyless" || r.metric.value.Load() != 1 || g.Fields(c) != 0 {
		t.Errorf("without a key: got %+v, %t", c, ok)
	}
	g.root.p.vms.Store(&[]*vm{})
	if d, ok := g.Admit(gaterule.Request{Head: fakeHead{}}); ok || d.Refusal() != nil {
		t.Errorf("without a VM: got %+v, %t", d, ok)
	}
}
