package abi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

func sampleGate() *abi.GateRecord {
	return &abi.GateRecord{
		Interval: 1e7, Burst: 50, Cost: 2, Metric: 3,
		Key: []abi.GatePart{
			{Kind: abi.GateText, Text: "\x01"}, {Kind: abi.GateRoute}, {Kind: abi.GateText}, {Kind: abi.GateClient, Bits: 64},
		},
		Fields: []abi.GateField{
			{Name: "a", Value: []abi.GatePart{{Text: "r="}, {Kind: abi.GateRemaining}, {Text: ";t="}, {Kind: abi.GateFull}}},
			{Name: "b"},
		},
	}
}

// largerGate has all that hosts did not know at first.
func largerGate() *abi.GateRecord {
	g := sampleGate()
	g.Slots, g.ExemptMetric, g.Places, g.PlacesKey = 17, 4, 5, "places"
	g.Missing = []abi.GatePart{{Text: "-"}, {Kind: abi.GateRoute}}
	g.Key = append(g.Key,
		abi.GatePart{Kind: abi.GateHeader, Text: "x"}, abi.GatePart{Kind: abi.GateCookie, Text: "S"}, abi.GatePart{Kind: abi.GateQuery, Text: "q"},
		abi.GatePart{Kind: abi.GatePath}, abi.GatePart{Kind: abi.GateMethod}, abi.GatePart{Kind: abi.GateHost})
	g.Exempt = []abi.GatePart{
		abi.GateNetwork([]byte{10, 0, 0, 0}, 8), {Kind: abi.GateHas, Text: "x"}, abi.GateEqual("y", "v"),
	}
	return g
}

// refusingGate has refusals of all kinds.
func refusingGate() *abi.GateRecord {
	g := sampleGate()
	g.Places = 3
	g.Refusals = []abi.GateRefusal{
		{Why: abi.GateLimited, Status: 429, Metric: 5, Details: "limited", Verdict: "v", Body: "no\n", Fields: []abi.GateField{
			{Name: "retry-after", Value: []abi.GatePart{{Kind: abi.GateRetry, Bits: 1}}},
			{Name: "x", Value: []abi.GatePart{{Text: "r="}, {Kind: abi.GateRemaining}, {Kind: abi.GateFull}, {Kind: abi.GateRetry}}},
		}},
		{Why: abi.GateCrowded, Status: 503},
		{Why: abi.GateKeyless, Metric: 6, Verdict: "keyless"},
	}
	return g
}

