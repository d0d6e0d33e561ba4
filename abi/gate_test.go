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

func TestGate(t *testing.T) {
	t.Parallel()
	want := sampleGate()
	args := abi.AppendGate(nil, want)
	if got, err := abi.ParseGate(string(args)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range len(args) {
		if _, err := abi.ParseGate(string(args[:n])); err == nil {
			t.Errorf("cut to %d bytes: it is taken", n)
		}
	}
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
		"too much":            func(g *abi.GateRecord) { g.Fields[1].Name = strings.Repeat("n", abi.MaxGateBytes) },
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
	if _, err := abi.ParseGate(string(args) + "x"); err == nil {
		t.Error("bytes after the end are taken")
	}
}

func FuzzGate(f *testing.F) {
	f.Add(string(abi.AppendGate(nil, sampleGate())))
	f.Add(string(abi.AppendGate(nil, &abi.GateRecord{Interval: -1})))
	f.Fuzz(func(t *testing.T, args string) {
		if g, err := abi.ParseGate(args); err == nil && string(abi.AppendGate(nil, g)) != args {
			t.Errorf("%q does not come back", args)
		}
	})
}
