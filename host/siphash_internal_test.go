package host

import "testing"

// TestTagKey holds the hash against the values that its authors have published.
func TestTagKey(t *testing.T) {
	k := tagKey{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	in := make([]byte, 63)
	for i := range in {
		in[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := k.sum(in[:n]); got != want {
			t.Errorf("%d bytes: got %#x, want %#x", n, got, want)
		}
	}
	if one, other := newTagKey(), newTagKey(); one == other {
		t.Error("two keys are the same")
	}
	if n := testing.AllocsPerRun(100, func() { _ = k.sum(in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
