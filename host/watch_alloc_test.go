//go:build !race

package host

import "testing"

func TestWatchAllocs(t *testing.T) {
	w, _ := newWatchOf(10, 1e9)
	w.store("p:a-route-with-some-name\x00upstream", 0, 7)
	w.Admit("a-route-with-some-name", "upstream")
	w.count("p:a-route-with-some-name\x00upstream", 7, windowAdd{})
	if n := testing.AllocsPerRun(100, func() {
		p, ok := w.Admit("a-route-with-some-name", "upstream")
		if !ok || !w.Count(&p, "", 200) {
			t.Fatal("not let through, or not counted")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkWatch(b *testing.B) {
	w, _ := newWatchOf(10, 1e9)
	w.store("p:api\x00backend", 0, 7)
	w.Admit("api", "backend")
	w.count("p:api\x00backend", 7, windowAdd{})
	for b.Loop() {
		p, _ := w.Admit("api", "backend")
		w.Count(&p, "", 200)
	}
}
