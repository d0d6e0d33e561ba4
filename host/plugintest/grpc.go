package plugintest

import (
	"context"
	"slices"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// A GRPC is a gRPC call (proxy_grpc_call), or stream (proxy_grpc_stream), that a plugin has
// made and that goes on. The test is the server: it calls Head, Send and End, or Answer. One
// that is not ended ends at its timeout by the fake clock, if it has one.
type GRPC struct {
	Upstream        string // granted as "call:" + Upstream
	Authority       string // "": the upstream's own
	Service, Method string
	Metadata        []abi.Pair
	Timeout         time.Duration // as the host has bounded it; 0: none, of a stream
	Stream          bool

	sink   *sink
	number int
	events chan func(*host.GRPCCall) *host.GRPCEnd
	done   chan struct{} // closed when the call is over

	// Guarded by sink.calls.mu.
	sent   [][]byte
	closed bool
}

// PrepareGRPC implements host.GRPCCaller.
func (s *sink) PrepareGRPC(r *host.GRPCRequest) (func(context.Context, *host.GRPCCall) host.GRPCEnd, error) {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if !s.calls.known[r.Upstream] {
		return nil, host.ErrNoUpstream
	}
	s.calls.made++
	g := &GRPC{
		Upstream: r.Upstream, Authority: r.Authority, Service: r.Service, Method: r.Method, Metadata: r.Metadata,
		Timeout: r.Timeout, Stream: r.Stream, sink: s, number: s.calls.made,
		events: make(chan func(*host.GRPCCall) *host.GRPCEnd), done: make(chan struct{}),
	}
	return g.serve, nil
}

// serve is the call as the host waits for it.
func (g *GRPC) serve(ctx context.Context, c *host.GRPCCall) host.GRPCEnd {
	s := &g.sink.calls
	s.mu.Lock()
	s.grpc = append(s.grpc, g)
	s.mu.Unlock()
	defer func() {
		close(g.done)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grpc = slices.DeleteFunc(s.grpc, func(o *GRPC) bool { return o == g })
	}()
	var late <-chan time.Time
	if g.Timeout > 0 {
		timer := time.NewTimer(g.Timeout)
		defer timer.Stop()
		late = timer.C
	}
	for {
		g.collect(c)
		select {
		case event := <-g.events:
			if end := event(c); end != nil {
				return *end
			}
		case <-c.Wake():
		case <-late:
			return host.GRPCEnd{Outcome: host.CallTimeout, Code: 4, Message: "timeout"} // DEADLINE_EXCEEDED
		case <-ctx.Done():
			return host.GRPCEnd{Outcome: host.CallCanceled}
		}
	}
}

// collect takes what the plugin has sent.
func (g *GRPC) collect(c *host.GRPCCall) {
	for {
		m, ok, end := c.Next()
		g.sink.calls.mu.Lock()
		if ok {
			g.sent = append(g.sent, slices.Clone(m))
		}
		g.closed = end
		g.sink.calls.mu.Unlock()
		if !ok || end {
			return
		}
	}
}

// GRPCCalls returns the gRPC calls and streams that go on, in the order in which they were
// made. Those of plugins that were loaded beside p are among them.
func (p *Plugin) GRPCCalls() []*GRPC {
	synctest.Wait() // one that was made just now
	s := &p.sink.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.grpc)
	slices.SortFunc(list, func(a, b *GRPC) int { return a.number - b.number })
	return list
}

// Sent returns the messages that the plugin has sent so far, and whether it has closed its
// side. A call has sent one, and closed.
func (g *GRPC) Sent() (messages [][]byte, closed bool) {
	synctest.Wait()
	g.sink.calls.mu.Lock()
	defer g.sink.calls.mu.Unlock()
	return slices.Clone(g.sent), g.closed
}

// Over reports whether the call has ended, by the test or the plugin.
func (g *GRPC) Over() bool {
	synctest.Wait()
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// Head sends initial metadata, which only a stream of the plugin hears of. This, and what
// follows, returns when everything that comes of it has happened, and has no effect on a call
// that is over.
func (g *GRPC) Head(fields ...abi.Pair) {
	g.do(func(c *host.GRPCCall) *host.GRPCEnd { return canceledUnless(c.Head(fields)) })
}

// Send sends a message.
func (g *GRPC) Send(message []byte) {
	g.do(func(c *host.GRPCCall) *host.GRPCEnd { return canceledUnless(c.Message(message)) })
}

// End ends the call as a server does: with a status of gRPC, a message that goes with it, and
// trailing metadata, which a real server has the two in as well.
func (g *GRPC) End(code uint32, message string, trailer ...abi.Pair) {
	g.do(func(*host.GRPCCall) *host.GRPCEnd {
		return &host.GRPCEnd{Outcome: host.CallAnswered, Code: code, Message: message, Trailer: trailer}
	})
}

// Answer sends a message and ends the call well.
func (g *GRPC) Answer(message []byte) {
	g.Send(message)
	g.End(0, "")
}

// Fail ends the call without the server: with host.CallUnavailable, host.CallTimeout or
// host.CallReset, and the status that the plugin is told.
func (g *GRPC) Fail(o host.CallOutcome, code uint32, reason string) {
	g.do(func(*host.GRPCCall) *host.GRPCEnd {
		return &host.GRPCEnd{Outcome: o, Code: code, Message: reason}
	})
}

func canceledUnless(wanted bool) *host.GRPCEnd {
	if wanted {
		return nil
	}
	return &host.GRPCEnd{Outcome: host.CallCanceled}
}

func (g *GRPC) do(event func(*host.GRPCCall) *host.GRPCEnd) {
	select {
	case g.events <- event:
	case <-g.done:
	}
	synctest.Wait()
}
