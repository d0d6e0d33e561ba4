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
