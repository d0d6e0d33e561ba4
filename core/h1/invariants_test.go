//go:build invariants

package h1_test

import (
	"context"
	"testing"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestLateCall: nothing touches a client's stream after its Handler has returned.
func TestLateCall(t *testing.T) {
	for name, late := range map[string]func(c exchange.Client){
		"Head":    func(c exchange.Client) { _ = c.Head(&exchange.Response{Status: 200}, true) },
		"Data":    func(c exchange.Client) { _ = c.Data(nil, true) },
		"Trailer": func(c exchange.Client) { _ = c.Trailer(new(exchange.Fields)) },
		"Feed":    func(c exchange.Client) { _ = c.Feed(new(exchangetest.Recorder[*exchange.Request])) },
		"Reset":   func(c exchange.Client) { c.Reset(exchange.CodeCancel) },
	} {
		bubble(t, name, func(t *testing.T) {
			var kept exchange.Client
			k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				kept = c
				_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
				_ = c.Head(&exchange.Response{Status: 200}, true)
			})
			k.send(getA)
			k.receive()
			synctest.Wait()
			defer func() {
				if recover() == nil {
					t.Errorf("a late %s did not panic", name)
				}
			}()
			late(kept)
		})
	}
}
