package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/host"
)

// callouts makes the calls of plugins: it is the host's Caller and GRPCCaller. A call goes to the
// upstream that has the name when it is made, and keeps that one and its connections
// alive, but not its generation: a reload does not wait for calls.
type callouts struct {
	// Immutable.
	log    *zap.Logger
	caller *proxy.Caller
	dry    bool // calls are accepted, and never sent

	pools     *shared[poolKey, *pool.Pool]
	upstreams *shared[upstreamKey, *proxy.Upstream]

	mu      sync.Mutex
	serving map[string]upstreamKey   // guarded by mu; of the generation that serves
	next    map[string]upstreamKey   // guarded by mu; of the one that is being built, nil: none is
	streams map[*grpcStream]struct{} // guarded by mu; that are under way
}

func newCallouts(log *zap.Logger, m *metrics.Metrics, dry bool) *callouts {
	return &callouts{log: log, caller: proxy.NewCaller(proxy.Options{Metrics: m}), dry: dry}
}

// prepare lets plugins of a generation that is being built call its upstreams, as they
// do when they start; nil: it was given up.
func (c *callouts) prepare(upstreams map[string]upstreamKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = upstreams
}

// serve makes upstreams the ones that are called.
func (c *callouts) serve(upstreams map[string]upstreamKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving, c.next = upstreams, nil
	c.endReplacedLocked()
}

// find returns the upstreams called name: the one that serves, and behind it the one of
// the generation that is being built, which takes over a moment before serve is called.
func (c *callouts) find(name string) (keys [2]upstreamKey, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range []map[string]upstreamKey{c.serving, c.next} {
		if key, ok := m[name]; ok {
			keys[n] = key
			n++
		}
	}
	return keys, n
}

// hold finds the upstream called name and keeps it until letGo is called.
func (c *callouts) hold(name string) (u *proxy.Upstream, key upstreamKey, letGo func(), ok bool) {
	for {
		keys, n := c.find(name)
		for _, key := range keys[:n] {
			// The pool first: a generation lets go of it last.
			_, letPoolGo, ok := c.pools.hold(key.pool)
			if !ok {
				continue
			}
			if u, letGo, ok := c.upstreams.hold(key); ok {
				return u, key, func() { letGo(); letPoolGo() }, true
			}
			letPoolGo()
		}
		if again, m := c.find(name); again == keys && m == n {
			return nil, upstreamKey{}, nil, false // its generation is over, and there is no other
		}
	}
}

// Prepare implements host.Caller.
func (c *callouts) Prepare(r *host.CallRequest) (func(context.Context) host.CallResponse, error) {
	if _, n := c.find(r.Upstream); n == 0 {
		return nil, host.ErrNoUpstream
	}
	h, err := callHead(r)
	if err != nil {
		return nil, err
	}
	if c.dry {
		return func(ctx context.Context) host.CallResponse {
			<-ctx.Done() // the plugin is about to be thrown away
			return host.CallResponse{Outcome: host.CallCanceled}
		}, nil
	}
	deadline := time.Now().Add(r.Timeout)
	return func(ctx context.Context) host.CallResponse { return c.call(ctx, r, h, deadline) }, nil
}

// call makes a call.
func (c *callouts) call(ctx context.Context, r *host.CallRequest, h *exchange.Request, deadline time.Time) (resp host.CallResponse) {
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("panic: this is a bug in wproxy; a plugin's call was given up",
				zap.Any("value", v), zap.ByteString("stack", debug.Stack()))
			resp = host.CallResponse{Outcome: host.CallReset, Reason: "internal"}
		}
	}()
	u, _, letGo, ok := c.hold(r.Upstream)
	if !ok {
		return host.CallResponse{Outcome: host.CallUnavailable, Reason: "no_upstream"}
	}
	defer letGo()
	var trailer exchange.Fields
	for _, p := range r.Trailers {
		if !mayBeSent(p.Name, "") {
			continue
		}
		trailer.Add(p.Name, p.Value)
	}
	a, err := c.caller.Do(ctx, &proxy.Call{
		Upstream: u, Request: h, Body: r.Body, Trailer: &trailer, Deadline: deadline, Room: r.Room, HeadRoom: r.HeadRoom,
	})
	if err != nil {
		return callFailure(err)
	}
	return host.CallResponse{
		Outcome: host.CallAnswered, Status: a.Status, Body: a.Body,
		Fields: pairsOf(&a.Fields), Trailers: pairsOf(&a.Trailer),
	}
}

// callFailure says what a guest is told of a call that has failed.
func callFailure(err error) host.CallResponse {
	e, ok := errors.AsType[*proxy.CallError](err)
	switch {
	case !ok: // who asked is gone
		return host.CallResponse{Outcome: host.CallCanceled, Reason: "canceled"}
	case e.Begun:
		return host.CallResponse{Outcome: host.CallReset, Reason: e.Reason}
	case e.Status == 504:
		return host.CallResponse{Outcome: host.CallTimeout, Reason: e.Reason}
	default:
		return host.CallResponse{Outcome: host.CallUnavailable, Reason: e.Reason}
	}
}

func pairsOf(f *exchange.Fields) []abi.Pair {
	pairs := make([]abi.Pair, 0, f.Len())
	for _, x := range f.List() {
		pairs = append(pairs, abi.Pair{Name: x.Name, Value: x.Value})
	}
	return pairs
}

// callHead makes the head of a call: canonical, as that of a client's request is, and
// without what is about the connection.
func callHead(r *host.CallRequest) (*exchange.Request, error) {
	h := &exchange.Request{Method: r.Method, Scheme: "http"}
	switch {
	case !host.IsToken(r.Method) || r.Method == "CONNECT":
		return nil, fmt.Errorf("%q is not a method that can be called with", r.Method)
	case r.Scheme == "https":
		h.Scheme = r.Scheme
	case r.Scheme != "" && r.Scheme != "http":
		return nil, fmt.Errorf("%q is not a scheme", r.Scheme)
	}
	if r.Authority != "" {
		if err := h.ParseAuthority(r.Authority); err != nil {
			return nil, fmt.Errorf("%q is not an authority", r.Authority)
		}
	}
	if err := h.ParseTarget(r.Path); err != nil {
		return nil, fmt.Errorf("%q is not a path", r.Path)
	}
	var options []string
	for _, p := range r.Fields {
		if p.Name == "connection" {
			options = append(options, p.Value)
		}
	}
	connection := strings.Join(options, ",")
	for _, p := range r.Fields {
		if p.Name == "te" && strings.EqualFold(p.Value, "trailers") || mayBeSent(p.Name, connection) {
			h.Fields.Add(p.Name, p.Value)
		}
	}
	return h, nil
}

// mayBeSent reports whether a field of a guest is about its message rather than about
// the connection (RFC 9110 7.6.1), which is the proxy's; connection is what its
// Connection fields say. There is nobody who would wait for 100-continue.
func mayBeSent(name, connection string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings",
		"te", "trailer", "expect", "host", "content-length":
		return false
	}
	for option := range strings.SplitSeq(connection, ",") {
		if strings.EqualFold(strings.TrimSpace(option), name) {
			return false
		}
	}
	return true
}
