package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
)

// A state is one exchange on its way through the engine. It is used again for
// another exchange once its Handler is over.
//
// Two goroutines at most move an exchange: the request's (the Handler's own) and,
// while a body streams, the response's (duplex.go). Filters may answer, and the
// codec may report that the client has gone, from others; what those touch is guarded by mu.
type state struct {
	// Immutable.
	p    *Proxy
	cond *sync.Cond // on mu; told when running, pushers or interim change

	// Set by begin, then immutable until finish; a tunnel's snap is guarded by tunnels.mu.
	snap   *Snapshot
	ctx    context.Context
	client exchange.Client
	start  time.Time

	// Owned by the request's goroutine; the response's reads what was written before it was started.
	fx        filter.Exchange
	req       *exchange.Request
	listener  int
	route     *Route
	deadline  time.Time // written with mu held
	grpc      bool      // the client speaks gRPC
	grpcUntil time.Time // as its grpc-timeout has it; zero: none
	before    matched   // what the route was found by
	filters   []filter.Filter
	requests  []requestLink
	responses []responseLink
	first     exchange.Sink[*exchange.Request]  // start of the request's chain
	last      exchange.Sink[*exchange.Response] // start of the response's chain: the last filter
	out       outgoing
	unwatch   func() bool // ends the watch of ctx; nil: none

	// Owned by whoever has claimed the answer.
	own      exchange.Response // head of an answer of ours
	body     []byte            // and its body; scratch
	status   int               // sent, or to be
	ours     bool              // the answer is the engine's: its reason is counted
	headSent atomic.Bool       // the response's final head has been passed on
	ended    atomic.Bool       // the response message has, whole
	reached  atomic.Int32      // filters whose request head was called

	rec   access.Record
	heads exchange.Fields // room for rec.Response
	trace traced

	noted string // what the engine wrote to fx.Reason. Guarded by fx.Mu

	mu sync.Mutex
	// Guarded by mu.
	generation uint64            // of the exchange: late calls of a timer or watcher are ignored
	live       bool              // between begin and finish
	up         exchange.Upstream // nil: none; may be reset under mu
	answered   bool              // somebody has claimed the answer
	interim    bool              // a 1xx is being passed on
	gone       bool              // the client is
	cut        bool              // it will never send the rest of its request
	aborted    bool              // a filter has reset both sides
	panicked   any               // what the response's goroutine panicked with
	pushers    int               // answers being passed on by other goroutines
	filling    filter.Filling    // is told when nothing more of the response will come; nil: nobody is
	fills      bool              // it has the response, whether or not the client stays
	running    bool              // the response's goroutine is
	guarded    bool              // see guard
	timer      *time.Timer       // of guard; nil: none
	tryTimer   *time.Timer       // of boundTry; nil: none
	try        uint64            // the try that it is for; late calls are ignored
	expired    bool              // it has given the try up
	reason     string            // why wproxy answered itself, or gave up
	failure    *exchange.Error   // of a plugin; whatever else goes wrong is a consequence. nil: none
}

func newState(p *Proxy) *state {
	x := &state{p: p}
	x.cond = sync.NewCond(&x.mu)
	return x
}

// begin readies x for an exchange with c.
func (x *state) begin(ctx context.Context, c exchange.Client) {
	x.snap, x.ctx, x.client = x.p.acquire(), ctx, c
	if s, ok := c.(exchange.Starter); ok {
		x.start = s.Started()
	}
	if x.start.IsZero() {
		x.start = x.p.now()
	}
	x.mu.Lock()
	x.generation++
	x.live = true
	generation := x.generation
	x.mu.Unlock()
	x.fx.Context = ctx //nolint:fatcontext // replaced for each exchange, never nested
	x.fx.Start, x.fx.Engine = x.start, x
	if g, ok := c.(exchange.GoneNotifier); ok {
		g.ResetWhenGone(goneSink{x})
		return
	}
	if ctx.Done() != nil {
		// A codec without the cheap way. A call that cannot be stopped any more
		// meets another generation.
		x.unwatch = context.AfterFunc(ctx, func() { x.clientGone(generation) })
	}
}

// stopWatching ends what begin began.
func (x *state) stopWatching() {
	if g, ok := x.client.(exchange.GoneNotifier); ok {
		g.ResetWhenGone(nil)
	}
	if x.unwatch != nil {
		x.unwatch()
		x.unwatch = nil
	}
}

// goneSink is what the codec resets when the client has gone.
type goneSink struct{ x *state }

// Reset implements exchange.Resetter.
func (g goneSink) Reset(code exchange.Code) {
	x := g.x
	x.mu.Lock()
	generation := x.generation // valid: the codec stops before finish goes on
	if code == exchange.CodeIncomplete {
		x.cut = true
	}
	x.mu.Unlock()
	if code == exchange.CodeIncomplete {
		x.fx.AnswerEnded() // a filter that holds the request would hold it for nothing
		return
	}
	x.clientGone(generation)
}

