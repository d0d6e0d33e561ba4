//go:build !race

package host

import (
	"net/netip"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

func TestGateAllocs(t *testing.T) {
	client := netip.MustParseAddr("2001:db8::1")
	g, _ := newGateOf(abi.GateRecord{
		Interval: 1, Burst: 1 << 40, Cost: 1,
		Key:    []abi.GatePart{{Text: "k"}, {Kind: abi.GateRoute}, {Kind: abi.GateClient, Bits: 64}},
		Fields: []abi.GateField{{Name: "a", Value: []abi.GatePart{{Text: `"default";r=`}, {Kind: abi.GateRemaining}, {Text: ";t="}, {Kind: abi.GateFull}}}},
	})
	g.makeTable()
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := g.Admit(gaterule.Request{Route: "a-route-with-some-name", Client: client}); !ok {
			t.Fatal("not admitted")
		}
		g.Field(0, Admission{Remaining: 5, Full: 6})
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	for full := range int64(2) { // a bucket is told of by both numbers, a window by one
		if n := testing.AllocsPerRun(10, func() {
			for i := range int64(gateTexts) {
				g.Field(0, Admission{Remaining: i, Full: full * (gateTexts - i)})
			}
		}); n != 0 {
			t.Errorf("values of a moment ago: %v allocations, want 0", n)
		}
	}
	i := int64(1 << 60)
	if n := testing.AllocsPerRun(100, func() {
		i++
		g.Field(0, Admission{Remaining: i, Full: i})
	}); n > 1 {
		t.Errorf("a new value: %v allocations, want 1", n)
	}
}

// TestGateAllocsOfHead: nor does it allocate for what is read of a head, for a window, or for somebody
// who is exempt.
func TestGateAllocsOfHead(t *testing.T) {
	head := fakeHead{
		"x-key": strings.Repeat("v", 300), "cookie": "a=b; sid=" + strings.Repeat("c", 300), ":path": "/p?q=%41" + strings.Repeat("d", 200),
		":authority": "Example.COM", ":method": "GET", "x-plan": "gold",
	}
	key := []abi.GatePart{
		{Kind: abi.GateClient, Bits: 64},
		{Kind: abi.GateHeader, Text: "x-key"},
		{Kind: abi.GateCookie, Text: "sid"},
		{Kind: abi.GateQuery, Text: "q"},
		{Kind: abi.GateHost},
		{Kind: abi.GatePath},
		{Kind: abi.GateMethod},
	}
	for _, r := range []abi.GateRecord{
		{Interval: 1, Burst: 1 << 40, Cost: 1, Key: key},
		{Interval: 1e9, Burst: 1 << 40, Cost: 1, Key: key, Slots: 17},
		{Interval: 1, Burst: 1 << 40, Cost: 1, Key: key, Exempt: []abi.GatePart{abi.GateNetwork([]byte{10, 0, 0, 0}, 8), abi.GateEqual("x-plan", "gold")}},
		{Places: 100, PlacesKey: "p", Key: key},
	} {
		g, _ := newGateOf(r)
		client := netip.MustParseAddr("2001:db8::1")
		if r.Cost > 0 {
			g.makeTable()
		}
		if r.Slots > 0 {
			g.makeWindow(t, g.tagOf(t, gaterule.Request{Client: client, Head: head}))
		}
		if n := testing.AllocsPerRun(100, func() {
			if a, ok := g.Admit(gaterule.Request{Route: "r", Client: client, Head: head}); !ok || a.Exempt != (len(r.Exempt) > 0) {
				t.Fatal("not admitted")
			} else {
				g.Leave(a)
			}
		}); n != 0 {
			t.Errorf("%+v: %v allocations, want 0", r, n)
		}
	}
}
