package wasmfilter

import (
	"strconv"
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/host"
)

// stream is the exchange as the guest's host functions see it. All of it is called
// under the VM's lock: it sets marks, wakes, and starts goroutines at most.
type stream struct{ f *Filter }

var (
	_ host.Stream  = (*stream)(nil)
	_ host.Failer  = (*stream)(nil)
	_ host.Replier = (*stream)(nil)
	_ host.Teller  = (*stream)(nil)

	_ host.Deadliner = (*stream)(nil)
	_ host.Selector  = (*stream)(nil)
	_ host.Delayer   = (*stream)(nil)
	_ host.Noter     = (*stream)(nil)
)

// Deadline implements host.Deadliner. It is a little before the end of a pause, so that
// the guest hears of a call that took too long and can decide. What it asks for when the
// exchange is over, to log it say, has no deadline.
func (s *stream) Deadline() time.Time {
	x := s.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.Deadline.IsZero() || !x.Finished.IsZero() {
		return time.Time{}
	}
	return x.Deadline.Add(-2 * deadlineMargin)
}

// Tell implements host.Teller.
func (s *stream) Tell() (route, requestID string) {
	x := s.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.Route != nil {
		route = x.Route.Name
	}
	return route, x.RequestID
}

// Map implements host.Stream.
func (s *stream) Map(kind abi.MapType) host.Map { return s.f.maps.get(s.f, kind) }

// Buffer implements host.Stream.
func (s *stream) Buffer(kind abi.BufferType) host.Buffer {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	switch {
	case kind == abi.BufferRequestBody && f.req.body.open:
		return &f.req.half
	case kind == abi.BufferResponseBody && f.resp.body.open:
		return &f.resp.half
	}
	return nil
}

// Resume implements host.Stream. It has no effect on a direction that is not held
// back (abi.md 5.3).
func (s *stream) Resume(side abi.StreamType) {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.x.ClosingLocked() {
		return
	}
	switch side {
	case abi.StreamRequest:
		if f.req.resumeLocked() && f.x.StartLocked() {
			go f.req.resumed() // ends when what is held has been pushed; Close waits
		}
	case abi.StreamResponse:
		if f.resp.resumeLocked() && f.x.StartLocked() {
			go f.resp.resumed() // as above
		}
	default: // TCP
	}
}

// SelectUpstream implements host.Selector.
func (s *stream) SelectUpstream(name string) bool {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.x.ClosingLocked() || f.repliedLocked() || f.req.stage != stageHere {
		return false
	}
	f.x.Selected = name
	return true
}

// ResumeAfter implements host.Delayer. Whoever is in the direction parks there, and that
// ends at the time: there is no timer that could come late.
func (s *stream) ResumeAfter(side abi.StreamType, d time.Duration) bool {
	f := s.f
	h := &f.req.half
	if side == abi.StreamResponse {
		h = &f.resp.half
	}
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.x.ClosingLocked() || f.repliedLocked() || !h.inside && !h.parked {
		return false
	}
	h.resumeAt = time.Now().Add(d)
	if h.parked {
		h.Wake()
	}
	return true
}

// Close implements host.Stream: both sides are reset, whichever is named, as one
// half of an exchange is of no use without the other. What is of TCP is none of its
// business, as with the reference host.
func (s *stream) Close(side abi.StreamType) {
	if side > abi.StreamResponse {
		return
	}
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	f.abortLocked("closed_by_plugin:" + f.factory.name)
}

// Reply implements host.Stream.
func (s *stream) Reply(r host.Reply) {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.repliedLocked() {
		return
	}
	f.replied, f.reply = true, &r
	f.dispatchLocked()
}

// Replied implements host.Replier.
func (s *stream) Replied() bool {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	return f.repliedLocked()
}

// repliedLocked reports whether it is too late for a local reply.
func (f *Filter) repliedLocked() bool {
	return f.x.ClosingLocked() || f.replied || f.failed != nil
}

// ClearRouteCache implements host.Stream.
func (s *stream) ClearRouteCache() {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	f.reroute = true
}

// Failed implements host.Failer: the VM has died while no callback of this stream
// was running.
func (s *stream) Failed(err error) {
	f := s.f
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.x.ClosingLocked() || f.failed != nil {
		return
	}
	f.failed = err
	f.nudgeLocked()
}

