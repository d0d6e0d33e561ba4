//go:build !race

package plugins_test

import "testing"

// What a hit costs the host's collector: nothing for an object that is asked for again within a
// second, and its Age otherwise.
func TestHitAllocs(t *testing.T) {
	k := newKeeper(t, ``)
	var err error
	got := testing.AllocsPerRun(1000, func() {
		if e := k.ask(); e != nil {
			err = e
		}
	})
	if err != nil || !k.answered || got > 0 {
		t.Errorf("%v allocations in a hit, want none (%v, answered %t)", got, err, k.answered)
	}
}
