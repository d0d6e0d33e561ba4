package plugintest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// A Chain is several plugins on one route: requests pass them in order, responses
// in reverse order.
type Chain []*Plugin

// A Stream is one exchange that goes through a plugin or a Chain. Each method that
// sends something returns when nothing more can happen by itself: the message
// has arrived at the other end, the plugin has answered, or it holds the message
// back.
type Stream struct {
	t       *testing.T
	e       *engine
	request Request // as sent
	closed  bool
}

// Open begins an exchange: it sends req, all of it unless req.More is set.
func (p *Plugin) Open(req Request) *Stream {
	p.t.Helper()
	return Chain{p}.Open(req)
}

// Do runs a whole exchange: it sends req, and what arrives at the upstream is
// answered with resp (the zero Response is an empty 200). The exchange is
// finished when Do returns. A plugin that still holds a message back fails the
// test: use Open for those.
func (p *Plugin) Do(req Request, resp Response) *Stream {
	p.t.Helper()
	return Chain{p}.Do(req, resp)
}

// Open begins an exchange that goes through all plugins of c.
func (c Chain) Open(req Request) *Stream {
	s, err := c.TryOpen(req)
	if err != nil {
		c[0].t.Helper()
		c[0].t.Fatalf("plugintest: %v", err)
	}
	return s
}

// TryOpen is Open for callers that deal themselves with a request that no client could
// send.
func (c Chain) TryOpen(req Request) (*Stream, error) {
	if len(c) == 0 {
		panic("plugintest: empty Chain")
	}
	p := c[0]
	factories := make([]filter.Factory, len(c))
	for i := range c {
		factories[i] = c[i].factory
	}
	var deadline time.Duration
	if p.o.Timeout > 0 {
		deadline = p.o.Timeout
	}
	s, err := p.begin(factories, &filter.Route{Name: p.o.Route, Cluster: "upstream", Metadata: p.o.Metadata}, deadline, req, false)
	synctest.Wait()
	return s, err
}

// begin begins an exchange, and does not wait for what comes of it.
func (p *Plugin) begin(factories []filter.Factory, route *filter.Route, deadline time.Duration, req Request, refresh bool) (*Stream, error) {
	s, err := newStream(p.t, factories, route, deadline, req)
	if err != nil {
		return nil, err
	}
	s.e.x.Refresh = refresh
	s.e.refresh = func(from int, req Request) bool {
		r, err := p.begin(factories[from:], route, deadline, req, true)
		if err != nil {
			return false
		}
		p.sink.mu.Lock()
		defer p.sink.mu.Unlock()
		p.sink.refreshes = append(p.sink.refreshes, r)
		return true
	}
	p.sink.addCloser(s.finish)
	s.start()
	return s, nil
}

// Do runs a whole exchange through all plugins of c; see Plugin.Do.
func (c Chain) Do(req Request, resp Response) *Stream {
	c[0].t.Helper()
	s := c.Open(req)
	if up := s.Upstream(); up.Ended || up.Method != "" && req.More {
		s.Respond(resp)
	}
	if s.Paused() {
		s.t.Fatalf("the plugin holds the message back; the client has got %+v, the upstream %+v", s.Client(), s.Upstream())
	}
	s.Finish()
	return s
}

// OpenFilters begins an exchange that goes through the filters of any factories, not
// only those of plugins. It has to be called in a synctest bubble. deadline is
// that of the route, 0 for none. The caller calls Finish.
func OpenFilters(t *testing.T, factories []filter.Factory, route *filter.Route, deadline time.Duration, req Request) *Stream {
	t.Helper()
	s, err := newStream(t, factories, route, deadline, req)
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	s.start()
	synctest.Wait()
	return s
}

func newStream(t *testing.T, factories []filter.Factory, route *filter.Route, deadline time.Duration, req Request) (*Stream, error) {
	t.Helper()
	e, err := newEngine(factories, route, deadline, req)
	if err != nil {
		return nil, err
	}
	return &Stream{t: t, e: e, request: req}, nil
}

// start sends the request.
func (s *Stream) start() {
	e, req := s.e, s.request
	fields := &e.x.Request.Fields
	fill(fields, req.Fields)
	e.x.Request.Length = frame(fields, req.Body, req.Trailers, req.More)
	end := !req.More && len(req.Body) == 0 && len(req.Trailers) == 0
	e.request.push(func() error { return e.request.sink.Head(e.x.Request, end) })
	if !end && (len(req.Body) > 0 || len(req.Trailers) == 0 && !req.More) {
		e.request.push(func() error { return e.request.sink.Data(req.Body, !req.More && len(req.Trailers) == 0) })
	}
	if len(req.Trailers) > 0 {
		s.pushTrailers(&e.request.feeder, e.request.sink.Trailer, req)
	}
}

func (s *Stream) pushTrailers(f *feeder, trailer func(*exchange.Fields) error, m Request) {
	var t exchange.Fields
	fill(&t, m.Trailers)
	f.push(func() error { return trailer(&t) })
}

// Send sends more of the request's body. With no data and end not set it is a
// flush: the client has nothing more to send for now.
func (s *Stream) Send(data []byte, end bool) {
	s.t.Helper()
	e := s.e
	data = append([]byte(nil), data...)
	e.request.push(func() error { return e.request.sink.Data(data, end) })
	synctest.Wait()
}

// SendTrailers ends the request with trailers (names and values in turn).
func (s *Stream) SendTrailers(namesAndValues ...string) {
	s.t.Helper()
	s.pushTrailers(&s.e.request.feeder, s.e.request.sink.Trailer, Request{Trailers: Fields(namesAndValues...)})
	synctest.Wait()
}

