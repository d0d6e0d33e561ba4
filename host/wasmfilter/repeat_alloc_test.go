//go:build !race

package wasmfilter_test

import (
	"runtime"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/objects"
	"wproxy/host/wasmfilter"
)

// TestRepeatAllocs: an answer that is repeated costs no allocation.
func TestRepeatAllocs(t *testing.T) {
	r := newRepeater(t)
	r.putVariants()
	r.put(repeaterKey+"\nvary1", "1")
	r.put("http://example.com/b\nr", "2")
	for name, tc := range map[string]struct {
		method, target string
		fields         []exchange.Field
	}{
		"a variant":        {"GET", "/a", field("x", "1")},
		"a variant's 304":  {"GET", "/a", field("x", "1", "if-none-match", "1")},
		"a variant's part": {"GET", "/a", field("x", "1", "range", "bytes=1-2")},
		"a 304":            {"GET", "/b", field("if-none-match", "2")},
		"a HEAD":           {"HEAD", "/b", field("if-none-match", "3")},
	} {
		var c repeatClient
		ask := func() { r.ask(&c, tc.method, tc.target, tc.fields...) }
		ask()
		ask()
		before := r.entered.Load()
		if n := testing.AllocsPerRun(1000, ask); n != 0 || r.entered.Load() != before || c.by != "guest" {
			t.Errorf("%s: %v allocations, want 0; the guest entered %d times", name, n, r.entered.Load()-before)
		}
	}
}

// TestRepeatMemory: what repeats take of the heap is what they say, or less.
func TestRepeatMemory(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var request, large exchange.Request
	for range wasmfilter.MaxRepeatLines {
		large.Fields.Add("x", strings.Repeat("v", 17))
	}
	request.Fields.Add("x", "1")
	for name, tc := range map[string]struct {
		n       int
		v       abi.ObjectServe
		request *exchange.Request
		names   []string
	}{
		"one":     {n: 1, request: &request},
		"a full":  {n: wasmfilter.MaxRepeats, request: &request},
		"names":   {n: 1, request: &request, names: []string{"a", "bb", "cache-control", strings.Repeat("n", 33)}},
		"lines":   {n: wasmfilter.MaxRepeats, request: &large, names: []string{"x"}},
		"edits":   {n: 3, request: &request, v: abi.ObjectServe{Edits: []abi.FieldEdit{{Name: "x", Value: strings.Repeat("v", 33)}, {Name: "yy", Value: "zz"}, {Name: strings.Repeat("n", 33)}}}},
		"a key":   {n: 2, request: &request, v: abi.ObjectServe{Key: strings.Repeat("k", 500)}},
		"a word":  {n: 2, request: &request, v: abi.ObjectServe{Key: "k", Edits: make([]abi.FieldEdit, 1)}},
		"a table": {n: wasmfilter.MaxRepeats, request: &large, names: []string{"x"}, v: abi.ObjectServe{Key: "k", Edits: make([]abi.FieldEdit, wasmfilter.MaxRepeatEdits)}},
	} {
		kept := make([]objects.Note, 500)
		before, said := heap(), int64(0)
		for i := range kept {
			kept[i] = wasmfilter.MakeRepeats(tc.n, &tc.v, tc.request, tc.names...)
			said += kept[i].Size()
		}
		if took := heap() - before; said < took || said > 3*took {
			t.Errorf("%s: repeats say %d bytes, of the heap they take %d", name, said, took)
		}
		runtime.KeepAlive(kept)
	}
}
