package host

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

// TestReplyCache: what a guest says again is not taken apart again, and what it says anew is not what
// it said before, whatever becomes of its memory.
func TestReplyCache(t *testing.T) {
	t.Parallel()
	v := &vm{}
	memory := func(pairs ...abi.Pair) []byte { return abi.AppendPairs(nil, pairs) }
	a, b := abi.Pair{Name: "Retry-After", Value: "1"}, abi.Pair{Name: "x", Value: "2"}
	seen := memory(a, b)
	first, err := v.replyPairs(seen)
	if want := []abi.Pair{{Name: "retry-after", Value: "1"}, b}; err != nil || !slices.Equal(first, want) {
		t.Fatalf("got %v, %v", first, err)
	}
	again, _ := v.replyPairs(memory(a, b))
	if &again[0] != &first[0] {
		t.Error("the same is taken apart again")
	}
	clear(seen)
	for _, tt := range []struct {
		fields []byte
		want   []abi.Pair
	}{
		{memory(b), []abi.Pair{b}},
		{memory(a), []abi.Pair{{Name: "retry-after", Value: "1"}}},
		{nil, nil},
		{memory(b), []abi.Pair{b}},
		{memory(abi.Pair{Name: "y", Value: strings.Repeat("z", replyCacheBytes)}), []abi.Pair{{Name: "y", Value: strings.Repeat("z", replyCacheBytes)}}},
		{memory(b), []abi.Pair{b}},
	} {
		if got, err := v.replyPairs(tt.fields); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%.40q: got %v, %v", tt.fields, got, err)
		}
	}
	if _, err := v.replyPairs([]byte("bad")); err == nil || v.replies.fields == "bad" {
		t.Error("what is no list is one, or is kept")
	}
	if first[0].Value != "1" || len(v.replies.fields) > replyCacheBytes {
		t.Errorf("%v, %d bytes are kept", first, len(v.replies.fields))
	}
	for _, details := range []string{"limited", "two words", "limited", "", strings.Repeat("x", maxNameBytes+1)} {
		want := strings.ReplaceAll(details[:min(len(details), maxNameBytes)], " ", "_")
		for range 2 {
			if got := v.replies.clean([]byte(details)); got != want {
				t.Errorf("got %.40q, want %.40q", got, want)
			}
		}
	}
}
