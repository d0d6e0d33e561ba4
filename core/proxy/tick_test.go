package proxy_test

import (
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
)

// A ticker is a filter that looks at its exchange all the time, as a guest's
// tick may: under Exchange.Mu, from a goroutine of its own.
type ticker struct{ answers bool }

func (k *ticker) Name() string { return "ticker" }

func (k *ticker) New(x *filter.Exchange) (filter.Filter, error) {
	f := &tickFilter{k: k, x: x, stop: make(chan struct{})}
	f.wg.Go(f.look) // ended and waited for by Close
	return f, nil
}

type tickFilter struct {
	k    *ticker
	x    *filter.Exchange
	stop chan struct{}
	wg   sync.WaitGroup
	seen int // bytes, so that nothing is optimised away
}

func (f *tickFilter) look() {
	for {
		select {
		case <-f.stop:
			return
		default:
		}
		f.x.Mu.Lock()
		f.seen += len(f.x.Reason) + len(f.x.Upstream.Address) + len(f.x.Upstream.Failure) + len(f.x.Request.Target) + len(f.x.Request.Authority)
		if f.x.Route != nil {
			f.seen += len(f.x.Route.Name)
		}
		if r := f.x.Response; r != nil {
			f.seen += r.Status + len(r.Fields.Value("content-length"))
		}
		f.x.Mu.Unlock()
	}
}

func (f *tickFilter) Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request] {
	return tickRequest{next, f}
}

func (f *tickFilter) Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response] {
	return next
}

func (f *tickFilter) Close(error) {
	close(f.stop)
	f.wg.Wait()
}

type tickRequest struct {
	exchange.Sink[*exchange.Request]
	f *tickFilter
}

// Head edits what routing reads, and answers if it is to.
func (r tickRequest) Head(h *exchange.Request, end bool) error {
	x := r.f.x
	x.Mu.Lock()
	h.SetTarget("/b/../c", len("/b/../c"))
	x.Mu.Unlock()
	if r.f.k.answers {
		_ = x.Engine.Answer(r.f, &filter.Answer{Head: &exchange.Response{Status: 403}, Body: []byte("no"), Reason: "ticker_said_so"})
		return exchange.ErrAnswered
	}
	return r.Sink.Head(h, end)
}

// TestTickSeesWholeFacts: what the engine writes where a guest may be looking is
// written under Exchange.Mu; the race detector is the judge.
func TestTickSeesWholeFacts(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{false, true} {
		for _, o := range []*origin{{}, {feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
			return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"}
		}}} {
			e := newEngine(t, o, config{edit: func(r *proxy.Route) {
				r.Filters = []filter.Factory{&ticker{answers}}
			}})
			for range 50 {
				e.do(newClient("GET", "/a"))
				e.do(newClient("POST", "/a").sending("a", "", "b"))
			}
		}
	}
}
