package main

import (
	"context"
	"net"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
	"wproxy/core/h2"
)

// TestConformancePairs runs the suite of the codecs through two of them, back to back:
// what comes from a client in one protocol goes to an upstream in another.
func TestConformancePairs(t *testing.T) {
	codecs := map[string]codec{"h1": h1Codec{}, "h2": h2Codec{}}
	for clientName, client := range codecs {
		for upstreamName, upstream := range codecs {
			t.Run(clientName+" to "+upstreamName, func(t *testing.T) {
				exchangetest.Run(t, exchangetest.Options{
					Bubble:    true,
					NoUpgrade: clientName != "h1" || upstreamName != "h1",
					New: func(t *testing.T, h exchange.Handler) exchangetest.Pair {
						back := newLink(upstream, h)
						front := newLink(client, func(_ context.Context, c exchange.Client) { relay(c, back.Open(t)) })
						return &twoLinks{front, back}
					},
				})
			})
		}
	}
}

// A codec makes both ends of connections of one protocol.
type codec interface {
	serve(ctx context.Context, nc net.Conn, h exchange.Handler)
	dial(nc net.Conn) slots
}

// slots is a pool.Conn, as far as needed.
type slots interface {
	Reserve() bool
	Open(ctx context.Context) (exchange.Upstream, error)
	Close() error
}

type h1Codec struct{}

func (h1Codec) dial(nc net.Conn) slots { return h1.NewClientConn(nc, nil) }
func (h1Codec) serve(ctx context.Context, nc net.Conn, h exchange.Handler) {
	h1.NewServer(h1.ServerOptions{}, h).ServeConn(ctx, nc, nil)
}

type h2Codec struct{}

func (h2Codec) dial(nc net.Conn) slots { return h2.NewClientConn(nc, nil) }
func (h2Codec) serve(ctx context.Context, nc net.Conn, h exchange.Handler) {
	h2.NewServer(h2.ServerOptions{}, h).ServeConn(ctx, nc, nil, nil)
}

// A link is connections of one protocol, in memory.
type link struct {
	codec   codec
	h       exchange.Handler
	ctx     context.Context
	cancel  context.CancelFunc
	servers sync.WaitGroup

	mu    sync.Mutex
	conns []slots    // guarded by mu
	raw   []net.Conn // guarded by mu
}

func newLink(c codec, h exchange.Handler) *link {
	l := &link{codec: c, h: h}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Open implements exchangetest.Pair.
func (l *link) Open(t *testing.T) exchange.Upstream {
	l.mu.Lock()
	defer l.mu.Unlock()
	var c slots
	for _, have := range l.conns {
		if have.Reserve() {
			c = have
			break
		}
	}
	if c == nil {
		near, far := exchangetest.Pipe()
		l.servers.Go(func() { l.codec.serve(l.ctx, far, l.h) }) // ends when the connection does
		c = l.codec.dial(near)
		l.conns, l.raw = append(l.conns, c), append(l.raw, far)
		if !c.Reserve() {
			t.Error("a new connection has no slot")
		}
	}
	s, err := c.Open(l.ctx)
	if err != nil {
		t.Error(err)
	}
	return s
}

// Close implements exchangetest.Pair.
func (l *link) Close() {
	l.cancel()
	l.mu.Lock()
	conns, raw := l.conns, l.raw
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	for _, c := range raw {
		_ = c.Close()
	}
	l.servers.Wait()
}

type twoLinks struct{ front, back *link }

func (l *twoLinks) Open(t *testing.T) exchange.Upstream { return l.front.Open(t) }

func (l *twoLinks) Close() {
	l.front.Close()
	l.back.Close()
}

// relay is the engine without anything that it does beside passing messages on.
func relay(c exchange.Client, up exchange.Upstream) {
	begun, fed := make(chan struct{}), make(chan error, 1)
	if g, ok := c.(exchange.GoneNotifier); ok {
		g.ResetWhenGone(up)
		defer g.ResetWhenGone(nil)
	}
	go func() { // ends with the request
		err := c.Feed(&forward{up, begun})
		if err != nil {
			up.Reset(exchange.CodeCancel)
		}
		fed <- err
	}()
	select {
	case <-begun:
	case err := <-fed: // a short request may be over before this is looked at
		fed <- err
	}
	select {
	case <-begun:
		if err := up.Feed(answer{c}); err != nil {
			c.Reset(exchange.CodeInternal)
			up.Reset(exchange.CodeCancel)
		}
		<-fed
	default: // it has no head
		c.Reset(exchange.CodeInternal)
	}
	if r, ok := up.(exchange.Releaser); ok {
		r.Release()
	}
}

// forward passes a request on, and tells when its head has gone.
type forward struct {
	exchange.Upstream
	begun chan struct{}
}

func (f *forward) Head(h *exchange.Request, end bool) error {
	// What is sent belongs to the upstream's side, as in the engine.
	err := f.Upstream.Head(h, end)
	close(f.begun)
	return err
}

// answer passes a response on.
type answer struct{ exchange.Client }
