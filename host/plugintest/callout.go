package plugintest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// A Callout is an HTTP call that a plugin has made (proxy_http_call) and that waits for
// its answer. The test is the upstream: it calls Answer or Fail, once. A call that
// nobody answers ends at its timeout by the fake clock, with a 504 for the plugin.
type Callout struct {
	Upstream string        // granted as "call:" + Upstream
	Request  Request       // what was sent
	Timeout  time.Duration // as the host has bounded it

	sink     *sink
	room     func(n int) bool
	headRoom func(fields, bytes int) bool
	number   int
	result   chan host.CallResponse // has room for one
}

// callSink is the host's Caller of tests. It knows the upstreams that some plugin was
// granted.
type callSink struct {
	mu      sync.Mutex
	known   map[string]bool
	pending []*Callout
	grpc    []*GRPC
	made    int
}

// know makes the upstreams of grants exist.
func (s *callSink) know(grants []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]bool{}
	}
	for _, g := range grants {
		if name, ok := strings.CutPrefix(g, host.GrantCall); ok {
			s.known[name] = true
		}
	}
}

// Prepare implements host.Caller.
func (s *sink) Prepare(r *host.CallRequest) (func(context.Context) host.CallResponse, error) {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if !s.calls.known[r.Upstream] {
		return nil, host.ErrNoUpstream
	}
	s.calls.made++
	c := &Callout{
		Upstream: r.Upstream, Timeout: r.Timeout, sink: s, number: s.calls.made,
		Request: Request{
			Method: r.Method, Scheme: r.Scheme, Authority: r.Authority, Path: r.Path,
			Fields: r.Fields, Body: r.Body, Trailers: r.Trailers, Ended: true,
		},
		result: make(chan host.CallResponse, 1),
	}
	return func(ctx context.Context) host.CallResponse {
		c.room, c.headRoom = r.Room, r.HeadRoom
		return c.wait(ctx)
	}, nil
}

// wait is the call as the host waits for it.
func (c *Callout) wait(ctx context.Context) host.CallResponse {
	s := &c.sink.calls
	s.mu.Lock()
	s.pending = append(s.pending, c)
	s.mu.Unlock()
	defer c.remove()
	timer := time.NewTimer(c.Timeout)
	defer timer.Stop()
	select {
	case r := <-c.result:
		return r
	case <-timer.C:
		return host.CallResponse{Outcome: host.CallTimeout, Reason: "timeout"}
	case <-ctx.Done():
		return host.CallResponse{Outcome: host.CallCanceled, Reason: "canceled"}
	}
}

func (c *Callout) remove() {
	s := &c.sink.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = slices.DeleteFunc(s.pending, func(o *Callout) bool { return o == c })
}

// Callouts returns the calls that wait for their answers, in the order in which they
// were made. Those of plugins that were loaded beside p are among them.
func (p *Plugin) Callouts() []*Callout {
	synctest.Wait() // one that was made just now
	s := &p.sink.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.pending)
	slices.SortFunc(list, func(a, b *Callout) int { return a.number - b.number })
	return list
}

// Answer answers the call, and returns when everything that follows has happened. An
// answer that is larger than the host holds is a failure for the plugin, as it
// would be in a proxy. Answering again, or too late, has no effect.
func (c *Callout) Answer(r Response) {
	status := r.Status
	if status == 0 {
		status = 200
	}
	if !c.headRoom(fieldSize(r.Fields)) || !c.headRoom(fieldSize(r.Trailers)) || len(r.Body) > 0 && !c.room(len(r.Body)) {
		c.Fail(host.CallReset, "answer_too_large")
		return
	}
	c.finish(host.CallResponse{Outcome: host.CallAnswered, Status: status, Fields: r.Fields, Body: r.Body, Trailers: r.Trailers})
}

func fieldSize(pairs []abi.Pair) (fields, bytes int) {
	for i := range pairs {
		bytes += len(pairs[i].Name) + len(pairs[i].Value)
	}
	return len(pairs), bytes
}

// Fail ends the call without an answer: with host.CallUnavailable (the plugin sees a
// 503), host.CallTimeout (a 504) or host.CallReset (no headers at all). reason is what
// proxy_get_status tells.
func (c *Callout) Fail(o host.CallOutcome, reason string) {
	c.finish(host.CallResponse{Outcome: o, Reason: reason})
}

func (c *Callout) finish(r host.CallResponse) {
	select {
	case c.result <- r:
	default: // there is one
	}
	synctest.Wait()
}