// nudgeLocked has both directions look at what has become of the plugin: what they
// hold back is let go of, or given up.
func (f *Filter) nudgeLocked() {
	if f.req.held && !f.req.markLocked() && f.x.StartLocked() {
		go f.req.resumed() // ends when what is held has been pushed; Close waits
	}
	if f.resp.held && !f.resp.markLocked() && f.x.StartLocked() {
		go f.resp.resumed() // as above
	}
}

// SetProperty implements host.Stream. Some names mean something to the host; all
// are kept in the bag that the plugins of the exchange share (abi.md 6.2).
func (s *stream) SetProperty(path string, value []byte) {
	f := s.f
	path = abi.TrimPath(path)
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if first, rest, more := abi.CutPath(path); first == "wproxy" && more {
		f.setOwnLocked(rest, string(value[:min(len(value), maxLogValue)]))
		return
	}
	switch path {
	case "clear_route_cache":
		f.noReroute = string(value) == "off"
	case "set_decoder_buffer_limit":
		f.setLimitLocked(abi.StreamRequest, value)
	case "set_encoder_buffer_limit":
		f.setLimitLocked(abi.StreamResponse, value)
	}
	if roomForProp(f.x.Props(), path, value) {
		f.x.SetProp(path, value)
	}
}

// Note implements host.Noter.
func (s *stream) Note(path, value string) {
	s.f.x.Mu.Lock()
	defer s.f.x.Mu.Unlock()
	s.f.setOwnLocked(path, value[:min(len(value), maxLogValue)])
}

// roomForProp reports whether the bag stays within its bounds with the property at
// path set to value.
func roomForProp(props []filter.Prop, path string, value []byte) bool {
	n, bytes := 1, len(path)+len(value)
	for i := range props {
		if props[i].Path != path {
			n++
			bytes += len(props[i].Path) + len(props[i].Value)
		}
	}
	return n <= maxProps && bytes <= maxPropBytes
}

// setOwnLocked takes what a plugin says about itself (config.md): a field of the
// access log line, or its verdict.
func (f *Filter) setOwnLocked(path, value string) {
	first, key, more := abi.CutPath(path)
	switch {
	case first == "verdict" && !more:
		f.verdict = value
	case first == "log" && more && key != "" && len(key) <= maxLogKey:
		if len(f.x.LogFields) < maxLogFields || f.hasLogField(key) {
			f.x.SetLogField(key, value)
		}
	}
}

func (f *Filter) hasLogField(key string) bool {
	for i := range f.x.LogFields {
		if f.x.LogFields[i].Name == key {
			return true
		}
	}
	return false
}

// setLimitLocked sets how much of a body may be held back: decimal text, as
// Higress plugins write it.
func (f *Filter) setLimitLocked(side abi.StreamType, value []byte) {
	if n, err := strconv.ParseUint(string(value), 10, 32); err == nil && n > 0 {
		f.limits[side] = int(min(n, maxBodyBuffer))
	}
}

// abortLocked asks for a reset of the exchange.
func (f *Filter) abortLocked(reason string) {
	if f.x.ClosingLocked() || f.aborted || f.abort != "" {
		return
	}
	f.abort = reason
	f.dispatchLocked()
}

// dispatchLocked finds somebody to act on the marks reply and abort: a goroutine
// that is in the right direction and will look at the marks, or one that is
// started.
func (f *Filter) dispatchLocked() {
	if f.reply != nil {
		switch f.resp.stage {
		case stageHere: // replaces the response that is held
			if !f.resp.markLocked() && f.x.StartLocked() {
				go f.resp.resumed() // ends when the reply has been pushed; Close waits
			}
			return
		case stagePassed: // too late (abi.md 5.8)
			f.reply = nil
			if f.abort == "" && !f.aborted {
				f.abort = "late_local_reply:" + f.factory.name
			}
		default:
			if !f.outrun && !f.req.markLocked() && f.x.StartLocked() {
				go f.answerAside() // ends when the reply has been pushed; Close waits
			}
			return
		}
	}
	if f.abort != "" && !f.req.markLocked() && !f.resp.markLocked() && f.x.StartLocked() {
		go f.abortAside() // ends at once: a reset does not block
	}
}

// abortAside makes a reset that no direction is there to make.
func (f *Filter) abortAside() {
	defer f.x.Pushed()
	x := f.x
	x.Mu.Lock()
	reason := f.abort
	f.abort = ""
	f.aborted = f.aborted || reason != ""
	x.Mu.Unlock()
	if reason != "" {
		x.Engine.Abort(reason)
	}
}