// TestGateAsEver: what hosts knew at first is written as it was, byte for byte.
func TestGateAsEver(t *testing.T) {
	t.Parallel()
	want := "\x00\x00\x00\x00\x03\x00\x00\x00\x80\x96\x98\x00\x00\x00\x00\x00\x32\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00" +
		"\x04\x00\x00\x00\x02\x00\x00\x00" +
		"\x00\x00\x00\x00\x01\x00\x00\x00\x01" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x40\x00\x00\x00" +
		"\x01\x00\x00\x00\x04\x00\x00\x00a" + "\x00\x00\x00\x00\x02\x00\x00\x00r=" + "\x03\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x03\x00\x00\x00;t=" + "\x04\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00b"
	if got := string(abi.AppendGate(nil, sampleGate())); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	for _, want := range []*abi.GateRecord{sampleGate(), largerGate(), refusingGate(), {Refusals: []abi.GateRefusal{{Why: abi.GateKeyless}}}, {Slots: 1}, {Reserve: 1}, {ExemptMetric: 1}, {Missing: []abi.GatePart{{}}}, {Places: 1}, {Places: -1, Burst: 1, PlacesKey: "p"}} {
		args := abi.AppendGate(nil, want)
		if got, err := abi.ParseGate(string(args)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		plain := *want
		plain.Slots, plain.Reserve, plain.Exempt, plain.ExemptMetric, plain.Missing, plain.Places, plain.PlacesKey = 0, 0, nil, 0, nil, 0, ""
		plain.Refusals = nil
		for n := range len(args) {
			if _, err := abi.ParseGate(string(args[:n])); err == nil && (want.Slots > 0 || want.Places == 1 || n != len(abi.AppendGate(nil, &plain))) {
				t.Errorf("cut to %d of %d bytes: it is taken", n, len(args))
			}
		}
	}
	args := abi.AppendGate(nil, sampleGate())
	for name, change := range map[string]func(*abi.GateRecord){
		"a value in the key":  func(g *abi.GateRecord) { g.Key[1].Kind = abi.GateFull },
		"a route in a value":  func(g *abi.GateRecord) { g.Fields[0].Value[1].Kind = abi.GateRoute },
		"an unknown kind":     func(g *abi.GateRecord) { g.Key[1].Kind = 99 },
		"no bits":             func(g *abi.GateRecord) { g.Key[3].Bits = 0 },
		"too many bits":       func(g *abi.GateRecord) { g.Key[3].Bits = 129 },
		"bits of a route":     func(g *abi.GateRecord) { g.Key[1].Bits = 1 },
		"too many parts":      func(g *abi.GateRecord) { g.Key = make([]abi.GatePart, abi.MaxGateParts+1) },
		"too many parts of a": func(g *abi.GateRecord) { g.Fields[0].Value = make([]abi.GatePart, abi.MaxGateParts+1) },
		"too many fields":     func(g *abi.GateRecord) { g.Fields = make([]abi.GateField, abi.MaxGateFields+1) },
		"too long a key":      func(g *abi.GateRecord) { g.Key[0].Text = strings.Repeat("k", abi.MaxGateKey+1) },
		"a network in a key":  func(g *abi.GateRecord) { g.Key[1].Kind = abi.GateFrom },
		"a field in a value":  func(g *abi.GateRecord) { g.Fields[0].Value[1] = abi.GatePart{Kind: abi.GateHeader, Text: "x"} },
		"too long a name": func(g *abi.GateRecord) {
			g.Key[1] = abi.GatePart{Kind: abi.GateCookie, Text: strings.Repeat("k", abi.MaxGateKey)}
		},
		"a text as condition": func(g *abi.GateRecord) { g.Exempt = []abi.GatePart{{Text: "x"}} },
		"a path as condition": func(g *abi.GateRecord) { g.Exempt = []abi.GatePart{{Kind: abi.GatePath}} },
		"missing a client":    func(g *abi.GateRecord) { g.Missing = []abi.GatePart{{Kind: abi.GateClient, Bits: 1}} },
		"missing too much":    func(g *abi.GateRecord) { g.Missing = []abi.GatePart{{Text: strings.Repeat("k", abi.MaxGateKey+1)}} },
		"too long for places": func(g *abi.GateRecord) { g.PlacesKey = strings.Repeat("k", abi.MaxGateKey+1) },
		"too many missing":    func(g *abi.GateRecord) { g.Missing = make([]abi.GatePart, abi.MaxGateParts+1) },
		"too many conditions": func(g *abi.GateRecord) {
			g.Exempt = slices.Repeat([]abi.GatePart{{Kind: abi.GateHas, Text: "x"}}, abi.MaxGateExempt+1)
		},
		"a reason twice":    func(g *abi.GateRecord) { g.Refusals = refusingGate().Refusals; g.Refusals[1].Why = abi.GateLimited },
		"reasons backwards": func(g *abi.GateRecord) { g.Refusals = refusingGate().Refusals; slices.Reverse(g.Refusals) },
		"no reason":         func(g *abi.GateRecord) { g.Refusals = []abi.GateRefusal{{}} },
		"another reason":    func(g *abi.GateRecord) { g.Refusals = []abi.GateRefusal{{Why: abi.GateKeyless + 1}} },
		"too many refusals": func(g *abi.GateRecord) {
			g.Refusals = append(refusingGate().Refusals, abi.GateRefusal{Why: abi.GateKeyless + 1})
		},
		"too long details": func(g *abi.GateRecord) {
			g.Refusals = []abi.GateRefusal{{Why: 1, Details: strings.Repeat("d", abi.MaxGateWord+1)}}
		},
		"too long a verdict": func(g *abi.GateRecord) {
			g.Refusals = []abi.GateRefusal{{Why: 1, Verdict: strings.Repeat("v", abi.MaxGateWord+1)}}
		},
		"too long a body": func(g *abi.GateRecord) {
			g.Refusals = []abi.GateRefusal{{Why: 1, Body: strings.Repeat("b", abi.MaxGateBody+1)}}
		},
		"too many lines": func(g *abi.GateRecord) {
			g.Refusals = []abi.GateRefusal{{Why: 1, Fields: make([]abi.GateField, abi.MaxGateFields+1)}}
		},
		"a time of what is let through": func(g *abi.GateRecord) { g.Fields[0].Value[1].Kind = abi.GateRetry },
		"a time in a key":               func(g *abi.GateRecord) { g.Key[1].Kind = abi.GateRetry },
		"a route in a refusal": func(g *abi.GateRecord) {
			g.Refusals = []abi.GateRefusal{{Why: 1, Fields: []abi.GateField{{Name: "x", Value: []abi.GatePart{{Kind: abi.GateRoute}}}}}}
		},
		"too much": func(g *abi.GateRecord) { g.Fields[1].Name = strings.Repeat("n", abi.MaxGateBytes) },
	} {
		g := sampleGate()
		change(g)
		if _, err := abi.ParseGate(string(abi.AppendGate(nil, g))); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	for _, at := range []int{0, 32, 36, 44} { // algorithm, numbers of parts and fields, length of a text
		bad := slices.Clone(args)
		copy(bad[at:], "\xff\xff\xff\xff")
		if _, err := abi.ParseGate(string(bad)); err == nil {
			t.Errorf("a huge number at %d is taken", at)
		}
	}
	for _, after := range []string{"x", strings.Repeat("\x00", 40), "\x01" + strings.Repeat("\x00", 38) + "\x01", "\x01" + strings.Repeat("\x00", 40)} {
		if _, err := abi.ParseGate(string(args) + after); err == nil {
			t.Errorf("%q after the end is taken", after)
		}
	}
	for was, changed := range map[*abi.GateRecord]byte{sampleGate(): 1, largerGate(): 0, {Slots: 1}: 2, {Slots: 2}: 3, {Places: 1}: 0, {Places: 1, Cost: 1}: 2} {
		args := abi.AppendGate(nil, was)
		args[0] = changed
		if _, err := abi.ParseGate(string(args)); err == nil {
			t.Errorf("%+v is taken with algorithm %d", was, changed)
		}
	}
}

func FuzzGate(f *testing.F) {
	f.Add(string(abi.AppendGate(nil, sampleGate())))
	f.Add(string(abi.AppendGate(nil, &abi.GateRecord{Interval: -1})))
	f.Add(string(abi.AppendGate(nil, largerGate())))
	f.Add(string(abi.AppendGate(nil, refusingGate())))
	f.Add(string(abi.AppendGate(nil, &abi.GateRecord{Reserve: 5})))
	f.Fuzz(func(t *testing.T, args string) {
		if g, err := abi.ParseGate(args); err == nil && string(abi.AppendGate(nil, g)) != args {
			t.Errorf("%q does not come back", args)
		}
	})
}
