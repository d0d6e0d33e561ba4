//go:build !race

package plugins_test

import (
	"fmt"
	"strconv"
	"testing"

	"wproxy/core/exchange"
)

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

// repeatable are requests for what a keeper has stored, which the guest answers, and the host from the third time on.
var repeatable = []struct {
	name   string
	vary   bool
	fields []exchange.Field
	status int
}{
	{"variant", true, []exchange.Field{{Name: "accept-encoding", Value: "gzip, br"}}, 200},
	{"variant not modified", true, []exchange.Field{{Name: "accept-encoding", Value: "gzip, br"}, {Name: "if-none-match", Value: `"5f3c7c2a-400"`}}, 304},
	{"not modified", false, []exchange.Field{{Name: "if-none-match", Value: `"5f3c7c2a-400"`}}, 304},
	{"not modified since", false, []exchange.Field{{Name: "if-modified-since", Value: "Thu, 01 Jan 1970 00:00:00 GMT"}}, 304},
	{"range", false, []exchange.Field{{Name: "range", Value: "bytes=9-"}}, 416},
}

// repeat has k make one of these requests from now on, the answer to which it has stored.
func (k *keeper) repeat(tb testing.TB, i int) {
	tb.Helper()
	if err := k.req.ParseTarget("/" + strconv.Itoa(i)); err != nil {
		tb.Fatal(err)
	}
	k.resp.Fields.Replace(storedFields)
	k.req.Fields.Replace(nil)
	if repeatable[i].vary {
		k.req.Fields.Replace(repeatable[i].fields[:1])
		k.resp.Fields.Add("vary", "Accept-Encoding")
	}
	if err := k.ask(); err != nil {
		tb.Fatal(err)
	}
	k.req.Fields.Replace(repeatable[i].fields)
}

// TestRepeatAllocs: variants, and what clients get who have it already, cost neither a call of the guest nor an allocation.
func TestRepeatAllocs(t *testing.T) {
	k := newKeeper(t, ``)
	for i, tc := range repeatable {
		k.repeat(t, i)
		var err error
		ask := func() {
			if e := k.ask(); e != nil || !k.answered || k.status != tc.status {
				err = fmt.Errorf("%w, answered %t with %d", e, k.answered, k.status)
			}
		}
		ask()
		ask()
		begun := k.fuel()
		got := testing.AllocsPerRun(1000, ask)
		if fuel := k.fuel() - begun; err != nil || got > 0 || fuel > 0 {
			t.Errorf("%s: %v allocations and %d units of fuel, want none (%v)", tc.name, got, fuel, err)
		}
	}
}

// TestUniqueAllocs: conditions that nobody asks again by cost the host no allocation either.
func TestUniqueAllocs(t *testing.T) {
	k := newKeeper(t, ``)
	list := make([][]exchange.Field, 2000)
	for i := range list {
		list[i] = []exchange.Field{{Name: "if-none-match", Value: fmt.Sprintf(`"%d"`, i)}}
	}
	var err error
	begun := k.fuel()
	got := testing.AllocsPerRun(len(list)-1, func() {
		k.req.Fields.Replace(list[0])
		list = list[1:]
		if e := k.ask(); e != nil || !k.answered || k.status != 200 {
			err = fmt.Errorf("%w, answered %t with %d", e, k.answered, k.status)
		}
	})
	if err != nil || got > 0 || k.fuel() == begun {
		t.Errorf("%v allocations, want none (%v)", got, err)
	}
}

func BenchmarkRepeat(b *testing.B) {
	k := newKeeper(b, ``)
	for i, bb := range repeatable {
		b.Run(bb.name, func(b *testing.B) {
			k.repeat(b, i)
			b.ReportAllocs()
			for b.Loop() {
				if err := k.ask(); err != nil || !k.answered {
					b.Fatal(err, k.answered)
				}
			}
		})
	}
}
