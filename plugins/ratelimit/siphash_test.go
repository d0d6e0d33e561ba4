package main

import "testing"

// TestSipHash compares with SipHash-1-3 of key 00..0f and input 00..n-1 as others compute
// it (made with an independent implementation that also gives the vector of appendix A of
// the paper for 2-4; the first is in Rust's tests too).
func TestSipHash(t *testing.T) {
	s := seed{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var data []byte
	for i := range byte(63) {
		data = append(data, i)
	}
	for n, want := range map[int]uint64{
		0: 0xabac0158050fc4dc, 1: 0xc9f49bf37d57ca93, 7: 0xd3927d989bb11140, 8: 0x369095118d299a8e,
		15: 0xd320d86d2a519956, 63: 0x9d199062b7bbb3a8,
	} {
		if got := s.sum(data[:n]); got != want {
			t.Errorf("%d bytes: got %016x, want %016x", n, got, want)
		}
	}
}
