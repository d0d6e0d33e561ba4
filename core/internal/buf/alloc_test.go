//go:build !race && !invariants

package buf_test

import (
	"testing"

	"wproxy/core/internal/buf"
)

func TestAllocs(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { buf.Get(5000).Release() }); n != 0 {
		t.Errorf("Get and Release: got %v allocations, want 0", n)
	}
}
