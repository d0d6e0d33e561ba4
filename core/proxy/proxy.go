// Package proxy is the engine: it takes an exchange from a codec, finds its
// route, runs it through the route's filters and joins it with an upstream.
//
// The nouns: a [Proxy] is the engine; a [Snapshot] is everything that a reload
// can change, plain data that cmd/wproxy fills; a [Route] and an [Upstream] are
// its parts. The one rule: an exchange loads the snapshot once and keeps it to the end.
//
// The engine does not know which codec it holds, nor what a plugin is made of.
// proxy.go swaps snapshots, serve.go walks one exchange through, request.go
// prepares the head, route.go decides, chain.go links filters, connect.go is the
// way to the upstream, retry.go says when to try again, response.go is the way
// back, reply.go makes wproxy's own answers, record.go accounts.
package proxy

import (
	"context"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// Options are what does not change with a reload.
type Options struct {
	Metrics *metrics.Metrics // required
	Now     func() time.Time // nil: time.Now
}

// A Proxy is the engine. Use [New].
type Proxy struct{ o Options }

// New makes an engine that serves s.
func New(o Options, s *Snapshot) *Proxy { panic("not yet") }

// Snapshot returns what serves now.
func (p *Proxy) Snapshot() *Snapshot { panic("not yet") }

// Swap makes s serve and returns what served before. Exchanges that have begun
// keep the old one; its Drained channel closes when the last of them is over.
func (p *Proxy) Swap(s *Snapshot) (old *Snapshot) { panic("not yet") }

// Serve handles one exchange; it is the exchange.Handler that codecs call.
func (p *Proxy) Serve(ctx context.Context, c exchange.Client) { panic("not yet") }
