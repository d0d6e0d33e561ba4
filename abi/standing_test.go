package abi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

// FuzzStandingEdits: what is taken is what was said.
func FuzzStandingEdits(f *testing.F) {
	f.Add(string(abi.AppendStandingEdits(nil, abi.EditsWithout, []abi.FieldEdit{{Op: abi.FieldAdd, Name: "a", Value: "b"}})))
	f.Add(strings.Repeat("\x00", 20))
	f.Fuzz(func(t *testing.T, args string) {
		when, edits, err := abi.ParseStandingEdits(args)
		if err != nil {
			return
		}
		if got := string(abi.AppendStandingEdits(nil, when, edits)); got != args {
			t.Errorf("%q became %q", args, got)
		}
	})
}

func sampleStandingList() []abi.StandingEdits {
	return []abi.StandingEdits{
		{Request: true, Mark: "{n}", Edits: []abi.FieldEdit{{Name: "x-nonce", Value: "{n}"}}},
		{When: abi.EditsTLS, Types: []string{"text/html", "image/*"}, Except: []string{"image/svg+xml"}, Edits: []abi.FieldEdit{
			{Op: abi.FieldRemove, Name: "server"}, {Op: abi.FieldAddIfMissing, Name: "a", Value: "b"},
		}},
		{Edits: []abi.FieldEdit{{Name: "c"}}},
	}
}

func TestStandingList(t *testing.T) {
	t.Parallel()
	want := sampleStandingList()
	args := string(abi.AppendStandingList(nil, want))
	if got, err := abi.ParseStandingList(args); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	ends := map[int]bool{0: true}
	for i := range want {
		ends[len(abi.AppendStandingList(nil, want[:i+1]))] = true
	}
	for n := range len(args) {
		if _, err := abi.ParseStandingList(args[:n]); (err == nil) != ends[n] {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := abi.ParseStandingList(args + "\x00"); err == nil {
		t.Error("a byte too many is taken")
	}

	one := abi.FieldEdit{Name: "a", Value: "b"}
	many := func(n int) []abi.FieldEdit { return slices.Repeat([]abi.FieldEdit{one}, n) }
	edits := many(1)
	for _, tt := range []struct {
		name string
		list []abi.StandingEdits
		good bool
	}{
		{"no list", nil, true},
		{"as many as may be in one", []abi.StandingEdits{{Edits: many(abi.MaxFieldEdits)}, {Edits: edits}}, true},
		{"one more", []abi.StandingEdits{{Edits: many(abi.MaxFieldEdits + 1)}}, false},
		{"no edit", []abi.StandingEdits{{Edits: edits}, {}}, false},
		{"an unknown condition", []abi.StandingEdits{{When: abi.EditsWithout + 1, Edits: edits}}, false},
		{"a type of a request", []abi.StandingEdits{{Request: true, Types: []string{"a/b"}, Edits: edits}}, false},
		{"an exception of a request", []abi.StandingEdits{{Request: true, Except: []string{"a/b"}, Edits: edits}}, false},
		{"an empty type beside another", []abi.StandingEdits{{Types: []string{"", "a/b"}, Edits: edits}}, false},
		{"an empty exception beside another", []abi.StandingEdits{{Except: []string{"a/b", ""}, Edits: edits}}, false},
		{"the longest mark", []abi.StandingEdits{{Mark: strings.Repeat("m", abi.MaxStandingMark), Edits: edits}}, true},
		{"a longer one", []abi.StandingEdits{{Mark: strings.Repeat("m", abi.MaxStandingMark+1), Edits: edits}}, false},
		{"an unknown edit", []abi.StandingEdits{{Edits: []abi.FieldEdit{{Op: abi.FieldRemove + 1}}}}, false},
	} {
		if _, err := abi.ParseStandingList(string(abi.AppendStandingList(nil, tt.list))); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, kind := range []byte{1, 3, 4} { // trailers, and no map
		if _, err := abi.ParseStandingList(string([]byte{kind}) + args[1:]); err == nil {
			t.Errorf("a map of type %d is taken", kind)
		}
	}
	huge := []byte(args)
	for i := 8; i < 24; i++ {
		huge[i] = 0xff // lengths whose sum would be small in 32 bits
	}
	if _, err := abi.ParseStandingList(string(huge)); err == nil {
		t.Error("huge lengths are taken")
	}
}

// TestStandingListBytes has the layout that docs/host-extensions.md gives.
func TestStandingListBytes(t *testing.T) {
	t.Parallel()
	want := "\x02\x00\x00\x00" + "\x01\x00\x00\x00" + "\x02\x00\x00\x00" + "\x07\x00\x00\x00" + "\x03\x00\x00\x00" + "\x0f\x00\x00\x00" +
		"$$" + "a/*\x00b/c" + "a/d" + "\x02\x00\x00\x00" + "\x01\x00\x00\x00" + "\x02\x00\x00\x00" + "n$$"
	got := string(abi.AppendStandingList(nil, []abi.StandingEdits{{
		When: abi.EditsTLS, Mark: "$$", Types: []string{"a/*", "b/c"}, Except: []string{"a/d"},
		Edits: []abi.FieldEdit{{Op: abi.FieldAddIfMissing, Name: "n", Value: "$$"}},
	}}))
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzStandingList: what is taken is what was said.
func FuzzStandingList(f *testing.F) {
	f.Add(string(abi.AppendStandingList(nil, sampleStandingList())))
	f.Add(string(abi.AppendStandingList(nil, sampleStandingList()[1:2])))
	f.Add(strings.Repeat("\x00", 24))
	f.Fuzz(func(t *testing.T, args string) {
		list, err := abi.ParseStandingList(args)
		if err != nil {
			return
		}
		if got := string(abi.AppendStandingList(nil, list)); got != args {
			t.Errorf("%q became %q", args, got)
		}
	})
}
