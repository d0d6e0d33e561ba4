package main

import "testing"

// TestSipHash compares with the test vectors of the SipHash paper (appendix A) and of its
// reference implementation: key 00..0f, input 00..n-1.
func TestSipHash(t *testing.T) {
	s := seed{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	var data []byte
	for i := range byte(15) {
		data = append(data, i)
	}
	for n, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5,
	} {
		if got := s.sum(data[:n]); got != want {
			t.Errorf("%d bytes: got %016x, want %016x", n, got, want)
		}
	}
}
