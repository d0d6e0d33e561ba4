package plugins_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// A keeper is a chain as an engine for filters that keep answers. What it stores has its body at
// once, so that nothing runs on a goroutine of its own.
type keeper struct {
	*chain
	to    exchange.Sink[*exchange.Response]
	bytes int // of bodies that clients got

	status   int  // of the last answer
	answered bool // by what is stored

	misses uint64
	target []byte
}

var _ filter.Streamer = (*keeper)(nil)

// Stream implements filter.Streamer.
func (k *keeper) Stream(_ filter.Filter, head *exchange.Response, _ string, p filter.Pusher) error {
	k.x.Mu.Lock()
	k.x.Response = head
	k.x.Mu.Unlock()
	return p.Push(k.to)
}

// MayFill, Fill, Filled and Refresh implement filter.Streamer.
func (k *keeper) MayFill(filter.Filling) bool { return false }
func (k *keeper) Fill(filter.Filling) bool    { return false }
func (k *keeper) Filled()                     {}
func (k *keeper) Refresh(filter.Filter) bool  { return false }

// clientEnd counts what a client gets.
type clientEnd struct{ k *keeper }

func (c clientEnd) Head(h *exchange.Response, _ bool) error { c.k.status = h.Status; return nil }
func (c clientEnd) Data(p []byte, _ bool) error             { c.k.bytes += len(p); return nil }
func (c clientEnd) Trailer(*exchange.Fields) error          { return nil }

// newKeeper returns a chain of the cache plugin, whose upstream's answer has been stored.
func newKeeper(tb testing.TB, settings string) *keeper {
	tb.Helper()
	k := &keeper{chain: newChain(tb, use{"cache", settings})}
	k.resp.Fields.Replace(storedFields)
	k.resp.Length = 0
	if err := k.ask(); err != nil {
		tb.Fatal(err)
	}
	return k
}

// storedFields are those of an answer that is stored.
var storedFields = []exchange.Field{
	{Name: "server", Value: "nginx"},
	{Name: "date", Value: "Fri, 01 Jan 2100 00:00:00 GMT"}, // as old as the message itself
	{Name: "content-type", Value: "application/octet-stream"},
	{Name: "last-modified", Value: "Thu, 01 Jan 1970 00:00:00 GMT"},
	{Name: "etag", Value: `"5f3c7c2a-400"`},
	{Name: "accept-ranges", Value: "bytes"},
	{Name: "cache-control", Value: "max-age=3600"},
}

// ask makes an exchange; the upstream, if it is asked, answers without a body.
func (k *keeper) ask() error {
	x := &k.x
	x.Reset()
	x.Context, x.Request, x.Route, x.Engine = k.ctx, &k.req, &k.route, k
	x.ClientAddr, x.ClientIP, x.RequestID = k.conn.Remote.Addr(), k.conn.RemoteIP, "0123456789abcdef"
	f, err := k.factories[0].New(x)
	if err != nil {
		return err
	}
	k.to = f.Response(clientEnd{k})
	x.SetRequestRun()
	err = f.Request(requestEnd{}).Head(&k.req, true)
	if k.answered = errors.Is(err, exchange.ErrAnswered); !k.answered {
		if err == nil {
			x.Mu.Lock()
			x.Response = &k.resp
			x.Mu.Unlock()
			err = k.to.Head(&k.resp, true)
		}
	} else {
		err = nil
	}
	f.Close(nil)
	return errors.Join(err, context.Cause(k.ctx))
}

func BenchmarkHit(b *testing.B) {
	k := newKeeper(b, ``)
	b.ReportAllocs()
	begun := k.fuel()
	for b.Loop() {
		if err := k.ask(); err != nil || !k.answered {
			b.Fatal(err, k.answered)
		}
	}
	b.ReportMetric(float64(k.fuel()-begun)/float64(b.N), "fuel/op")
}

// miss makes an exchange for what nobody has asked for before, and whose answer has fields.
func (k *keeper) miss(fields []exchange.Field) error {
	k.misses++
	k.target = strconv.AppendUint(append(k.target[:0], "/page.html?n="...), k.misses, 10)
	if err := k.req.ParseTarget(string(k.target)); err != nil {
		return err
	}
	k.resp.Fields.Replace(fields)
	return k.ask()
}

// The answers whose misses have their cost measured: one that is stored, and one that is refused.
var missed = []struct {
	name   string
	fields []exchange.Field
	fuel   uint64 // that an exchange may take
}{
	{"stored", storedFields, 90_000},
	{"refused", append(slices.Clone(storedFields[:4]), exchange.Field{Name: "cache-control", Value: "private"}), 75_000},
}

// TestMissFuel: a miss is looked at, and stored, without the guest's allocator: with it and its
// collector, it was half as much again. (Measured with Go 1.26.)
func TestMissFuel(t *testing.T) {
	for _, tc := range missed {
		k := newKeeper(t, ``)
		miss := func() {
			if err := k.miss(tc.fields); err != nil || k.answered {
				t.Fatalf("%s: %v, answered %t", tc.name, err, k.answered)
			}
		}
		for range 10 {
			miss()
		}
		const n = 1000
		begun := k.fuel()
		for range n {
			miss()
		}
		if got := (k.fuel() - begun) / n; got > tc.fuel {
			t.Errorf("%s: %d units of fuel, want at most %d", tc.name, got, tc.fuel)
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	for _, bb := range missed {
		b.Run(bb.name, func(b *testing.B) {
			k := newKeeper(b, ``)
			b.ReportAllocs()
			begun := k.fuel()
			for b.Loop() {
				if err := k.miss(bb.fields); err != nil || k.answered {
					b.Fatal(err, k.answered)
				}
			}
			b.ReportMetric(float64(k.fuel()-begun)/float64(b.N), "fuel/op")
		})
	}
}
