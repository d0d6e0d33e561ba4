package wasmfilter

import (
	"slices"
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/host"
)

// tcpStream is the connection as the guest's host functions see it; see stream.
type tcpStream struct{ f *tcpFilter }

var (
	_ host.Stream    = (*tcpStream)(nil)
	_ host.Failer    = (*tcpStream)(nil)
	_ host.Replier   = (*tcpStream)(nil)
	_ host.Teller    = (*tcpStream)(nil)
	_ host.Deadliner = (*tcpStream)(nil)
)

// Map implements host.Stream: there are no headers.
func (s *tcpStream) Map(abi.MapType) host.Map { return nil }

// Buffer implements host.Stream.
func (s *tcpStream) Buffer(kind abi.BufferType) host.Buffer {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	switch {
	case kind == abi.BufferDownstreamData && f.down.body.open:
		return &f.down
	case kind == abi.BufferUpstreamData && f.up.body.open:
		return &f.up
	}
	return nil
}

// Resume implements host.Stream. ABI 0.1.0 has continue_request and continue_response only.
func (s *tcpStream) Resume(side abi.StreamType) {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.x.ClosingLocked() {
		return
	}
	switch side {
	case abi.StreamDownstream, abi.StreamRequest:
		f.down.resumeLocked()
	case abi.StreamUpstream, abi.StreamResponse:
		f.up.resumeLocked()
	}
}

// Close implements host.Stream: both sides are closed, whichever is named, after what has
// been passed on so far. What is of HTTP is none of its business.
func (s *tcpStream) Close(side abi.StreamType) {
	if side < abi.StreamDownstream {
		return
	}
	s.f.x.Mu.Lock()
	defer s.f.x.Mu.Unlock()
	s.f.abortLocked("closed_by_plugin:" + s.f.factory.name)
}

// Reply implements host.Stream: there is nothing to answer.
func (s *tcpStream) Reply(host.Reply) {}

// Replied implements host.Replier.
func (s *tcpStream) Replied() bool { return true }

// ClearRouteCache implements host.Stream: what the route was chosen by cannot be changed.
func (s *tcpStream) ClearRouteCache() {}

// Failed implements host.Failer.
func (s *tcpStream) Failed(err error) {
	s.f.x.Mu.Lock()
	defer s.f.x.Mu.Unlock()
	s.f.failLocked(err)
}

// Tell implements host.Teller.
func (s *tcpStream) Tell() (route, requestID string) {
	x := s.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.Route != nil {
		route = x.Route.Name
	}
	return route, x.RequestID
}

// Deadline implements host.Deadliner; see stream.Deadline.
func (s *tcpStream) Deadline() time.Time {
	x := s.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.Deadline.IsZero() || !x.Finished.IsZero() {
		return time.Time{}
	}
	return x.Deadline.Add(-2 * deadlineMargin)
}

// Property implements host.Stream.
func (s *tcpStream) Property(dst []byte, path string) ([]byte, bool) {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	v := tcpView(f.x, f.final)
	return tcpProperty(&v, dst, path)
}

// tcpView is what properties of a connection are read from.
func tcpView(x *filter.Exchange, final bool) view {
	return view{x: x, head: x.Request, outcome: &x.Upstream, route: x.Route, reason: x.Reason, final: final, status: x.Upstream.Attempts}
}

// tcpProperty appends a property of a connection: what there is of those of an exchange.
func tcpProperty(v *view, dst []byte, path string) ([]byte, bool) {
	path = abi.TrimPath(path)
	if path == abi.PropertyClientAddress {
		return clientAddress(dst, v.x)
	}
	switch first, name, _ := abi.CutPath(path); first {
	case "request", "response":
		return dst, false
	case "connection":
		switch {
		case name == "requested_server_name" && v.x.Request.Authority != "":
			return append(dst, v.x.Request.Authority...), true
		case name == "termination_details":
			return append(dst, v.reason...), v.final && v.reason != ""
		}
	}
	return v.property(dst, path)
}

// SetProperty implements host.Stream; see stream.SetProperty.
func (s *tcpStream) SetProperty(path string, value []byte) {
	f, x := s.f, s.f.x
	path = abi.TrimPath(path)
	x.Mu.Lock()
	defer x.Mu.Unlock()
	first, rest, more := abi.CutPath(path)
	if first != "wproxy" || !more {
		if roomForProp(x.Props(), path, value) {
			x.SetProp(path, value)
		}
		return
	}
	kind, key, named := abi.CutPath(rest)
	value = value[:min(len(value), maxLogValue)]
	switch {
	case kind == "verdict" && !named:
		f.verdict = string(value)
	case kind == "log" && named && key != "" && len(key) <= maxLogKey:
		if len(x.LogFields) < maxLogFields {
			x.SetLogField(key, string(value))
		}
	}
}

// keep copies what a guest may still read when it has put off the end of its stream.
func (f *tcpFilter) keep() host.Stream {
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	s := &tcpFrozen{}
	s.x.Start, s.x.Finished, s.x.RequestID, s.x.Reason = x.Start, x.Finished, x.RequestID, x.Reason
	s.x.ClientAddr, s.x.ClientIP = x.ClientAddr, x.ClientIP
	s.x.BytesIn, s.x.BytesOut, s.x.Upstream, s.x.Route = x.BytesIn, x.BytesOut, x.Upstream, x.Route
	for _, p := range x.Props() {
		s.x.SetProp(p.Path, slices.Clone(p.Value))
	}
	s.request = *x.Request
	s.x.Request = &s.request
	s.view = tcpView(&s.x, true)
	return s
}

// tcpFrozen is a connection that is over, for a guest that has not finished with it.
type tcpFrozen struct{ frozen }

// Map implements host.Stream.
func (s *tcpFrozen) Map(abi.MapType) host.Map { return nil }

// Property implements host.Stream.
func (s *tcpFrozen) Property(dst []byte, path string) ([]byte, bool) {
	return tcpProperty(&s.view, dst, path)
}
