package proxy

import (
	"crypto/tls"
	"errors"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// outgoing is the way of a request to an upstream. It is owned by the request's
// goroutine, but for what a comment says.
type outgoing struct {
	to      *Upstream
	head    exchange.Request // the copy that is sent
	tried   []*upstream.Endpoint
	next    *upstream.Endpoint // for the next try; nil: to be picked
	tries   int
	fresh   bool          // the next try wants a new connection
	counted bool          // in the cluster's live counters
	retried bool          // in its live retries
	moved   int           // times that elsewhere has said yes
	free    int           // tries that cost no attempt
	stale   bool          // one of them met a connection at the end of its life
	wait    time.Duration // before the next try

	// Of an answer that is not passed on: its status, 0: none, and what came of its
	// body. Owned by who reads the answer.
	dropped, droppedBytes int
	droppedWhole          bool // and it was read to its end: the connection is as good as new

	key     uint64             // hash of the upstream's Key; 0: none
	wanted  *upstream.Endpoint // that the sticky cookie names; nil: none, or it is gone
	splitID string             // value of the split's cookie that is to be set; "": none
	copy    *mirrored          // that is being made; nil: none

	keepHost bool // an authority is sent as it is (Caller)
	many     bool // only a connection with many streams will do, HTTP/2 that is (Caller.GRPC)

	// Of the current try.
	endpoint *upstream.Endpoint
	loading  *upstream.Endpoint // whose live exchanges it is one of; nil: of none
	conn     pool.Conn
	source   pool.Source          // whose it is, where that is told
	stream   exchange.Upstream    // kept until its heads are not looked at any more
	reused   bool                 // conn has served an exchange before
	tls      *tls.ConnectionState // of conn; only looked at for filters
	began    time.Time
	tryBegan time.Time // with per_try; zero: without
	until    time.Time // when the try is given up; zero: never
	upgrade  bool      // the head asked for one
	deferred bool      // there is no try yet: the head waits for the body
	pushed   int64

	// Who has the try while the answer is read by another goroutine: see duplex.go.
	shared  bool  // there has been such a goroutine; set by the request's
	inside  bool  // the request's goroutine is in a call of the connector. Guarded by mu
	resting bool  // and now the answer's has the try instead. Guarded by mu
	restErr error // what became of that, once it is over. Guarded by mu
	over    bool  // the request's goroutine makes no more calls. Guarded by mu

	// What would have to be sent again.
	held    []byte // body bytes of calls that have returned
	heldAll bool   // held is all of them. Guarded by mu: the response's goroutine reads it

	duplex   bool  // the response's goroutine was started for this try
	respDone bool  // and it has ended. Guarded by mu
	respErr  error // what it ended with. Guarded by mu
	sentEnd  bool  // the end of the request is being, or was, sent. Guarded by mu
	claimed  bool  // the answer is the upstream's. Guarded by mu
	status   int   // of that answer
	tunnel   bool  // a 101 was passed on. Guarded by mu

	noted bool         // among the Proxy's tunnels
	place *TunnelCount // that an upgrade is counted in; nil: it is none

	// For the record.
	lastFailure string   // of a try, one of metrics' Failure names
	retryReason string   // failure of the try before the last
	reasons     []string // of tries after the first
	connectTime time.Duration
	firstByte   time.Duration
}

func (o *outgoing) reset() {
	clear(o.tried)
	o.head.Fields.Reset()
	if cap(o.held) > keptBody {
		o.held = nil
	}
	fields, tried, held, reasons := o.head.Fields, o.tried[:0], o.held[:0], o.reasons[:0]
	*o = outgoing{} // by itself: with what is kept in it, it would be made elsewhere and copied
	o.head.Fields, o.tried, o.held, o.reasons = fields, tried, held, reasons
}

// A piece is one call of the sink that the request goes to.
type piece struct {
	p       []byte
	trailer *exchange.Fields
	head    bool // the head alone
	end     bool
}

// connector is the end of the request's chain: it joins the exchange with an
// upstream.
type connector struct{ x *state }

// Head picks an upstream and sends it the head. With end set it returns when
// the response has been passed on.
func (s connector) Head(h *exchange.Request, end bool) error {
	x := s.x
	if len(x.filters) > 0 {
		x.reachAll()
		if err := x.repick(h); err != nil {
			return err
		}
	}
	to := x.target(h)
	if to == nil {
		return x.answer(503, "no_server")
	}
	x.out.to = to.Current()
	if !x.takeTunnel(h) {
		return x.answer(503, reasonTunnels)
	}
	if err := x.fault(h); err != nil {
		return err
	}
	if err := x.copyHead(h); err != nil {
		return err
	}
	x.mirror(end)
	x.out.heldAll = true
	x.out.to.Cluster.Live.Active.Add(1)
	x.out.to.Cluster.Budget.Pay(x.route.Retry.share())
	x.out.counted = true
	if !end && !x.out.upgrade && x.inspectsBody() {
		x.out.deferred = true
		return nil
	}
	return x.attempt(piece{head: true, end: end})
}

// inspectsBody reports whether a filter may still refuse the request for its body.
// The upstream is left alone until a part of that has come through.
func (x *state) inspectsBody() bool {
	for _, f := range x.filters {
		if b, ok := f.(filter.BodyInspector); ok && b.InspectsRequestBody() {
			return true
		}
	}
	return false
}

// copyHead makes the head that the upstream gets: h without what is hop by hop,
// with the route's edits, its path as the route rewrites it.
func (x *state) copyHead(h *exchange.Request) error {
	c := &x.out.head
	fields := c.Fields
	fields.Reset()
	*c = *h
	for _, f := range h.Fields.List() {
		if !hopByHop(f.Name) {
			fields.Add(f.Name, f.Value)
		}
	}
	c.Fields = fields
	c.ExpectContinue = false // wproxy sends 100 itself (architecture, rule 7)
	x.out.upgrade = c.Upgrade != ""
	x.route.RequestHeaders.apply(&c.Fields)
	if x.route.Rewrite != nil {
		if err := x.route.Rewrite.Apply(c); err != nil {
			return x.refuseEdit(err)
		}
	}
	return nil
}

// attempt sends everything up to pc to an endpoint, and to another one while
// that fails and may be tried again. When pc is the end of the message, it
// returns after the response has been passed on.
func (x *state) attempt(pc piece) error {
	x.out.deferred = false
	for {
		err := x.open()
		if err == nil {
			err = x.send(pc)
		}
		switch {
		case err == nil:
			if !pc.end {
				x.hold(pc.p)
			}
			return nil
		case errors.Is(err, exchange.ErrAnswered):
			return err
		}
		if !x.elsewhere(err) && !x.again(err) {
			return x.giveUp(err)
		}
	}
}

// send pushes the head, what is held, and pc into the current stream.
func (x *state) send(pc piece) error {
	o := &x.out
	if pc.end {
		x.sendingEnd()
	}
	if pc.end || o.upgrade {
		x.boundTry(o.tryBegan)
	}
	err := x.up.Head(&o.head, pc.head && pc.end)
	if err == nil && len(o.held)+len(pc.p) > duplexAfter {
		x.startDuplex()
	}
	if err == nil && len(o.held) > 0 {
		err = x.up.Data(o.held, false)
		o.pushed += int64(len(o.held))
	}
	if err == nil {
		err = x.pushPiece(pc)
	}
	if err == nil && pc.head && o.upgrade { // its feeder waits for the answer
		err = x.up.Data(nil, false)
	}
	switch {
	case err != nil:
		return x.salvage(err)
	case pc.end:
		return x.receive()
	case o.upgrade && pc.head:
		x.startDuplex()
	}
	return nil
}

func (x *state) pushPiece(pc piece) error {
	switch {
	case pc.head:
		return nil
	case pc.trailer != nil:
		return x.up.Trailer(pc.trailer)
	default:
		x.out.pushed += int64(len(pc.p))
		return x.up.Data(pc.p, pc.end)
	}
}

// Data sends body bytes, or those of a tunnel.
func (s connector) Data(p []byte, end bool) error {
	x := s.x
	if err := x.enter(); err != nil {
		return err
	}
	err := s.data(p, end)
	for err == nil && !end && x.leave() {
		err = x.carryOn()
	}
	return err
}

// data is Data for who has the try.
func (s connector) data(p []byte, end bool) error {
	x, o := s.x, &s.x.out
	pc := piece{p: p, end: end}
	x.copyData(p, end)
	switch {
	case o.deferred && len(p) == 0 && !end:
		return nil // nothing has been let through yet
	case o.deferred:
		return x.attempt(pc)
	case o.upgrade:
		if done, err := x.beforeTunnel(pc); done {
			return err
		}
	}
	if o.duplex {
		if over, err := x.overtaken(pc); over {
			return err
		}
	} else if o.pushed+int64(len(p)) > duplexAfter {
		x.startDuplex()
	}
	if end {
		x.sendingEnd()
		x.boundFromHere()
	}
	if err := x.pushPiece(pc); err != nil {
		return x.resend(x.salvage(err), pc)
	}
	if end {
		return x.resend(x.receive(), pc)
	}
	if len(p) > 0 {
		x.hold(p)
		return nil
	}
	x.flushed()
	if !o.duplex {
		x.startDuplex()
	}
	return nil
}

// beforeTunnel is Data and Trailer for an upgrade that the upstream has not
// answered: the try belongs to the response's goroutine, and nothing follows the
// head. False: it has been answered.
func (x *state) beforeTunnel(pc piece) (done bool, err error) {
	x.mu.Lock()
	claimed := x.out.claimed
	x.mu.Unlock()
	switch {
	case claimed:
		return false, nil
	case pc.end: // the answer is somebody else's
		return true, answeredIfNil(x.outcome())
	case len(pc.p) > 0:
		return true, &exchange.Error{Op: "write tunnel", Side: exchange.Internal, Status: 500, Reason: "bad_call_order"}
	default:
		return true, nil // the head has been flushed
	}
}

// Trailer sends the trailer, which ends the message.
func (s connector) Trailer(f *exchange.Fields) error {
	x := s.x
	if err := x.enter(); err != nil {
		return err
	}
	if len(x.filters) > 0 {
		x.fx.Mu.Lock() // a guest's tick may be looking
		x.fx.RequestTrailer = f
		x.fx.Mu.Unlock()
	}
	x.copyData(nil, true) // copies have no trailer
	pc := piece{trailer: f, end: true}
	switch {
	case x.out.deferred:
		return x.attempt(pc)
	case x.out.upgrade:
		if done, err := x.beforeTunnel(pc); done {
			return err
		}
	}
	if x.out.duplex {
		if over, err := x.overtaken(pc); over {
			return err
		}
	}
	x.sendingEnd()
	x.boundFromHere()
	if err := x.pushPiece(pc); err != nil {
		return x.resend(x.salvage(err), pc)
	}
	return x.resend(x.receive(), pc)
}

// resend goes on after err, the outcome of a try at pc.
func (x *state) resend(err error, pc piece) error {
	switch {
	case err == nil || errors.Is(err, exchange.ErrAnswered):
		return err
	case x.elsewhere(err), x.again(err):
		return x.attempt(pc)
	default:
		return x.giveUp(err)
	}
}

// sendingEnd notes that the request is complete once the call that follows has
// returned: a response that is complete then leaves the connection usable.
func (x *state) sendingEnd() {
	x.mu.Lock()
	x.out.sentEnd = true
	x.mu.Unlock()
}

// receive reads the response, on this goroutine unless there is one for it.
func (x *state) receive() error {
	if x.out.duplex {
		return x.outcome()
	}
	err := x.feedFrom(x.up)
	if err == nil {
		x.succeeded()
		x.closeUpstream()
	}
	return err
}

// succeeded tells who watches the endpoint that its answer has come, whole.
func (x *state) succeeded() {
	if o := x.out.endpoint.Observer; o != nil {
		o.Answered(x.out.status)
	}
}

// salvage decides what a failed write means, by reading: an upstream that does
// not want the rest of a request has answered and closed (RFC 9112 9.5), and a
// failed Data towards one that has answered is not the exchange's error (architecture, rule 8).
// It returns ErrAnswered if the answer came, and otherwise the error of the try.
func (x *state) salvage(writeErr error) error {
	w := asError(x.tryError(writeErr))
	if x.out.duplex {
		x.cutTunnel(w)
		return answeredIfNil(x.outcome())
	}
	early := errors.Is(writeErr, exchange.ErrAnswered) // the codec has the answer, and nobody has read it
	switch {
	case x.hasAnswer(): // by somebody else, who has reset the stream
		return exchange.ErrAnswered
	case !early && !worthReading(w):
		return w
	}
	err := x.feedFrom(x.up)
	switch {
	case err == nil:
		x.succeeded()
		x.drop(exchange.CodeNoError)
		return exchange.ErrAnswered
	case errors.Is(err, exchange.ErrAnswered), x.hasAnswer():
		return err
	case !early && w.Retry != exchange.RetryNever:
		return w
	default:
		return err
	}
}

// worthReading reports whether there may be an answer although a write failed
// with w: the upstream got something, and it was the upstream that failed.
func worthReading(w *exchange.Error) bool {
	return w.Retry != exchange.RetryAlways && w.Status != 504 && w.Side == exchange.UpstreamSide
}

func answeredIfNil(err error) error {
	if err == nil {
		return exchange.ErrAnswered
	}
	return err
}

// hasAnswer reports whether somebody has claimed the answer.
func (x *state) hasAnswer() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered
}

// giveUp answers for an upstream that failed. If its answer had begun, err goes
// up, and finish cuts what was begun.
func (x *state) giveUp(err error) error {
	x.drop(exchange.CodeCancel)
	if !x.hasAnswer() {
		e := asError(err)
		if e.Side == exchange.ClientSide {
			return err
		}
		return x.answerFor(e)
	}
	return err
}

// answerFor answers for an upstream that failed with e.
func (x *state) answerFor(e *exchange.Error) error {
	if e.Reason == pool.ReasonFull || e.Reason == pool.ReasonQueueTime {
		return x.answerWith(statusOf(e), reasonOf(e), &exchange.Field{Name: "retry-after", Value: fullRetryAfter})
	}
	return x.answer(statusOf(e), reasonOf(e))
}
