//go:build !race

package access_test

import (
	"testing"

	"wproxy/core/access"
	"wproxy/core/exchange"
)

func TestLogDoesNotAllocate(t *testing.T) {
	for _, f := range []access.Format{access.JSON, access.Combined} {
		l, err := access.Open(access.Options{Writer: &brokenWriter{}, Format: f})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r := record()
		r.Fields = []exchange.Field{{Name: "cache", Value: "hit"}}
		r.Plugins = []access.Plugin{{Name: "limit", Verdict: "allow"}}
		l.Log(r)
		if n := testing.AllocsPerRun(1000, func() { l.Log(r) }); n != 0 {
			t.Errorf("format %d: got %v allocations a line, want 0", f, n)
		}
	}
}

// TestRecorderDoesNotAllocate: what is not notable costs nothing, and what is has its
// memory already when its like has been kept before.
func TestRecorderDoesNotAllocate(t *testing.T) {
	r := access.NewRecorder()
	plain, refused := record(), record()
	plain.Status, plain.Reason, plain.Retried, plain.FirstByte = 200, "", nil, 1
	refused.Status, refused.Reason, refused.Path = 404, "no_route", "/a?b=c"
	if r.Wants(plain) != access.Ordinary {
		t.Fatalf("the plain record is %v", r.Wants(plain))
	}
	if n := testing.AllocsPerRun(1000, func() { r.Keep(r.Wants(plain), plain) }); n != 0 {
		t.Errorf("ordinary: got %v allocations, want 0", n)
	}
	for range 100 {
		r.Keep(r.Wants(refused), refused)
	}
	if n := testing.AllocsPerRun(1000, func() { r.Keep(r.Wants(refused), refused) }); n != 0 {
		t.Errorf("refused: got %v allocations, want 0", n)
	}
}
