package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// Statuses of gRPC that a call of a Caller ends with by itself, beside those of filter.
const (
	grpcResourceExhausted = 8
	grpcInternal          = filter.GRPCInternal
)

// A GRPCCall is a call in gRPC of a Caller, with any number of messages in both directions
// (gRPC over HTTP2). It takes a connection that speaks HTTP/2.
type GRPCCall struct {
	Upstream  *Upstream
	Authority string           // "": the upstream's own
	Path      string           // "/service/method"
	Metadata  *exchange.Fields // nil: none; borrowed. What is the protocol's own is not sent

	// Deadline is when the call has to be over, which the server is told; zero: never.
	Deadline time.Time
	// MaxMessage bounds a message that comes, in bytes.
	MaxMessage int
	Peer       GRPCPeer
}

// A GRPCPeer has the messages of a call, and takes those that come. Next and Wake are for one
// goroutine, Head, Message, Hold and Free for one, which may be another.
type GRPCPeer interface {
	// Next returns the next message to be sent; ok is false if there is none at the moment.
	// end means that nothing follows: behind the message, or at all. The message is borrowed
	// until the next call.
	Next() (m []byte, ok, end bool)
	// Wake is told when there may be something new for Next.
	Wake() <-chan struct{}

	// Head takes the head of the answer; none of an answer that has a status and nothing else.
	// False: nobody wants the rest. It is called once at most.
	Head(status int, f *exchange.Fields) bool
	// Message takes a message, which is borrowed. It may take its time: the server has to
	// wait. False: nobody wants the rest.
	Message(m []byte) bool

	// Hold is asked before n bytes of an answer are held, Free told when they are not any
	// more. What is held when the call is over is not freed.
	Hold(n int) bool
	Free(n int)
}

// A GRPCEnd is how a call has ended.
type GRPCEnd struct {
	Code    int
	Message string          // that goes with it
	Trailer exchange.Fields // trailing metadata; the fields of an answer that is nothing else

	Answered bool       // the server has said so, by its trailer or an HTTP status
	Failure  *CallError // there was no answer, or it was cut short; nil: neither
}

// GRPC makes the call and returns when it is over, or ctx is done, whose error it returns then.
func (c *Caller) GRPC(ctx context.Context, r *GRPCCall) (*GRPCEnd, error) {
	x, _ := c.p.states.Get().(*state)
	g := newGRPCClient(ctx, x, r)
	stop := x.beginCall(ctx, &Call{Upstream: r.Upstream, Request: &g.head, Deadline: r.Deadline}, g)
	x.out.many = true
	if !r.Deadline.IsZero() {
		x.grpcUntil = r.Deadline
		x.guard()
	}
	over := false
	defer func() {
		stop()
		if !over { // a panic; x is not used again
			x.drop(exchange.CodeInternal)
			x.uncount()
		}
	}()
	err := g.Feed(connector{x})
	if err != nil && !errors.Is(err, exchange.ErrAnswered) {
		x.fail(asError(err))
	}
	_, err = x.endCall(&answerSink{}, err)
	over = true
	late := !r.Deadline.IsZero() && !x.p.now().Before(r.Deadline)
	g.in.drop()
	x.reset()
	c.p.states.Put(x)
	if ctx.Err() != nil && !g.ended {
		return nil, ctx.Err()
	}
	return g.outcome(err, late), nil
}

// A grpcClient is the client of such a call: it sends what its peer has and reads the answer.
type grpcClient struct {
	ctx   context.Context
	x     *state
	peer  GRPCPeer
	head  exchange.Request
	frame []byte // owned by who sends

	// Owned by who passes the answer on.
	in    grpcReader
	ended bool // end is known
	end   GRPCEnd

	over chan struct{} // closed when nothing more comes
	once sync.Once
}

func newGRPCClient(ctx context.Context, x *state, r *GRPCCall) *grpcClient {
	g := &grpcClient{
		ctx: ctx, x: x, peer: r.Peer, over: make(chan struct{}),
		head: exchange.Request{
			Method: http.MethodPost, Scheme: "http", Authority: r.Authority, Version: exchange.HTTP2, Length: exchange.LengthUnknown,
		},
		in: grpcReader{most: r.MaxMessage, hold: r.Peer.Hold, free: r.Peer.Free},
	}
	g.head.SetTarget(r.Path, len(r.Path))
	f := &g.head.Fields
	f.Add("content-type", "application/grpc")
	f.Add("te", "trailers")
	if !r.Deadline.IsZero() {
		f.Add(grpcTimeout, formatGRPCTimeout(r.Deadline.Sub(x.p.now())))
	}
	if r.Metadata != nil {
		for _, m := range r.Metadata.List() {
			if !grpcReserved(m.Name) {
				f.Add(m.Name, m.Value)
			}
		}
	}
	if !f.Has("user-agent") {
		f.Add("user-agent", "wproxy")
	}
	return g
}

// grpcReserved reports whether a field of a request is the protocol's, and not metadata.
func grpcReserved(name string) bool {
	switch name {
	case "content-type", "content-length", "te", "trailer", "expect", grpcTimeout,
		"grpc-encoding", "grpc-accept-encoding", "grpc-message-type", "grpc-status", "grpc-message":
		return true
	}
	return hopByHop(name)
}

