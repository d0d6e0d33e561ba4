package main

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"time"

	"go.uber.org/zap"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/host"
)

// errReplaced ends a stream whose upstream a reload has replaced: its servers may be
// others now, and the old ones would be kept for as long as the stream lasts.
var errReplaced = errors.New("the upstream was replaced by a reload")

// A grpcStream is a stream of a plugin that is under way.
type grpcStream struct {
	name string
	key  upstreamKey
	end  context.CancelCauseFunc
}

// PrepareGRPC implements host.GRPCCaller.
func (c *callouts) PrepareGRPC(r *host.GRPCRequest) (func(context.Context, *host.GRPCCall) host.GRPCEnd, error) {
	if _, n := c.find(r.Upstream); n == 0 {
		return nil, host.ErrNoUpstream
	}
	authority := exchange.Request{}
	if r.Authority != "" {
		if err := authority.ParseAuthority(r.Authority); err != nil {
			return nil, errors.New("its authority is none")
		}
	}
	if c.dry {
		return func(ctx context.Context, _ *host.GRPCCall) host.GRPCEnd {
			<-ctx.Done() // the plugin is about to be thrown away
			return host.GRPCEnd{Outcome: host.CallCanceled}
		}, nil
	}
	call := &proxy.GRPCCall{
		Authority: authority.Authority, Path: "/" + r.Service + "/" + r.Method,
		Metadata: &exchange.Fields{}, MaxMessage: host.MaxGRPCMessage,
	}
	if r.Timeout > 0 {
		call.Deadline = time.Now().Add(r.Timeout)
	}
	return func(ctx context.Context, p *host.GRPCCall) host.GRPCEnd {
		for _, m := range r.Metadata {
			call.Metadata.Add(m.Name, m.Value)
		}
		call.Peer = grpcPeer{p}
		return c.callGRPC(ctx, r, call)
	}, nil
}

// callGRPC makes a call, or a stream.
func (c *callouts) callGRPC(ctx context.Context, r *host.GRPCRequest, call *proxy.GRPCCall) (end host.GRPCEnd) {
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("panic: this is a bug in wproxy; a plugin's gRPC call was given up",
				zap.Any("value", v), zap.ByteString("stack", debug.Stack()))
			end = host.GRPCEnd{Outcome: host.CallReset, Code: filter.GRPCInternal, Message: "internal"}
		}
	}()
	u, key, letGo, ok := c.hold(r.Upstream)
	if !ok {
		return host.GRPCEnd{Outcome: host.CallUnavailable, Code: filter.GRPCUnavailable, Message: "no_upstream"}
	}
	defer letGo()
	call.Upstream = u
	if r.Stream {
		var leave func()
		ctx, leave = c.enter(ctx, r.Upstream, key)
		defer leave()
	}
	e, err := c.caller.GRPC(ctx, call)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errReplaced):
		return host.GRPCEnd{Outcome: host.CallReset, Code: filter.GRPCUnavailable, Message: errReplaced.Error()}
	case err != nil: // who asked is gone
		return host.GRPCEnd{Outcome: host.CallCanceled}
	}
	return host.GRPCEnd{
		Outcome: grpcOutcome(e), Code: uint32(e.Code), Message: e.Message, Trailer: pairsOf(&e.Trailer), //nolint:gosec // 0 to 16
	}
}

// enter notes a stream to an upstream; ctx is done when a reload replaces that.
func (c *callouts) enter(ctx context.Context, name string, key upstreamKey) (_ context.Context, leave func()) {
	ctx, end := context.WithCancelCause(ctx)
	s := &grpcStream{name, key, end}
	c.mu.Lock()
	if c.streams == nil {
		c.streams = map[*grpcStream]struct{}{}
	}
	c.streams[s] = struct{}{}
	c.endReplacedLocked() // it may have been replaced since it was found
	c.mu.Unlock()
	return ctx, func() {
		c.mu.Lock()
		delete(c.streams, s)
		c.mu.Unlock()
		end(nil)
	}
}

// endReplacedLocked ends streams to upstreams that neither serve nor are about to.
func (c *callouts) endReplacedLocked() {
	for s := range c.streams {
		now, serves := c.serving[s.name]
		next, comes := c.next[s.name]
		if (!serves || now != s.key) && (!comes || next != s.key) {
			s.end(errReplaced)
		}
	}
}

// grpcOutcome says what has become of a call.
func grpcOutcome(e *proxy.GRPCEnd) host.CallOutcome {
	switch {
	case e.Answered:
		return host.CallAnswered
	case e.Code == filter.GRPCDeadlineExceeded, e.Failure != nil && e.Failure.Status == 504:
		return host.CallTimeout
	case e.Failure == nil || e.Failure.Begun:
		return host.CallReset
	default:
		return host.CallUnavailable
	}
}

// grpcPeer is a plugin's call as the engine sees it.
type grpcPeer struct{ *host.GRPCCall }

// Head implements proxy.GRPCPeer. The status is part of what guests see, as it is in the
// reference host.
func (p grpcPeer) Head(status int, f *exchange.Fields) bool {
	pairs := []abi.Pair{{Name: ":status", Value: strconv.Itoa(status)}}
	return p.GRPCCall.Head(append(pairs, pairsOf(f)...))
}
