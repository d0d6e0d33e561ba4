package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// TestEndExchanges: what is left on an old snapshot is ended, with its reason, whatever it
// waits for, and what is on another goes on.
func TestEndExchanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		feed   func(int, *stream, exchange.Sink[*exchange.Response]) error
		client func() *client
		status int
	}{
		{"waits for the upstream", func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }, func() *client { return newClient("GET", "/") }, 0},
		{"a stream", func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			if err := dst.Head(&exchange.Response{Status: 200, Length: -1}, false); err != nil {
				return err
			}
			return s.hang()
		}, func() *client { return newClient("GET", "/") }, 200},
		{"a tunnel", switches, newTunnel, 101},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, &origin{feed: tt.feed}, config{edit: func(r *proxy.Route) { r.Timeout = -1 }})
				first := e.Snapshot()
				serve := func() (*client, chan struct{}) {
					c, over := tt.client(), make(chan struct{})
					go func() { // ends with the exchange
						e.Serve(t.Context(), c)
						close(over)
					}()
					synctest.Wait()
					return c, over
				}
				c, over := serve()
				// The tunnel stays on the first: its upstream is another one in the second.
				e.Swap(e.next(t, time.Hour, func(r *proxy.Route) { r.Parts[0]++ }))
				second := e.Snapshot()
				_, over2 := serve()
				if isDrained(first) {
					t.Fatal("nothing is left on the first")
				}
				for i, want := range []int{1, 0} { // once, though it may not be over yet
					if n := e.EndExchanges(first); n != want {
						t.Errorf("call %d ended %d exchanges, want %d", i, n, want)
					}
				}
				<-over
				if !c.reset || c.status != tt.status {
					t.Errorf("reset %v, status %d, want %d", c.reset, c.status, tt.status)
				}
				if got := e.line()["reason"]; got != proxy.ReasonReloads {
					t.Errorf("reason %v", got)
				}
				if !isDrained(first) {
					t.Error("the first is not drained")
				}
				if n := e.EndExchanges(first); n != 0 {
					t.Errorf("ended %d more", n)
				}
				select {
				case <-over2:
					t.Error("the exchange of the second has ended, too")
				default:
				}
				e.Swap(e.next(t, time.Hour, func(r *proxy.Route) { r.Parts[0] += 2 }))
				if n := e.EndExchanges(second); n != 1 {
					t.Errorf("ended %d exchanges of the second, want 1", n)
				}
				<-over2
			})
		})
	}
}
