package host_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// A fakeGRPC is a GRPCCaller whose servers are the test. It knows the upstreams u and v.
type fakeGRPC struct {
	calls chan *fakeRPC
	now   *host.GRPCEnd // every call ends so, at once; nil: when the test says so
}

// A fakeRPC is a call, or stream, that goes on.
type fakeRPC struct {
	*host.GRPCRequest
	ctx    context.Context
	events chan func(*host.GRPCCall) *host.GRPCEnd
	done   chan struct{} // closed when the call is over

	mu     sync.Mutex
	sent   []string
	closed bool
}

func newFakeGRPC() *fakeGRPC { return &fakeGRPC{calls: make(chan *fakeRPC, 2000)} }

func (f *fakeGRPC) PrepareGRPC(r *host.GRPCRequest) (func(context.Context, *host.GRPCCall) host.GRPCEnd, error) {
	if r.Upstream != "u" && r.Upstream != "v" {
		return nil, host.ErrNoUpstream
	}
	return func(ctx context.Context, c *host.GRPCCall) host.GRPCEnd {
		x := &fakeRPC{GRPCRequest: r, ctx: ctx, events: make(chan func(*host.GRPCCall) *host.GRPCEnd), done: make(chan struct{})}
		defer close(x.done)
		f.calls <- x
		if f.now != nil {
			x.collect(c)
			return *f.now
		}
		return x.serve(ctx, c)
	}, nil
}

func (r *fakeRPC) serve(ctx context.Context, c *host.GRPCCall) host.GRPCEnd {
	for {
		r.collect(c)
		select {
		case event := <-r.events:
			if end := event(c); end != nil {
				return *end
			}
		case <-c.Wake():
		case <-ctx.Done():
			return host.GRPCEnd{Outcome: host.CallCanceled}
		}
	}
}

func (r *fakeRPC) collect(c *host.GRPCCall) {
	for {
		m, ok, end := c.Next()
		r.mu.Lock()
		if ok {
			r.sent = append(r.sent, string(m))
		}
		r.closed = r.closed || end
		r.mu.Unlock()
		if !ok || end {
			return
		}
	}
}

// do makes something happen, and returns when it has, unless the call is over.
func (r *fakeRPC) do(event func(*host.GRPCCall) *host.GRPCEnd) {
	did := make(chan struct{})
	select {
	case r.events <- func(c *host.GRPCCall) *host.GRPCEnd { defer close(did); return event(c) }:
		<-did
	case <-r.done:
	}
}

func unwanted(wanted bool) *host.GRPCEnd {
	if wanted {
		return nil
	}
	return &host.GRPCEnd{Outcome: host.CallCanceled}
}

func (r *fakeRPC) head(fields ...abi.Pair) {
	r.do(func(c *host.GRPCCall) *host.GRPCEnd { return unwanted(c.Head(fields)) })
}

func (r *fakeRPC) message(m string) {
	r.do(func(c *host.GRPCCall) *host.GRPCEnd { return unwanted(c.Message([]byte(m))) })
}

func (r *fakeRPC) end(e host.GRPCEnd) {
	r.do(func(*host.GRPCCall) *host.GRPCEnd { return &e })
}

// wantSent waits until the guest has sent these messages, and has closed its side or not.
func (r *fakeRPC) wantSent(t *testing.T, closed bool, want ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		r.mu.Lock()
		ok := slices.Equal(r.sent, want) && r.closed == closed
		r.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Fatalf("sent %d messages, %.200q, closed %v; want %d, %.200q, %v", len(r.sent), r.sent, r.closed, len(want), want, closed)
}

// next returns the next call.
func (f *fakeGRPC) next(t *testing.T) *fakeRPC {
	t.Helper()
	select {
	case r := <-f.calls:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("no gRPC call was made")
		return nil
	}
}

// quickGRPC ends every call at once.
type quickGRPC struct{}

func (quickGRPC) PrepareGRPC(*host.GRPCRequest) (func(context.Context, *host.GRPCCall) host.GRPCEnd, error) {
	return func(context.Context, *host.GRPCCall) host.GRPCEnd { return host.GRPCEnd{Outcome: host.CallAnswered} }, nil
}
