//go:build !race

package host

import (
	"net/netip"
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
	i := int64(1 << 60)
	if n := testing.AllocsPerRun(100, func() {
		i++
		g.Field(0, Admission{Remaining: i, Full: i})
	}); n > 1 {
		t.Errorf("a new value: %v allocations, want 1", n)
	}
}
