//go:build !race

package main

import (
	"encoding/binary"
	"testing"
)

// TestMillionKeys: memory stays below the bound in page.go's comment, whatever comes.
func TestMillionKeys(t *testing.T) {
	s, clock := newFakeStore(), newFakeClock()
	l := newLimiter(limit{interval: 3600e9, burst: 1, cost: 1}, s, clock.now)
	sd := seed{1, 2}
	var key [8]byte
	const n = 1_000_000
	for i := range n {
		binary.LittleEndian.PutUint64(key[:], uint64(i))
		l.take(sd.sum(key[:]))
	}
	const perEntry = 128 // what a host adds
	if got := s.size() + perEntry*len(s.values); got > 2<<20 {
		t.Errorf("%d keys take %d bytes, more than 2 MiB", n, got)
	}
	if len(s.values) > pageCount {
		t.Errorf("%d pages, more than %d", len(s.values), pageCount)
	}
}
