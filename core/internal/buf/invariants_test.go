//go:build invariants

package buf_test

import (
	"testing"

	"wproxy/core/internal/buf"
)

func TestInvariants(t *testing.T) {
	before := buf.Live()
	b := buf.Get(1)
	p := b.Bytes()
	p[0], p[len(p)-1] = 1, 1
	if got := buf.Live(); got != before+1 {
		t.Errorf("Live while lent: got %d, want %d", got, before+1)
	}
	b.Release()
	if got := buf.Live(); got != before {
		t.Errorf("Live after Release: got %d, want %d", got, before)
	}
	if p[0] != 0xDB || p[len(p)-1] != 0xDB {
		t.Errorf("released bytes are not poisoned: %x %x", p[0], p[len(p)-1])
	}
	defer func() {
		if recover() == nil {
			t.Errorf("second Release did not panic")
		}
	}()
	b.Release()
}
