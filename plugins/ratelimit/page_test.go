package main

import "testing"

func TestFind(t *testing.T) {
	full := func(tat func(i int) int64) page {
		p := make(page, pageBuckets*bucketSize)
		for i := range pageBuckets {
			p.set(i, uint64(100+i), tat(i))
		}
		return p
	}
	one := make(page, bucketSize)
	one.set(0, 7, 500)
	const now = 1000
	for _, tc := range []struct {
		name string
		p    page
		tag  uint64
		want place
	}{
		{"empty page", nil, 1, place{index: 0, tat: now}},
		{"own bucket, full again", one, 7, place{index: 0, tat: now}},
		{"another bucket, full again, is taken", one, 8, place{index: 0, tat: now}},
		{"own bucket", full(func(i int) int64 { return now + int64(i) + 1 }), 105, place{index: 5, tat: now + 6}},
		{"appended", full(func(int) int64 { return now + 1 })[:3*bucketSize], 1, place{index: 3, tat: now}},
		{"crowded: the nearest to full, and its debt", full(func(i int) int64 { return now + 20 - int64(i) }), 1, place{index: 15, tat: now + 5, crowded: true}},
		{"full page with one full bucket", full(func(i int) int64 { return now + int64(i) - 3 }), 1, place{index: 0, tat: now}},
		{"own bucket behind a full one", full(func(i int) int64 { return now + int64(i) - 3 }), 115, place{index: 15, tat: now + 12}},
	} {
		if got := tc.p.find(tc.tag, now); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestPageValid(t *testing.T) {
	for n, want := range map[int]bool{
		0: true, 1: false, bucketSize: true, pageBuckets * bucketSize: true, (pageBuckets + 1) * bucketSize: false,
	} {
		if got := make(page, n).valid(); got != want {
			t.Errorf("%d bytes: got %t, want %t", n, got, want)
		}
	}
}
