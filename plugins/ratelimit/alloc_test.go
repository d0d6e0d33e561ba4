//go:build !race

package main

import (
	"testing"

	"wproxy/plugins/internal/ipaddr"
)

// onePage is a store that allocates nothing.
type onePage struct {
	data [pageBuckets * bucketSize]byte
	n    int
}

func (s *onePage) Get([]byte) ([]byte, uint32, bool) { return s.data[:s.n], 1, s.n > 0 }

func (s *onePage) Set(_, value []byte, _ uint32) bool {
	s.n = copy(s.data[:], value)
	return true
}

// fixedRequest is a request without a map.
type fixedRequest struct{ client ipaddr.Addr }

func (r *fixedRequest) Header(string) (string, bool) { return "value", true }
func (r *fixedRequest) Client() (ipaddr.Addr, bool)  { return r.client, true }

func TestCheckAllocs(t *testing.T) {
	c, err := parseConfig([]byte(`{"rate":"1000000/s","burst":1000000,"key":["client-ip/64","header:x"],"scope":"plugin","exempt":{"clients":"10.0.0.0/8","headers":{"x":"y"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	made := newChecker(c, newLimiter(c.limit, &onePage{}, newFakeClock().now), &seed{1, 2})
	k := &made
	r := &fixedRequest{ipaddr.From16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})}
	k.check(r, "") // makes the scratch buffer and the bucket
	if n := testing.AllocsPerRun(100, func() {
		if v := k.check(r, ""); v.outcome != allowed {
			t.Fatalf("got %s", v.outcome)
		}
	}); n != 0 {
		t.Errorf("check: %v allocations, want 0", n)
	}
	var buf [64]byte
	if n := testing.AllocsPerRun(100, func() {
		appendLimitField(buf[:0], &decision{remaining: 123456, full: 5e9})
	}); n != 0 {
		t.Errorf("appendLimitField: %v allocations, want 0", n)
	}
}

func TestCheckAllocsOfCounters(t *testing.T) {
	for _, doc := range []string{
		`{"rate":"10/s","algorithm":"leaky-bucket","concurrency":5,"key":["client-ip/64","header:x"]}`,
		`{"rate":"10/s","algorithm":"sliding-window","concurrency":5,"key":["client-ip/64","header:x"]}`,
		`{"rate":"10/s","cost":"header:x"}`,
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		k := newChecker(c, nil, nil)
		k.counters = &quietCounters{}
		r := &fixedRequest{ipaddr.From16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})}
		k.check(r, "route")
		if n := testing.AllocsPerRun(100, func() {
			if v := k.check(r, "route"); v.refuse {
				t.Fatalf("%s: %s", doc, v.outcome)
			}
			if c.costField != "" {
				k.charge(k.last, 3)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", doc, n)
		}
	}
}