// Respond sends the upstream's response, all of it unless resp.More is set.
func (s *Stream) Respond(resp Response) {
	s.t.Helper()
	e := s.e
	if !e.claim() {
		return // answered already: a proxy resets the upstream
	}
	h := &exchange.Response{Status: resp.Status}
	if h.Status == 0 {
		h.Status = 200
	}
	fill(&h.Fields, resp.Fields)
	h.Length = frame(&h.Fields, resp.Body, resp.Trailers, resp.More)
	e.setOutcome(resp)
	e.setResponse(h)
	sink := e.responses[len(e.responses)-1]
	bodyless := e.head || h.Status == 204 || h.Status == 304
	end := bodyless || !resp.More && len(resp.Body) == 0 && len(resp.Trailers) == 0
	e.response.push(func() error { return sink.Head(h, end) })
	if !end && (len(resp.Body) > 0 || len(resp.Trailers) == 0 && !resp.More) {
		body := append([]byte(nil), resp.Body...)
		e.response.push(func() error { return sink.Data(body, !resp.More && len(resp.Trailers) == 0) })
	}
	if len(resp.Trailers) > 0 {
		s.pushTrailers(&e.response, sink.Trailer, Request{Trailers: resp.Trailers})
	}
	synctest.Wait()
}

// RespondInformational sends a 1xx head before the response.
func (s *Stream) RespondInformational(status int, namesAndValues ...string) {
	s.t.Helper()
	e := s.e
	h := &exchange.Response{Status: status}
	fill(&h.Fields, Fields(namesAndValues...))
	e.response.push(func() error { return e.responses[len(e.responses)-1].Head(h, false) })
	synctest.Wait()
}

// RespondData sends more of the response's body, like Send. A plugin that stores a response has what
// was sent of it passed on at the flush.
func (s *Stream) RespondData(data []byte, end bool) {
	s.t.Helper()
	e := s.e
	data = append([]byte(nil), data...)
	e.response.push(func() error { return e.responses[len(e.responses)-1].Data(data, end) })
	synctest.Wait()
}

// RespondTrailers ends the response with trailers.
func (s *Stream) RespondTrailers(namesAndValues ...string) {
	s.t.Helper()
	s.pushTrailers(&s.e.response, s.e.responses[len(s.e.responses)-1].Trailer, Request{Trailers: Fields(namesAndValues...)})
	synctest.Wait()
}

// Upstream returns what has arrived at the upstream so far. Its Method is "" if
// not even the head has.
func (s *Stream) Upstream() Request {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	r := s.e.up.message
	r.Body = append([]byte(nil), r.Body...)
	return r
}

// Client returns what has arrived at the client so far.
func (s *Stream) Client() Response {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	r := s.e.down.message
	r.Body = append([]byte(nil), r.Body...)
	return r
}

// Informational returns the 1xx statuses that have arrived at the client.
func (s *Stream) Informational() []int {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return append([]int(nil), s.e.down.informational...)
}

// Flushes returns how often what was sent was flushed towards the upstream and
// towards the client.
func (s *Stream) Flushes() (upstream, client int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.up.flushes, s.e.down.flushes
}

// Paused reports whether a plugin keeps something that was sent from being passed
// on with the sender waiting: a proxy would have stopped reading.
func (s *Stream) Paused() bool { return s.e.request.busy() || s.e.response.busy() }

// Reason is what the access log would give as the reason for an answer that
// the upstream has not made, e.g. the details of a local reply; "" if there is
// none.
func (s *Stream) Reason() string {
	s.e.x.Mu.Lock()
	defer s.e.x.Mu.Unlock()
	return s.e.x.Reason
}

// Aborted returns why both sides were reset, "" if they were not.
func (s *Stream) Aborted() string {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.aborted
}

// Selected returns the upstream that a plugin has chosen instead of the route's, or "".
func (s *Stream) Selected() string {
	s.e.x.Mu.Lock()
	defer s.e.x.Mu.Unlock()
	return s.e.x.Selected
}

// Rerouted reports whether the route is matched again because of what the
// plugins did to the request.
func (s *Stream) Rerouted() bool {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.rerouted
}

// LogField returns a field that a plugin has added to the access log line.
func (s *Stream) LogField(key string) string {
	s.e.x.Mu.Lock()
	defer s.e.x.Mu.Unlock()
	for _, f := range s.e.x.LogFields {
		if f.Name == key {
			return f.Value
		}
	}
	return ""
}

// Verdict returns what the plugin called name says it decided. It is there once
// the exchange is finished.
func (s *Stream) Verdict(name string) string {
	s.e.x.Mu.Lock()
	defer s.e.x.Mu.Unlock()
	for _, v := range s.e.x.Verdicts {
		if v.Plugin == name {
			return v.Verdict
		}
	}
	return ""
}

// Property returns a property that a plugin has set; parts is its path.
func (s *Stream) Property(parts ...string) ([]byte, bool) {
	s.e.x.Mu.Lock()
	defer s.e.x.Mu.Unlock()
	return s.e.x.Prop(joinPath(parts))
}

// Leave has the client go away.
func (s *Stream) Leave() {
	s.e.cancel()
	synctest.Wait()
}

// Finish ends the exchange: on_done, on_log and on_delete are called. What is still
// held back is dropped, as when the client has gone. Finishing again has no effect.
func (s *Stream) Finish() {
	s.t.Helper()
	s.finish()
	if !errors.Is(s.e.err(), context.Canceled) && s.e.stuck() {
		s.t.Errorf("plugintest: a message is still being passed on after the exchange has ended")
	}
}

func (s *Stream) finish() {
	if s.closed {
		return
	}
	s.closed = true
	s.e.finish()
	synctest.Wait()
}
