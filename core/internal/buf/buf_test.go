package buf_test

import (
	"testing"

	"wproxy/core/internal/buf"
)

func TestSizes(t *testing.T) {
	for _, tt := range []struct{ ask, want int }{
		{0, 4096},
		{1, 4096},
		{4096, 4096},
		{4097, 8192},
		{8192, 8192},
		{65536, 65536},
		{65537, 131072},
		{131072, 131072},
		{131073, 131073},
		{1 << 20, 1 << 20},
	} {
		b := buf.Get(tt.ask)
		if got := len(b.Bytes()); got != tt.want {
			t.Errorf("Get(%d): got %d bytes, want %d", tt.ask, got, tt.want)
		}
		b.Release()
	}
}

func TestNeverShared(t *testing.T) {
	var lent []*buf.Buf
	for i := range 100 {
		b := buf.Get(1)
		b.Bytes()[0] = byte(i)
		lent = append(lent, b)
		if i%3 == 2 { // give one back in between, so that pooled ones come up
			lent[0].Release()
			lent = lent[1:]
		}
	}
	seen := map[byte]bool{}
	for _, b := range lent {
		v := b.Bytes()[0]
		if seen[v] {
			t.Fatalf("two owners of one buffer")
		}
		seen[v] = true
		b.Release()
	}
}
