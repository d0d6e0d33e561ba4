package h2

import (
	"slices"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	r := rate{burst: 10, perSecond: 4}
	for _, tt := range []struct {
		name  string
		every time.Duration
		begin moment
		want  int // calls until it is too much; 0: never, in 10,000
	}{
		{"at once", 0, 1, 10},
		{"at once, late", 0, 365 * 24 * time.Hour, 10},
		{"at the rate", 250 * time.Millisecond, 1, 0},
		{"a little slower", 251 * time.Millisecond, 1, 0},
		{"twice the rate", 125 * time.Millisecond, 1, 19},
		{"in steps smaller than a unit", 200 * time.Millisecond, 1, 46},
		{"after long rests", 365 * 24 * time.Hour, 1, 0},
	} {
		var b bucket
		now, n := tt.begin, 0
		for n < 10_000 && now >= 0 && b.add(now, r) {
			n++
			now += tt.every
			if now > 200*365*24*time.Hour {
				break
			}
		}
		if tt.want == 0 && n < 100 || tt.want != 0 && n != tt.want {
			t.Errorf("%s: %d calls, want %d", tt.name, n, tt.want)
		}
	}
	// What has leaked while nobody called does not count for later.
	var b bucket
	for range 10 {
		b.add(1, r)
	}
	if b.add(1, r) {
		t.Error("an eleventh at once")
	}
	n := 0
	for b.add(time.Hour, r) {
		n++
	}
	if n != 10 {
		t.Errorf("%d at once after an hour, want 10", n)
	}
	b.refund(5)
	if b.level != 6 {
		t.Errorf("level %d after a refund of 5, want 6", b.level)
	}
}

// TestRates checks that a minute is enough to forget everything; see bucket.add.
func TestRates(t *testing.T) {
	for _, r := range []rate{rateReset, rateControl, ratePriority, rateWindow, rateUnknown, rateEmpty, rateTiny, rateLate} {
		if 60*r.perSecond < r.burst {
			t.Errorf("%+v", r)
		}
	}
}

func TestWindow(t *testing.T) {
	w := window(10)
	if w.take(11) || !w.take(10) || w != 0 {
		t.Errorf("after taking 10: %d", w)
	}
	if !w.add(-5) || w != -5 || w.take(1) {
		t.Errorf("a window of SETTINGS: %d", w)
	}
	if !w.add(maxWindow+5) || w != maxWindow || w.add(1) {
		t.Errorf("the largest: %d", w)
	}
	a := allowance{left: 100, size: 100}
	if a.left.take(60); a.give(49) != 0 || a.give(11) != 60 || a.left != 100 {
		t.Errorf("granted again: %+v", a)
	}
	a.grow(100)
	if a.left != 200 || a.size != 200 || a.give(99) != 0 || a.give(1) != 100 {
		t.Errorf("grown: %+v", a)
	}
}

func TestQueue(t *testing.T) {
	ids := func(q *queue) (list []uint32) {
		for s := q.head; s != nil; s = s.next {
			list = append(list, s.id)
		}
		return list
	}
	for gone := uint32(1); gone <= 3; gone++ {
		var q queue
		all := []*stream{{id: 1}, {id: 2}, {id: 3}}
		for _, s := range all {
			q.push(s)
			q.push(s) // it waits once
		}
		q.remove(all[gone-1])
		q.remove(all[gone-1])
		q.push(all[gone-1])
		want := slices.DeleteFunc([]uint32{1, 2, 3}, func(id uint32) bool { return id == gone })
		if got := ids(&q); !slices.Equal(got, append(want, gone)) {
			t.Errorf("without %d, and with it again: %v", gone, got)
		}
		for range 3 {
			q.pop()
		}
		if q.pop() != nil || q.tail != nil {
			t.Error("not empty")
		}
	}
}

func TestReceived(t *testing.T) {
	var q received
	want := ""
	add := func(n int) {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte('a' + (len(want)+i)%26)
		}
		q.add(p)
		want += string(p)
	}
	got := ""
	take := func(most int) {
		p := q.lend()
		p = p[:min(len(p), most)]
		got += string(p)
		q.giveBack(len(p))
	}
	for _, n := range []int{1, 5000, 4095, 1, 20_000, 3} {
		add(n)
		take(1000)
	}
	for q.size > 0 {
		take(1 << 20)
	}
	if got != want || len(q.list) != 0 {
		t.Errorf("got %d bytes, want %d; %d pieces are left", len(got), len(want), len(q.list))
	}
	add(10)
	q.lend()
	q.drop() // while the sink has it
	if len(q.list) != 1 {
		t.Error("released under the sink")
	}
	if q.giveBack(10); len(q.list) != 0 || q.size != 0 {
		t.Errorf("after the sink: %+v", q)
	}
}
