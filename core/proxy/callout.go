package proxy

import (
	"context"
	"errors"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// A Caller makes requests of wproxy's own, those that plugins ask for. They take the
// way that a client's request takes from the end of its filters on: the same pool,
// picker, retries, budget and counters. There is no client, no route and no line of
// the access log. Use [NewCaller]. It is safe for concurrent use.
type Caller struct{ p *Proxy }

// NewCaller makes a Caller. It needs no snapshot, and may call before the first one
// serves.
func NewCaller(o Options) *Caller {
	p := &Proxy{metrics: o.Metrics, now: o.Now}
	if p.now == nil {
		p.now = time.Now
	}
	p.states.New = func() any { return newState(p) }
	return &Caller{p}
}

// A Call is one request of a Caller.
type Call struct {
	Upstream *Upstream

	// Request is the head; its Authority is sent as it is, whatever host the upstream
	// is configured with, and the server's address if it is empty. Fields that are hop by hop are not sent, and Length is set
	// by Do. It is borrowed.
	Request *exchange.Request
	Body    []byte
	Trailer *exchange.Fields // nil or empty: none

	// Deadline is when the answer has to be whole; zero: the upstream's own times only.
	Deadline time.Time

	// Room is asked before n more bytes of the answer's body are held; false: the
	// answer is too large. nil: it never is.
	Room func(n int) bool
	// HeadRoom is the same for a head, or trailers, of so many field lines with so many
	// bytes of names and values.
	HeadRoom func(lines, bytes int) bool
	// Discard means that of the answer nothing but the status is kept.
	Discard bool
}

// A CallAnswer is an answer from an upstream, whole.
type CallAnswer struct {
	Status  int
	Fields  exchange.Fields
	Body    []byte
	Trailer exchange.Fields
}

// A CallError is why there is no answer.
type CallError struct {
	// Begun means that the head of an answer had come.
	Begun bool
	// Status is what a client would have been answered with, 502, 503 or 504; 0 if
	// Begun.
	Status int
	// Reason is the stable name of the failure, as in the access log.
	Reason string
}

// Error implements error.
func (e *CallError) Error() string { return "call: " + e.Reason }

// reasonTooLarge is the reason of an answer that Room or HeadRoom refused.
const reasonTooLarge = "answer_too_large"

// Do makes the call and returns when its answer is whole, it has failed, or ctx is
// done. The error is a *CallError, or that of ctx. The answer is the caller's.
func (c *Caller) Do(ctx context.Context, r *Call) (*CallAnswer, error) {
	x, _ := c.p.states.Get().(*state)
	a := &answerSink{room: r.Room, headRoom: r.HeadRoom, discard: r.Discard}
	stop := x.beginCall(ctx, r, a)
	over := false
	defer func() {
		stop()
		if !over { // a panic; x is not used again
			x.drop(exchange.CodeInternal)
			x.uncount()
		}
	}()
	err := x.pushCall(r)
	if err != nil && !errors.Is(err, exchange.ErrAnswered) {
		x.fail(asError(err))
	}
	answer, err := x.endCall(a, err)
	over = true
	if ctx.Err() != nil && answer == nil {
		err = ctx.Err()
	}
	x.reset()
	c.p.states.Put(x)
	return answer, err
}

// beginCall readies x for a call. stop ends the watch of ctx.
func (x *state) beginCall(ctx context.Context, r *Call, a exchange.Client) (stop func() bool) {
	x.ctx, x.client, x.start = ctx, a, x.p.now()
	x.req, x.listener, x.last = r.Request, -1, outlet{x}
	x.mu.Lock()
	x.generation++
	x.live = true
	x.route = &Route{Split: []Target{{Upstream: r.Upstream, Weight: 1}}}
	x.deadline = r.Deadline
	generation := x.generation
	x.mu.Unlock()
	x.out.keepHost = true
	return context.AfterFunc(ctx, func() { x.clientGone(generation) }) // meets another generation when it is late
}

// pushCall pushes the request into the connector.
func (x *state) pushCall(r *Call) error {
	trailer := r.Trailer != nil && r.Trailer.Len() > 0
	h, to := r.Request, connector{x}
	h.Length = int64(len(r.Body))
	if trailer {
		h.Length = exchange.LengthUnknown // RFC 9112 7.1.2: only a chunked body has a trailer
	}
	h.Fields.Remove("content-length")
	err := to.Head(h, len(r.Body) == 0 && !trailer)
	if err == nil && len(r.Body) > 0 {
		err = to.Data(r.Body, !trailer)
	}
	if err == nil && trailer {
		err = to.Trailer(r.Trailer)
	}
	return err
}

// endCall waits for whoever is still at work, gives everything back, counts, and says
// what has come of the call. err is what pushing it came to.
func (x *state) endCall(a *answerSink, err error) (*CallAnswer, error) {
	o := &x.out
	x.disarm()
	x.mu.Lock()
	x.requestOverLocked()
	for x.running || x.out.resting || x.pushers > 0 {
		x.cond.Wait()
	}
	x.answered = true
	panicked, reason := x.panicked, x.reason
	x.mu.Unlock()
	if panicked != nil {
		panic(panicked)
	}
	x.closeUpstream()
	x.mu.Lock()
	x.live = false
	x.mu.Unlock()
	x.uncount()
	if o.tries > 0 {
		if o.claimed {
			o.to.Metrics.Done(o.firstByte, x.p.now().Sub(o.began))
		}
		if o.retryReason != "" {
			o.to.Metrics.Retried(o.retryReason, metrics.RetryOutcome(o.claimed))
		}
	}
	x.releaseStream()
	switch {
	case x.ours:
		return nil, &CallError{Status: x.status, Reason: reason}
	case x.ended.Load():
		return &a.answer, nil
	case err != nil && !errors.Is(err, exchange.ErrAnswered):
		reason = nameOf(asError(err))
	}
	if reason == "" {
		reason = reasonUpstreamReset
	}
	return nil, &CallError{Begun: true, Reason: reason}
}

// An answerSink is the client of a call: it keeps what it is answered. It is used by
// one goroutine at a time.
type answerSink struct {
	room     func(n int) bool
	headRoom func(lines, bytes int) bool
	discard  bool
	answer   CallAnswer
}

// Head implements exchange.Sink.
func (a *answerSink) Head(h *exchange.Response, _ bool) error {
	if h.Status < 200 {
		return nil
	}
	if !a.hasHeadRoom(&h.Fields) {
		return errTooLarge()
	}
	a.answer.Status = h.Status
	if a.discard {
		return nil
	}
	a.answer.Fields.CopyFrom(&h.Fields)
	return nil
}

// hasHeadRoom asks whether f may be held.
func (a *answerSink) hasHeadRoom(f *exchange.Fields) bool {
	if a.headRoom == nil || f.Len() == 0 {
		return true
	}
	n := 0
	for _, x := range f.List() {
		n += len(x.Name) + len(x.Value)
	}
	return a.headRoom(f.Len(), n)
}

func errTooLarge() error {
	return &exchange.Error{Op: "hold answer", Side: exchange.Internal, Reason: reasonTooLarge}
}

// Data implements exchange.Sink.
func (a *answerSink) Data(p []byte, _ bool) error {
	if a.discard {
		return nil
	}
	if len(p) > 0 && a.room != nil && !a.room(len(p)) {
		return errTooLarge()
	}
	a.answer.Body = append(a.answer.Body, p...)
	return nil
}

// Trailer implements exchange.Sink.
func (a *answerSink) Trailer(f *exchange.Fields) error {
	if a.discard {
		return nil
	}
	if !a.hasHeadRoom(f) {
		return errTooLarge()
	}
	a.answer.Trailer.CopyFrom(f)
	return nil
}

// Feed implements exchange.Stream. Nobody calls it: the request is pushed.
func (a *answerSink) Feed(exchange.Sink[*exchange.Request]) error { return nil }

// Reset implements exchange.Stream.
func (a *answerSink) Reset(exchange.Code) {}
