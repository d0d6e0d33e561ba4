package balance

import (
	"testing"
	"time"

	"wproxy/core/upstream"
)

// TestNobodyWaitsForAView: while somebody derives a new view, for however long, others
// pick from the old one at once.
func TestNobodyWaitsForAView(t *testing.T) {
	t.Parallel()
	all := []*upstream.Endpoint{upstream.NewLocal("a", 1, nil), upstream.NewLocal("b", 1, nil)}
	c, err := upstream.NewCluster("u", all, "")
	if err != nil {
		t.Fatal(err)
	}
	m := newMembers(c, 0)
	p := newTurns(m, false)
	old := m.current()
	m.deriving.Store(true) // and is not through yet
	all[0].Set(upstream.Unhealthy, time.Unix(1, 0))
	seen := map[*upstream.Endpoint]bool{}
	for range 10 {
		seen[p.Pick(0, nil)] = true
	}
	if m.current() != old || len(seen) != 2 {
		t.Errorf("picked %d of 2, from another view: %t", len(seen), m.current() != old)
	}
	m.deriving.Store(false)
	for range 10 {
		if e := p.Pick(0, nil); e != all[1] {
			t.Fatalf("picked %s", e.Name)
		}
	}
	if v := m.current(); v == old || v != m.current() {
		t.Error("no new view was derived, or one again and again")
	}
}
