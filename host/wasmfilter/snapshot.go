package wasmfilter

import (
	"iter"
	"slices"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// view is what properties are read from: the exchange and what the filter knows of
// it, live or copied.
type view struct {
	x        *filter.Exchange
	head     *exchange.Request // that is shown
	outcome  *filter.Outcome
	route    *filter.Route
	response *exchange.Response
	status   int
	reason   string
	final    bool

	requestTrailers, responseTrailers *exchange.Fields
}

// snapshot copies what a guest may still read when it has put off the end of its
// stream: the exchange itself goes back to its pool.
func (f *Filter) snapshot() host.Stream {
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	s := &frozen{outcome: f.outcome}
	s.x.Start, s.x.Finished, s.x.RequestID = x.Start, x.Finished, x.RequestID
	s.x.ClientAddr, s.x.ClientIP = x.ClientAddr, x.ClientIP
	s.x.BytesIn, s.x.BytesOut = x.BytesIn, x.BytesOut
	for _, p := range x.Props() {
		s.x.SetProp(p.Path, slices.Clone(p.Value))
	}
	s.request = *f.shownRequest()
	s.request.Fields = copyFields(&s.request.Fields)
	s.x.Request = &s.request
	s.view = view{x: &s.x, head: &s.request, outcome: &s.outcome, route: f.route, status: f.status, reason: f.reason, final: true}
	if f.resp.stage != stageNone {
		s.response = *f.resp.head
		s.response.Fields = copyFields(&f.resp.head.Fields)
		s.view.response = &s.response
	}
	s.view.requestTrailers = copyTrailers(f.req.trailer)
	s.view.responseTrailers = copyTrailers(f.resp.trailer)
	return s
}

// Tell implements host.Teller.
func (s *frozen) Tell() (route, requestID string) {
	if s.view.route != nil {
		route = s.view.route.Name
	}
	return route, s.x.RequestID
}

func copyFields(f *exchange.Fields) (out exchange.Fields) {
	out.CopyFrom(f)
	return out
}

func copyTrailers(f *exchange.Fields) *exchange.Fields {
	if f == nil {
		return nil
	}
	out := copyFields(f)
	return &out
}

// frozen is an exchange that is over, for a guest that has not finished with it.
// Nothing of it can be changed but its own bag of properties.
type frozen struct {
	view     view
	x        filter.Exchange
	outcome  filter.Outcome
	request  exchange.Request
	response exchange.Response
}

var (
	_ host.Stream = (*frozen)(nil)
	_ host.Sizer  = (*frozen)(nil)
)

// Size implements host.Sizer.
func (s *frozen) Size() int {
	const own, perField = 1 << 10, 32 // about
	n := own + len(s.request.Target) + len(s.request.Authority)
	for _, f := range [...]*exchange.Fields{
		&s.request.Fields, &s.response.Fields, s.view.requestTrailers, s.view.responseTrailers,
	} {
		if f != nil {
			n += f.Size() + perField*f.Len()
		}
	}
	for _, p := range s.x.Props() {
		n += perField + len(p.Path) + len(p.Value)
	}
	return n
}

// Map implements host.Stream.
func (s *frozen) Map(kind abi.MapType) host.Map {
	switch kind {
	case abi.MapRequestHeaders:
		r := &s.request
		return frozenMap{pseudo: []abi.Pair{
			{Name: ":authority", Value: r.Authority},
			{Name: ":path", Value: r.Target},
			{Name: ":method", Value: r.Method},
			{Name: ":scheme", Value: r.Scheme},
		}, fields: &r.Fields}
	case abi.MapResponseHeaders:
		if s.view.response != nil {
			return frozenMap{
				pseudo: []abi.Pair{{Name: ":status", Value: statusText(s.response.Status)}},
				fields: &s.response.Fields,
			}
		}
	case abi.MapRequestTrailers:
		if s.view.requestTrailers != nil {
			return frozenMap{fields: s.view.requestTrailers}
		}
	case abi.MapResponseTrailers:
		if s.view.responseTrailers != nil {
			return frozenMap{fields: s.view.responseTrailers}
		}
	default:
	}
	return nil
}

// Buffer implements host.Stream: bodies are gone.
func (s *frozen) Buffer(abi.BufferType) host.Buffer { return nil }

// Property implements host.Stream.
func (s *frozen) Property(dst []byte, path string) ([]byte, bool) {
	return s.view.property(dst, abi.TrimPath(path))
}

// SetProperty implements host.Stream.
func (s *frozen) SetProperty(path string, value []byte) {
	if path = abi.TrimPath(path); roomForProp(s.x.Props(), path, value) {
		s.x.SetProp(path, value)
	}
}

// Resume implements host.Stream; there is nothing to resume.
func (s *frozen) Resume(abi.StreamType) {}

// Close implements host.Stream; it is closed.
func (s *frozen) Close(abi.StreamType) {}

// Reply implements host.Stream; it is answered.
func (s *frozen) Reply(host.Reply) {}

// Replied implements host.Replier.
func (s *frozen) Replied() bool { return true }

// ClearRouteCache implements host.Stream; it has been routed.
func (s *frozen) ClearRouteCache() {}

// frozenMap is a header map that ignores edits.
type frozenMap struct {
	pseudo []abi.Pair
	fields *exchange.Fields
}

// Len implements host.Map.
func (m frozenMap) Len() int { return len(m.pseudo) + m.fields.Len() }

// Get implements host.Map.
func (m frozenMap) Get(name string) (string, bool) {
	for n, v := range m.All() {
		if sameName(name, n) {
			return v, true
		}
	}
	return "", false
}

// All implements host.Map.
func (m frozenMap) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, p := range m.pseudo {
			if !yield(p.Name, p.Value) {
				return
			}
		}
		for _, x := range m.fields.List() {
			if !yield(x.Name, x.Value) {
				return
			}
		}
	}
}

// Set implements host.Map.
func (m frozenMap) Set(string, string) bool { return true }

// Add implements host.Map.
func (m frozenMap) Add(string, string) bool { return true }

// Remove implements host.Map.
func (m frozenMap) Remove(string) bool { return true }

// Replace implements host.Map.
func (m frozenMap) Replace([]abi.Pair) bool { return true }