// clientGone gives the exchange up: nobody is there for the answer.
func (x *state) clientGone(generation uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.live || x.generation != generation {
		return
	}
	x.gone = true
	if x.up != nil && !x.fills {
		x.up.Reset(exchange.CodeCancel)
	}
	x.cond.Broadcast() // a try may be waiting for its turn, a request be delayed
	x.fx.AnswerEnded()
}

// inlet is where the codec pushes the request.
type inlet struct{ x *state }

// Head finds out what to do with the request and starts doing it.
func (s inlet) Head(h *exchange.Request, end bool) error {
	x := s.x
	x.req, x.fx.Request = h, h
	x.prepare(h)
	x.grpc = x.fx.IsGRPC()
	if x.challenge(h) {
		return exchange.ErrAnswered
	}
	if done, err := x.atDoor(h); done {
		return err
	}
	r, ok := x.match(h)
	if !ok {
		return x.refuse(404, "no_route")
	}
	if h.EncodedSlash && !r.KeepSlash {
		return x.refuse(400, "encoded_slash")
	}
	badTimeout := x.grpc && x.readGRPCTimeout(h)
	x.setRoute(r)
	if err := x.buildChain(); err != nil {
		return err
	}
	if badTimeout {
		x.reachAll()
		return x.answer(400, reasonBadTimeout)
	}
	if done, err := x.local(r); done {
		return err
	}
	if len(x.filters) > 0 {
		x.before.note(h)
		x.fx.SetRequestRun()
	}
	if !end && (len(x.filters) > 0 || h.Upgrade != "") {
		x.guard()
	}
	return x.first.Head(h, end)
}

// Data implements exchange.Sink.
func (s inlet) Data(p []byte, end bool) error {
	if len(p) > 0 {
		atomic.AddInt64(&s.x.fx.BytesIn, int64(len(p))) // guests read it from the response's side
	}
	return s.x.first.Data(p, end)
}

// Trailer implements exchange.Sink.
func (s inlet) Trailer(f *exchange.Fields) error {
	s.x.cleanTrailer(f)
	return s.x.first.Trailer(f)
}

// finish ends the exchange after Feed has returned err: it answers if nobody
// has, waits for whoever is still at work, and gives everything back.
func (x *state) finish(err error) {
	x.cutFilling(err)
	if errors.Is(err, exchange.ErrAnswered) && x.cutShort() {
		err = &exchange.Error{Op: "read body", Side: exchange.ClientSide, Status: 400, Reason: "incomplete_request"}
	}
	if err != nil && !errors.Is(err, exchange.ErrAnswered) {
		x.fail(asError(err))
	}
	x.disarm()
	x.mu.Lock()
	x.requestOverLocked()
	for x.running || x.out.resting || x.pushers > 0 {
		x.cond.Wait()
	}
	x.answered = true // too late for anybody else
	panicked := x.panicked
	x.mu.Unlock()
	if panicked != nil {
		panic(panicked) // on the goroutine whose owner can report it
	}

	if !x.ended.Load() && x.req != nil {
		x.lastResort(err)
	}
	x.endTunnel()
	x.stopWatching()
	x.closeUpstream()
	x.dropCopy(metrics.MirrorIncomplete)
	x.leaveTunnel()
	x.mu.Lock()
	x.live = false
	x.mu.Unlock()
	if x.req != nil {
		x.account(err)
	}
	x.releaseStream()
	x.snap.refs.Release()
	x.reset()
}

// cutShort reports whether a filter gave the request up, without an answer,
// because the rest of it will never come.
func (x *state) cutShort() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cut && !x.answered && !x.gone
}

// fail deals with an exchange that broke off before its answer was whole.
func (x *state) fail(e *exchange.Error) {
	x.mu.Lock()
	gone := x.gone
	if x.reason == "" {
		x.reason = nameOf(e)
	}
	if x.failure == nil && e.Side == exchange.Internal && e.Status != 0 {
		x.failure = e
	}
	x.mu.Unlock()
	// First the claim: the response's goroutine takes the reset for a failure of
	// the upstream, and would answer that.
	claimed := !gone && e.Status != 0 && x.req != nil && x.claim()
	x.mu.Lock()
	if x.up != nil && (x.running || e.Side != exchange.UpstreamSide) {
		x.up.Reset(exchange.CodeCancel)
	}
	x.mu.Unlock()
	if claimed {
		x.reply(e.Status, nameOf(e), nil)
		x.pushed()
	}
}