// Feed implements exchange.Stream: it pushes the request.
func (g *grpcClient) Feed(dst exchange.Sink[*exchange.Request]) error {
	if err := dst.Head(&g.head, false); err != nil {
		return err
	}
	flushed := false
	for {
		m, ok, end := g.peer.Next()
		switch {
		case ok:
			g.frame = appendGRPCMessage(g.frame[:0], m)
			if err := dst.Data(g.frame, end); err != nil || end {
				return err
			}
			if cap(g.frame) > keptBody {
				g.frame = nil // a stream may rest for long
			}
			flushed = false
			continue
		case end:
			return dst.Data(nil, true)
		case !flushed:
			if err := dst.Data(nil, false); err != nil {
				return err
			}
			flushed = true
			continue
		}
		select {
		case <-g.peer.Wake():
		case <-g.over:
			return exchange.ErrAnswered
		case <-g.ctx.Done():
			return exchange.ErrAnswered
		}
	}
}

// Reset implements exchange.Stream.
func (g *grpcClient) Reset(exchange.Code) { g.once.Do(func() { close(g.over) }) }

// errUnwanted ends an answer of which nobody wants the rest.
func errUnwanted(reason string) error {
	return &exchange.Error{Op: "take answer", Side: exchange.Internal, Reason: reason}
}

// Head implements exchange.Sink.
func (g *grpcClient) Head(h *exchange.Response, end bool) error {
	switch {
	case h.Status < 200:
		return nil
	case g.x.ours: // what wproxy would have told a client
		if end {
			g.Reset(exchange.CodeNoError)
		}
		return nil
	case !g.holdFields(&h.Fields):
		return g.stop(grpcResourceExhausted, "the metadata of the answer are more than can be held")
	case end && h.Fields.Has("grpc-status"):
		return g.finish(&h.Fields)
	case !g.peer.Head(h.Status, &h.Fields):
		return errUnwanted("canceled")
	case h.Status != http.StatusOK:
		g.end.Answered = true
		err := g.stop(filter.GRPCCode(h.Status, ""), "HTTP status "+strconv.Itoa(h.Status))
		if end {
			return nil
		}
		return err
	case !filter.IsGRPCType(h.Fields.Value("content-type")):
		return g.stop(filter.GRPCUnknown, "the answer is not gRPC: its content-type is "+strconv.Quote(shortText(h.Fields.Value("content-type"))))
	case end:
		return g.finish(nil)
	}
	return nil
}

// Data implements exchange.Sink.
func (g *grpcClient) Data(p []byte, end bool) error {
	if g.x.ours {
		if end {
			g.Reset(exchange.CodeNoError)
		}
		return nil
	}
	err := g.in.push(p, func(m []byte) error {
		if !g.peer.Message(m) {
			return errUnwanted("canceled")
		}
		return nil
	})
	if e, ok := errors.AsType[*grpcError](err); ok {
		return g.stop(e.code, e.text)
	}
	if err == nil && end {
		return g.finish(nil)
	}
	return err
}

// Trailer implements exchange.Sink.
func (g *grpcClient) Trailer(f *exchange.Fields) error {
	if !g.holdFields(f) {
		return g.stop(grpcResourceExhausted, "the metadata of the answer are more than can be held")
	}
	return g.finish(f)
}

// holdFields asks whether f may be held.
func (g *grpcClient) holdFields(f *exchange.Fields) bool {
	n := 0
	for _, x := range f.List() {
		n += len(x.Name) + len(x.Value) + grpcFieldBytes
	}
	return n == 0 || g.peer.Hold(n)
}

// stop ends the call for what its answer is.
func (g *grpcClient) stop(code int, text string) error {
	g.ended, g.end.Code, g.end.Message = true, code, text
	g.Reset(exchange.CodeNoError)
	return errUnwanted("bad_grpc")
}

// finish ends the call as f has it, the trailer or a head without anything behind it; nil: there
// is none.
func (g *grpcClient) finish(f *exchange.Fields) error {
	defer g.Reset(exchange.CodeNoError)
	g.ended, g.end.Answered = true, true
	code, ok := 0, false
	if f != nil {
		g.end.Trailer.CopyFrom(f)
		code, ok = filter.GRPCStatusOf(f)
		g.end.Message = filter.PercentDecode(f.Value("grpc-message"))
	}
	switch {
	case !ok && (f == nil || !f.Has("grpc-status")):
		g.end.Code, g.end.Message = filter.GRPCUnknown, "the answer has no grpc-status"
	case !ok:
		g.end.Code = filter.GRPCUnknown // of one that gRPC does not know
	case code == 0 && !g.in.whole():
		g.end.Code, g.end.Message = grpcInternal, "the answer ends within a message"
	default:
		g.end.Code = code
	}
	return nil
}

// outcome says how the call has ended, of which err is what the engine says; late: its time
// is over.
func (g *grpcClient) outcome(err error, late bool) *GRPCEnd {
	if g.ended {
		return &g.end
	}
	e, ok := errors.AsType[*CallError](err)
	if !ok { // the answer was left alone, by its peer
		e = &CallError{Begun: true, Reason: "canceled"}
	}
	if late {
		e.Reason = reasonTimeout // whatever was cut for it
	}
	g.end.Failure, g.end.Message, g.end.Code = e, e.Reason, grpcCodeOf(e)
	return &g.end
}

// grpcCodeOf is the status of a call that has failed for e (gRPC, "HTTP2 Transport
// Mapping", Errors).
func grpcCodeOf(e *CallError) int {
	switch {
	case e.Reason == reasonTimeout:
		return filter.GRPCDeadlineExceeded
	case !e.Begun:
		return filter.GRPCCode(e.Status, e.Reason)
	case strings.HasPrefix(e.Reason, "upstream_h2_"), e.Reason == reasonUpstreamReset:
		return grpcInternal
	default:
		return filter.GRPCUnavailable
	}
}

// shortText is a text of an upstream's as a message quotes it.
func shortText(s string) string { return s[:min(len(s), maxGRPCText)] }
