package refs_test

import (
	"sync"
	"testing"

	"wproxy/core/internal/refs"
)

func isDrained(c *refs.Count) bool {
	select {
	case <-c.Drained():
		return true
	default:
		return false
	}
}

func TestCount(t *testing.T) {
	var c refs.Count
	if c.Acquire() {
		t.Error("nobody has published it")
	}
	c.Publish()
	if !c.Acquire() || isDrained(&c) {
		t.Fatal("it is not to be had")
	}
	c.Release()
	if isDrained(&c) {
		t.Error("drained while somebody hands it out")
	}
	c.Release()
	if !isDrained(&c) || c.Acquire() {
		t.Error("it is to be had after its end")
	}
}

// Whoever gets a reference gets it before the end, however many try at once.
func TestCountTogether(t *testing.T) {
	for range 100 {
		var c refs.Count
		c.Publish()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for c.Acquire() {
					if isDrained(&c) {
						t.Error("drained while it is used")
					}
					c.Release()
				}
			})
		}
		c.Release()
		wg.Wait()
		if !isDrained(&c) {
			t.Fatal("not drained")
		}
	}
}