// lastResort is for an exchange that nobody has answered to the end, which err is
// the reason for. What the client has seen a part of is cut, visibly; anything
// else is answered without the filters, whose response side has been used up or
// has failed. It is called by who has the answer, on a goroutine that no filter
// has started, when nothing comes from the upstream any more.
func (x *state) lastResort(err error) {
	x.mu.Lock()
	gone := x.gone || x.aborted
	if x.failure != nil {
		err = x.failure
	}
	x.mu.Unlock()
	if gone {
		x.client.Reset(exchange.CodeCancel)
	}
	if len(x.filters) > 0 {
		x.resetUpstream(exchange.CodeCancel) // nobody stays blocked there
		x.fx.AnswerEnded()
		x.fx.Quiesce() // a filter's goroutine may be pushing what is about to be taken back
	}
	if gone || x.ended.Load() { // that goroutine may have come to the end
		return
	}
	e, _ := errors.AsType[*exchange.Error](err)
	if e != nil && e.Side == exchange.Internal && e.Status != 0 {
		x.mu.Lock()
		x.reason = nameOf(e) // whatever the answer said that is given up for it
		x.mu.Unlock()
	}
	switch {
	case x.headSent.Load() && !x.retract():
		if e != nil {
			x.setReason(nameOf(e))
		}
		if x.endCut(e) || x.endCutTunnel(e) {
			return
		}
	case x.ctx.Err() != nil, e != nil && e.Side == exchange.ClientSide && e.Status == 0:
		x.setGone()
	case e != nil && e.Status != 0:
		x.bypass(e.Status, nameOf(e))
		return
	default:
		x.bypass(502, "incomplete")
		return
	}
	x.client.Reset(exchange.CodeCancel)
}

// bypass makes an answer that passes no filter.
func (x *state) bypass(status int, reason string) {
	x.note(reason)
	x.ours = true
	x.buildOwn(status, reason, nil)
	if x.deliver(outlet{x}, &x.own, x.body, nil) != nil {
		x.client.Reset(exchange.CodeCancel)
	}
}

// retract takes back an answer of which the client has seen nothing yet.
func (x *state) retract() bool {
	r, ok := x.client.(exchange.Retractor)
	if !ok || !r.Retract() {
		return false
	}
	x.headSent.Store(false)
	atomic.StoreInt64(&x.fx.BytesOut, 0)
	return true
}

func (x *state) setGone() {
	x.mu.Lock()
	x.gone = true
	x.mu.Unlock()
}

// setReason notes why wproxy answered itself; the first reason stays.
func (x *state) setReason(reason string) {
	x.mu.Lock()
	if x.reason == "" {
		x.reason = reason
	}
	x.mu.Unlock()
}

// abandon gives back what an exchange holds whose goroutine panics. x is not
// used again: nothing is known about it.
func (x *state) abandon() {
	x.mu.Lock()
	x.live, x.answered, x.pushers = false, true, 0
	if x.up != nil {
		x.up.Reset(exchange.CodeInternal)
	}
	x.client.Reset(exchange.CodeInternal)
	x.cond.Broadcast()
	for x.running || x.out.resting {
		x.cond.Wait()
	}
	x.mu.Unlock()
	x.disarm()
	x.endTunnel()
	x.stopWatching()
	x.closeUpstream()
	x.dropCopy(metrics.MirrorIncomplete)
	x.leaveTunnel()
	x.uncount()
	x.snap.refs.Release()
	for _, f := range x.filters {
		f.Close(exchange.ErrReset)
	}
}

// reset clears x for the next exchange and keeps what has capacity.
func (x *state) reset() {
	x.fx.Reset()
	x.before.reset()
	x.out.reset()
	x.own.Reset()
	clear(x.filters)
	clear(x.requests)
	clear(x.responses)
	x.filters, x.requests, x.responses = x.filters[:0], x.requests[:0], x.responses[:0]
	x.first, x.last = nil, nil
	x.snap, x.ctx, x.client, x.req, x.route = nil, nil, nil, nil, nil
	x.start, x.deadline, x.grpcUntil = time.Time{}, time.Time{}, time.Time{}
	x.listener, x.status, x.ours, x.grpc = 0, 0, false, false
	x.body = x.body[:0]
	x.noted = ""
	x.headSent.Store(false)
	x.ended.Store(false)
	x.reached.Store(0)
	plugins := x.rec.Plugins
	clear(plugins)
	x.rec = access.Record{}
	x.rec.Plugins = plugins[:0]
	x.heads.Reset()

	x.mu.Lock()
	defer x.mu.Unlock()
	if x.trace.tracer != nil || x.trace.timing {
		clear(x.trace.tries)
		x.trace = traced{tries: x.trace.tries[:0]}
	}
	x.up, x.answered, x.interim, x.gone, x.cut, x.aborted, x.reason, x.failure = nil, false, false, false, false, false, "", nil
	x.filling, x.fills = nil, false
}
