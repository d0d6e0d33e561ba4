package abi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

func sampleWatch() *abi.WatchRecord {
	w := &abi.WatchRecord{
		Metric: 3, Slots: 10, Width: 1e9,
		Key: []abi.GatePart{{Text: "p:"}, {Kind: abi.WatchRoute}, {Text: "\x00"}, {Kind: abi.WatchUpstream}},
	}
	for _, s := range []int{99, 100, 503, 599, 600, -1} {
		w.Statuses.Add(s)
	}
	return w
}

func TestWatch(t *testing.T) {
	t.Parallel()
	want := sampleWatch()
	for s, in := range map[int]bool{-1: false, 0: false, 99: false, 100: true, 101: false, 502: false, 503: true, 599: true, 600: false, 1 << 20: false} {
		if got := want.Statuses.Has(s); got != in {
			t.Errorf("status %d is in the set: %t", s, got)
		}
	}
	args := abi.AppendWatch(nil, want)
	if got, err := abi.ParseWatch(string(args)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range len(args) {
		if _, err := abi.ParseWatch(string(args[:n])); err == nil {
			t.Errorf("cut to %d bytes: it is taken", n)
		}
	}
	for name, change := range map[string]func(*abi.WatchRecord){
		"a gate's route":     func(w *abi.WatchRecord) { w.Key[1].Kind = abi.GateRoute },
		"a client":           func(w *abi.WatchRecord) { w.Key[1] = abi.GatePart{Kind: abi.GateClient, Bits: 1} },
		"an unknown kind":    func(w *abi.WatchRecord) { w.Key[1].Kind = abi.WatchUpstream + 1 },
		"bits of a route":    func(w *abi.WatchRecord) { w.Key[1].Bits = 1 },
		"too many parts":     func(w *abi.WatchRecord) { w.Key = make([]abi.GatePart, abi.MaxGateParts+1) },
		"too long a key":     func(w *abi.WatchRecord) { w.Key[0].Text = strings.Repeat("k", abi.MaxGateKey+1) },
		"too much":           func(w *abi.WatchRecord) { w.Key[0].Text = strings.Repeat("k", abi.MaxGateBytes) },
		"status 600":         func(w *abi.WatchRecord) { w.Statuses[62] |= 1 << 4 },
		"a status way above": func(w *abi.WatchRecord) { w.Statuses[63] = 1 },
	} {
		w := sampleWatch()
		change(w)
		if _, err := abi.ParseWatch(string(abi.AppendWatch(nil, w))); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	for _, at := range []int{0, 12, 92} { // what it is, number of parts, length of a text
		bad := slices.Clone(args)
		copy(bad[at:], "\xff\xff\xff\xff")
		if _, err := abi.ParseWatch(string(bad)); err == nil {
			t.Errorf("a huge number at %d is taken", at)
		}
	}
	if _, err := abi.ParseWatch(string(args) + "x"); err == nil {
		t.Error("bytes after the end are taken")
	}
}

func FuzzWatch(f *testing.F) {
	f.Add(string(abi.AppendWatch(nil, sampleWatch())))
	f.Add(string(abi.AppendWatch(nil, &abi.WatchRecord{Width: -1})))
	f.Fuzz(func(t *testing.T, args string) {
		if w, err := abi.ParseWatch(args); err == nil && string(abi.AppendWatch(nil, w)) != args {
			t.Errorf("%q does not come back", args)
		}
	})
}
