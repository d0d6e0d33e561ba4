package proxy

import (
	"sync/atomic"

	"wproxy/core/exchange"
)

// incoming is where an upstream's response enters.
type incoming struct{ x *state }

// Head claims the answer with a final head and sends it into the filters. Other
// 1xx heads go to the client at once, unseen by filters.
func (s incoming) Head(h *exchange.Response, end bool) error {
	x := s.x
	if h.Status < 200 && h.Status != 101 {
		return x.passInterim(h)
	}
	if h.Status == 101 && !x.out.upgrade {
		return &exchange.Error{
			Op: "read head", Side: exchange.UpstreamSide, Status: 502, Reason: "unexpected_upgrade",
		}
	}
	if x.route.Retry.Statuses.Has(h.Status) && x.dropAnswer(h) {
		if end {
			return nil
		}
		return x.skipHead()
	}
	x.mu.Lock()
	expired := x.expired
	ok := !expired && x.claimLocked()
	if ok {
		x.out.claimed = true
		x.tryAnsweredLocked(h.Status)
		x.out.tunnel = h.Status == 101
	}
	x.mu.Unlock()
	switch {
	case expired:
		return errDropped
	case !ok:
		return exchange.ErrAnswered
	}
	if h.Status == 101 {
		x.beginTunnel()
	}
	x.out.status = h.Status
	now := x.p.now()
	x.out.firstByte = max(now.Sub(x.out.began), 0)
	if x.out.to.Timed {
		x.out.endpoint.ObserveLatency(x.out.firstByte, now)
	}
	x.route.ResponseHeaders.apply(&h.Fields)
	x.showOutcome()
	x.showResponse(h)
	return x.last.Head(h, end)
}

// Data implements exchange.Sink.
func (s incoming) Data(p []byte, end bool) error {
	if s.x.out.dropped != 0 {
		return s.x.skip(len(p), end)
	}
	return s.x.last.Data(p, end)
}

// Pipes implements exchange.Piper: nobody is in the way who looks at the body.
func (s incoming) Pipes() bool {
	x := s.x
	if x.out.dropped != 0 {
		return false
	}
	to := x.last
	if l, ok := to.(*responseLink); ok {
		to = l.to
	}
	if _, ok := to.(outlet); !ok {
		return false
	}
	p, ok := x.client.(exchange.Piper)
	return ok && p.Pipes()
}

// DataPipe implements exchange.Piper.
func (s incoming) DataPipe(fd, n int, end bool) error {
	x := s.x
	p, ok := x.client.(exchange.Piper)
	if !ok {
		return exchange.ErrAnswered // Pipes has said so
	}
	return outlet{x}.passed(p.DataPipe(fd, n, end), n, end)
}

// Trailer implements exchange.Sink.
func (s incoming) Trailer(f *exchange.Fields) error {
	if s.x.out.dropped != 0 {
		return nil
	}
	return s.x.last.Trailer(f)
}

// showResponse lets filters see the head of the answer.
func (x *state) showResponse(h *exchange.Response) {
	if len(x.filters) == 0 {
		return
	}
	x.fx.Mu.Lock() // a guest's tick may be looking
	x.fx.Response = h
	x.fx.Mu.Unlock()
}

// showOutcome lets filters see how the try went. Only who moves the try may
// call it, not who answers from elsewhere.
func (x *state) showOutcome() {
	if len(x.filters) == 0 {
		return
	}
	x.fx.Mu.Lock()
	x.fx.Upstream = x.outcomeOf()
	x.fx.Mu.Unlock()
}

// passInterim passes a 1xx head on (RFC 9110 15.2), which keeps an answer from
// being begun meanwhile. A 100 is not passed on: wproxy sent its own.
func (x *state) passInterim(h *exchange.Response) error {
	if h.Status == 100 || x.req.Version == exchange.HTTP10 {
		return nil
	}
	x.mu.Lock()
	if x.answered || x.gone {
		x.mu.Unlock()
		return exchange.ErrAnswered
	}
	x.interim = true
	x.mu.Unlock()
	h.Fields.RemoveFunc(hopByHop)
	err := x.client.Head(h, false)
	x.mu.Lock()
	x.interim = false
	x.cond.Broadcast()
	x.mu.Unlock()
	return err
}

// outlet is the end of the response's chain: it pushes into the client's stream.
type outlet struct{ x *state }

// Head implements exchange.Sink.
func (s outlet) Head(h *exchange.Response, end bool) error {
	x := s.x
	if x.headSent.Load() {
		return exchange.ErrAnswered // a filter that answers twice
	}
	if len(x.filters) > 0 {
		x.fx.Mu.Lock() // a guest's tick may be looking
		h.Fields.RemoveFunc(hopByHop)
		x.fx.Mu.Unlock()
	}
	if x.out.claimed && !x.ours {
		x.setCookies(&h.Fields)
	}
	if h.Status >= 200 { // final: filters and caches do not see it
		x.serverTiming(&h.Fields)
	}
	x.rec.Response = &h.Fields
	x.status = h.Status
	x.headSent.Store(true)
	err := x.client.Head(h, end)
	if end && err == nil {
		x.noteGRPC(&h.Fields)
		x.endAnswer()
	}
	return err
}

// Data implements exchange.Sink.
func (s outlet) Data(p []byte, end bool) error {
	return s.passed(s.x.client.Data(p, end), len(p), end)
}

// passed accounts for n bytes that were passed on, unless err says that they were not.
func (s outlet) passed(err error, n int, end bool) error {
	if err != nil {
		return err
	}
	if n > 0 {
		atomic.AddInt64(&s.x.fx.BytesOut, int64(n)) // guests read it from the request's side
	}
	if end {
		s.x.endAnswer()
	}
	return nil
}

// Trailer implements exchange.Sink.
func (s outlet) Trailer(f *exchange.Fields) error {
	x := s.x
	if len(x.filters) > 0 {
		x.fx.Mu.Lock() // a guest's tick may be looking
		x.fx.ResponseTrailer = f
		x.fx.Mu.Unlock()
	}
	err := x.client.Trailer(f)
	if err == nil {
		x.noteGRPC(f)
		x.endAnswer()
	}
	return err
}

// endAnswer notes that the answer is whole, and lets go of a request that a
// filter still holds.
func (x *state) endAnswer() {
	x.ended.Store(true)
	if len(x.filters) > 0 {
		x.fx.AnswerEnded()
	}
}

// claimLocked takes the exchange's one answer. It is called with mu held and
// waits for a 1xx that is being passed on.
func (x *state) claimLocked() bool {
	for x.interim {
		x.cond.Wait()
	}
	if x.answered || x.gone || !x.live {
		return false
	}
	x.answered = true
	x.cond.Broadcast() // a try may be waiting for its turn
	return true
}

// claim takes the answer for one of wproxy's own; finish waits until pushed is
// called.
func (x *state) claim() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.claimLocked() {
		return false
	}
	x.pushers++
	return true
}

// pushed ends what claim began. Whether or not the answer could be passed on, a
// filter that still holds the request has nothing to wait for any more.
func (x *state) pushed() {
	if len(x.filters) > 0 {
		x.fx.AnswerEnded()
	}
	x.mu.Lock()
	x.pushers--
	x.cond.Broadcast()
	x.mu.Unlock()
}
