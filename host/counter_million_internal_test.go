//go:build !race

package host

import (
	"math/rand/v2"
	"testing"

	"wproxy/abi"
)

const (
	millionKeys = 1_000_000
	hotKeys     = 8
)

// TestCounterMillion: a million keys that come once leave the table within its bound, and those
// that come all the time get what they are to get: not more, and nearly not less.
func TestCounterMillion(t *testing.T) {
	t.Parallel()
	const rate, burst, seconds = 100, 50, 10
	s, now := newCounterSpace(), int64(1e9)
	clock := func() int64 { return now }
	l := counterLimit{interval: 1e9 / rate, burst: burst}
	var admitted [hotKeys]int64
	const step = seconds * 1e9 / millionKeys
	for i := range int64(millionKeys) {
		now += step
		if d, ok := s.takeFrom(l, tagOf(hotKeys+i), 1, clock); !ok || !d.admitted {
			t.Fatalf("key %d, which comes once: %+v, %t", i, d, ok)
		}
		if i%500 == 0 { // 200 times a second
			for k := range admitted {
				if d, _ := s.takeFrom(l, tagOf(int64(k)), 1, clock); d.admitted {
					admitted[k]++
				}
			}
		}
	}
	const most = rate*seconds + burst
	for k, n := range admitted {
		if n > most || n < most*99/100 {
			t.Errorf("hot key %d: %d admitted, want %d to %d", k, n, most*99/100, most)
		}
	}
	if s.bytes > maxCounterBytes || s.bytes > counterBytes(counterPages) {
		t.Errorf("the table takes %d bytes, more than %d", s.bytes, counterBytes(counterPages))
	}
}

// TestCounterMillionCrowded: where a million keys are short of tokens at the same time they
// displace each other, and no key gets more for it.
func TestCounterMillionCrowded(t *testing.T) {
	t.Parallel()
	s, now := newCounterSpace(), int64(1e9)
	clock := func() int64 { return now }
	l := counterLimit{interval: 3600e9, burst: 2}
	var admitted [hotKeys]int64
	crowded := 0
	for i := range int64(millionKeys) {
		if d, ok := s.takeFrom(l, tagOf(hotKeys+i), 1, clock); !ok {
			t.Fatal("no room")
		} else if d.crowded {
			crowded++
		}
		if i%1000 == 0 {
			for k := range admitted {
				if d, _ := s.takeFrom(l, tagOf(int64(k)), 1, clock); d.admitted {
					admitted[k]++
				}
			}
		}
	}
	for k, n := range admitted {
		if n > l.burst {
			t.Errorf("hot key %d: %d admitted at one time, of a bucket of %d", k, n, l.burst)
		}
	}
	if crowded == 0 || s.bytes > maxCounterBytes {
		t.Errorf("%d keys were displaced, the table takes %d bytes", crowded, s.bytes)
	}
}

// TestWindowMillion is the same for windows.
func TestWindowMillion(t *testing.T) {
	t.Parallel()
	const slots, limit = 17, 100
	s, now := newWindowSpace(), int64(0)
	clock := func() int64 { return now }
	shape := windowShape{slots: slots, width: 1e9 / (slots - 1)} // limit a second
	var at [hotKeys][]int64
	for i := range int64(millionKeys) {
		now += 5_000 // 5 seconds for all
		a := windowAdd{tag: tagOf(hotKeys + i), counts: [abi.WindowColumns]uint32{1}, limit: limit}
		if _, _, ok := s.add(shape, &a, clock); !ok {
			t.Fatal("no room")
		}
		if i%500 != 0 { // 400 times a second
			continue
		}
		for k := range at {
			a := windowAdd{tag: tagOf(int64(k)), counts: [abi.WindowColumns]uint32{1}, limit: limit}
			if r, _, _ := s.add(shape, &a, clock); r.Added {
				at[k] = append(at[k], now)
			}
		}
	}
	for k, list := range at {
		for i := range list {
			if j := i + limit; j < len(list) && list[j]-list[i] < 1e9 {
				t.Fatalf("hot key %d: more than %d within a second", k, limit)
			}
		}
		if len(list) < 4*limit {
			t.Errorf("hot key %d: %d let through in 5 s, of %d a second", k, len(list), limit)
		}
	}
	if n := s.bytes.Load(); n > maxWindowBytes {
		t.Errorf("windows take %d bytes, more than %d", n, maxWindowBytes)
	}
}

// tagOf spreads keys as a hash does.
func tagOf(key int64) uint64 { return rand.New(rand.NewPCG(uint64(key), 7)).Uint64() }
