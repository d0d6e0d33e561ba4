package objects

import (
	"hash/maphash"
	"testing"
)

// TestGhosts: about maxGhosts of the latest keys are remembered, once each, and no others.
func TestGhosts(t *testing.T) {
	var g ghosts
	seed := maphash.MakeSeed()
	hash := func(i int) uint64 { return maphash.Comparable(seed, i) }
	known := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			if g.take(hash(i)) {
				n++
			}
			if g.take(hash(i)) {
				t.Fatalf("%d is known after it was taken", i)
			}
		}
		return n
	}
	if n := known(0, 1000); n != 0 {
		t.Errorf("%d are known before any came", n)
	}
	for i := range 4 * maxGhosts {
		g.add(hash(i))
		if i%3 == 0 {
			g.add(hash(i))
		}
	}
	const last = 4 * maxGhosts
	if n := known(last-maxGhosts/2, last); n < maxGhosts/2*99/100 {
		t.Errorf("of the %d latest, %d are known", maxGhosts/2, n)
	}
	if n := known(0, last-2*maxGhosts); n > last/100 {
		t.Errorf("of those long gone %d are known", n)
	}
	if n := known(last-2*maxGhosts, last-maxGhosts/2); n > maxGhosts {
		t.Errorf("%d of the others are", n)
	}
}
