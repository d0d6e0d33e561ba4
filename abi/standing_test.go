package abi_test

import (
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
