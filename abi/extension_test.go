package abi_test

import (
	"slices"
	"testing"

	"wproxy/abi"
)

func TestFieldEdits(t *testing.T) {
	t.Parallel()
	edits := []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "a", Value: "1"},
		{Op: abi.FieldAdd, Name: "b", Value: ""},
		{Op: abi.FieldAddIfMissing, Name: "c", Value: "x y"},
		{Op: abi.FieldRemove, Name: "server"},
	}
	args := abi.AppendFieldEdits(nil, abi.MapResponseHeaders, edits)
	kind, got, err := abi.ParseFieldEdits(nil, string(args))
	if err != nil || kind != abi.MapResponseHeaders || !slices.Equal(got, edits) {
		t.Errorf("got %v %v, %v", kind, got, err)
	}
	whole := map[int]bool{4: true} // lengths at which an edit ends
	for i := range edits {
		whole[len(abi.AppendFieldEdits(nil, 0, edits[:i+1]))] = true
	}
	for n := range len(args) {
		if _, _, err := abi.ParseFieldEdits(nil, string(args[:n])); (err == nil) != whole[n] {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	bad := slices.Clone(args)
	bad[4] = 4 // an op that is not there
	if _, _, err := abi.ParseFieldEdits(nil, string(bad)); err == nil {
		t.Error("an unknown op is taken")
	}
	huge := slices.Clone(args)
	copy(huge[8:], "\xff\xff\xff\xff\xff\xff\xff\xff") // lengths whose sum is too large for 32 bits
	if _, _, err := abi.ParseFieldEdits(nil, string(huge)); err == nil {
		t.Error("lengths beyond the end are taken")
	}
	if _, _, err := abi.ParseFieldEdits(nil, string(abi.AppendFieldEdits(nil, 0, make([]abi.FieldEdit, abi.MaxFieldEdits+1)))); err == nil {
		t.Error("too many edits are taken")
	}
}

func FuzzFieldEdits(f *testing.F) {
	f.Add(string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, []abi.FieldEdit{{Name: "a", Value: "b"}, {Op: abi.FieldRemove, Name: "c"}})))
	f.Fuzz(func(t *testing.T, args string) {
		kind, edits, err := abi.ParseFieldEdits(nil, args)
		if err == nil && string(abi.AppendFieldEdits(nil, kind, edits)) != args {
			t.Errorf("%q does not come back", args)
		}
	})
}

func TestTakeRecord(t *testing.T) {
	t.Parallel()
	r := abi.NewTakeRecord(1e7, 50, 2)
	if len(r) != abi.TakeRecordSize || r.Algorithm() != 0 || r.Interval() != 1e7 || r.Burst() != 50 || r.Cost() != 2 {
		t.Errorf("got %v", r)
	}
	for _, want := range []abi.TakeResult{
		{}, {Admitted: true, Remaining: 3, Full: 1 << 40}, {Crowded: true, Retry: 7}, {Admitted: true, Crowded: true},
	} {
		r.SetResult(want)
		if got := r.Result(); got != want || r.Cost() != 2 {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
