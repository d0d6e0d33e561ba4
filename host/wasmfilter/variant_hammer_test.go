package wasmfilter_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/exchange"
)

// TestVariantHammer: variants of one key that are stored, deleted and served at once, of requests that wait for others
// and that go alone, leave no flight and no reference, whatever becomes of clients and answers.
func TestVariantHammer(t *testing.T) {
	for _, joins := range []bool{true, false} {
		order := missOrder()
		order.Joins = joins
		r := newMissRoom(t, order, variantStore(), time.Now)
		var first missExchange
		first.open(context.Background(), t, r, "/a", exchange.Field{Name: "x", Value: "1"})
		if err := first.head(0, true, exchange.Field{Name: "etag", Value: "1"}, exchange.Field{Name: "x-store", Value: "1"}); err != nil {
			t.Fatal(err)
		}
		first.close(nil)
		var alone, hits atomic.Int64
		for round := range 40 {
			if round%3 == 0 {
				r.space.DeletePrefix("")
			}
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					h := variantHammer{t: t, r: r, rand: rand.New(rand.NewPCG(uint64(round), uint64(w)))} //nolint:gosec // the same each time
					for range 6 {
						h.exchange(&alone, &hits)
					}
				})
			}
			wg.Wait()
			if r.space.Flying(passKey) {
				t.Fatalf("round %d: a flight is left", round)
			}
		}
		r.space.DeletePrefix("")
		if bytes, n := r.space.Used(); bytes != 0 || n != 0 {
			t.Errorf("%d objects are left, %d bytes", n, bytes)
		}
		if alone.Load() < 20 || hits.Load() < 20 {
			t.Errorf("joins %t: %d answers did not enter the guest, and %d requests were hits", joins, alone.Load(), hits.Load())
		}
	}
}

// A variantHammer makes exchanges by chance.
type variantHammer struct {
	t    *testing.T
	r    *missRoom
	rand *rand.Rand
	e    missExchange
}

func (h *variantHammer) exchange(alone, hits *atomic.Int64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fields := []exchange.Field{{Name: "x", Value: strconv.Itoa(h.rand.IntN(3))}, {Name: "x-plain", Value: "1"}}
	if h.rand.IntN(3) == 0 {
		fields = append(fields, exchange.Field{Name: "authorization", Value: "1"})
	}
	e := &h.e
	if e.client.leaves = 0; h.rand.IntN(4) == 0 {
		e.client.leaves = 1 + h.rand.IntN(3)
	}
	answered := e.open(ctx, h.t, h.r, "/a", fields...)
	switch h.rand.IntN(12) {
	case 0:
		h.r.space.Delete(passKey)
	case 1:
		h.r.space.DeletePrefix(passKey)
	}
	switch {
	case answered:
		hits.Add(1)
		e.close(nil)
		return
	case h.rand.IntN(8) == 0:
		e.close(exchange.ErrReset)
		return
	}
	err := h.answer()
	if err != nil && !errors.Is(err, exchange.ErrReset) {
		h.t.Error(err)
	}
	e.close(err)
	if e.client.edit == "host" {
		alone.Add(1)
	}
}

// answer makes an answer, which may break off.
func (h *variantHammer) answer() error {
	lines := []exchange.Field{{Name: "etag", Value: "1"}}
	switch h.rand.IntN(10) {
	case 0:
		lines = append(lines, exchange.Field{Name: "cache-control", Value: "else"})
	case 1:
		lines = append(lines, exchange.Field{Name: "x-record", Value: "1"}, exchange.Field{Name: "cache-control", Value: "else"})
	}
	err := h.e.head(10, false, lines...)
	for i := 0; i < 10 && err == nil; i++ {
		if i == 5 && h.rand.IntN(8) == 0 {
			return exchange.ErrReset
		}
		err = h.e.engine.out.Data([]byte("x"), i == 9)
	}
	return err
}
