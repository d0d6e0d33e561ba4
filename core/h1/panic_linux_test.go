package h1_test

import (
	"context"
	"io"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestPanicForgets: a connection whose Handler has panicked is nobody's when it was closed.
func TestPanicForgets(t *testing.T) {
	for _, rests := range []bool{false, true} {
		w := newWatcher(t)
		s := h1.NewServer(h1.ServerOptions{Watcher: w, RestAfter: 5 * time.Millisecond}, func(_ context.Context, c exchange.Client) {
			var rec exchangetest.Recorder[*exchange.Request]
			if c.Feed(&rec) == nil { // and holds no buffer then
				panic("on purpose")
			}
		})
		client, server := tcpPair(t)
		defer client.Close()
		var k panicking
		k.all.Add(1)
		k.run(func() bool { return s.Serve(t.Context(), server, nil, &k) })
		if rests {
			until(t, "a rest", func() bool { return k.rested.Load() == 1 })
		}
		if _, err := io.WriteString(client, helloRequest); err != nil {
			t.Fatal(err)
		}
		k.all.Wait()
		server.Close()
		if n := w.Watched(); n != 0 {
			t.Errorf("rests %t: %d connections are watched", rests, n)
		}
	}
}

// A panicking keeper goes on after a panic.
type panicking struct{ keeper }

func (k *panicking) run(serve func() bool) {
	k.keeper.run(func() bool {
		defer func() { _ = recover() }()
		return serve()
	})
}

func (k *panicking) Resume(r h1.Resting) { k.run(r.Serve) }
