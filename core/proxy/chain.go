package proxy

import (
	"errors"
	"slices"

	"wproxy/core/exchange"
)

// buildChain makes the route's filters and links their sinks. A factory that
// fails answers the exchange, through the filters made before it.
func (x *state) buildChain() error {
	var failed error
	var name string
	for _, f := range x.route.Filters {
		made, err := f.New(&x.fx)
		if err != nil {
			failed, name = err, f.Name()
			break
		}
		x.filters = append(x.filters, made)
	}
	x.link()
	if failed == nil {
		return nil
	}
	var e *exchange.Error
	if errors.As(failed, &e) && e.Status != 0 {
		return x.answer(e.Status, e.Reason)
	}
	return x.answer(503, "plugin_failed:"+name)
}

// link wraps the ends of both directions with the filters' sinks. Between them
// sit links: they know how far the request has got, and take a filter out of a
// body's way that has no use for it.
func (x *state) link() {
	n := len(x.filters)
	if n == 0 {
		x.first, x.last = connector{x}, outlet{x}
		return
	}
	x.requests = slices.Grow(x.requests[:0], n)[:n] // not moved from here on: links point at each other
	x.responses = slices.Grow(x.responses[:0], n)[:n]
	var request exchange.Sink[*exchange.Request] = connector{x}
	for i := n - 1; i >= 0; i-- {
		s := x.filters[i].Request(request)
		if s == request { // not interested
			continue
		}
		x.requests[i] = requestLink{x: x, reached: int32(i + 1), sink: s, next: request, to: s} //nolint:gosec // a handful
		request = &x.requests[i]
	}
	var response exchange.Sink[*exchange.Response] = outlet{x}
	for i := range n {
		s := x.filters[i].Response(response)
		x.responses[i] = responseLink{x: x, index: int32(i), sink: s, next: response, to: s} //nolint:gosec // a handful
		response = &x.responses[i]
	}
	x.first, x.last = request, response
}

// A requestLink stands before a filter's request sink.
type requestLink struct {
	x       *state
	reached int32 // filters that the head has been shown to, with this one
	sink    exchange.Sink[*exchange.Request]
	next    exchange.Sink[*exchange.Request]
	to      exchange.Sink[*exchange.Request] // where Data goes
}

// Head implements exchange.Sink.
func (l *requestLink) Head(h *exchange.Request, end bool) error {
	l.x.reached.Store(l.reached)
	err := l.sink.Head(h, end)
	if err == nil && !end && detached(l.sink) {
		l.to = l.next
		if n, ok := l.next.(*requestLink); ok { // its Head has returned already
			l.to = n.to
		}
	}
	return err
}

// Data implements exchange.Sink.
func (l *requestLink) Data(p []byte, end bool) error { return l.to.Data(p, end) }

// Trailer implements exchange.Sink.
func (l *requestLink) Trailer(f *exchange.Fields) error { return l.to.Trailer(f) }

// A responseLink stands before a filter's response sink.
type responseLink struct {
	x     *state
	index int32
	sink  exchange.Sink[*exchange.Response]
	next  exchange.Sink[*exchange.Response]
	to    exchange.Sink[*exchange.Response] // where Data goes
}

// Head implements exchange.Sink. A filter that the request has not reached does
// not see the response (architecture, rule 1).
func (l *responseLink) Head(h *exchange.Response, end bool) error {
	skip := l.index >= l.x.reached.Load() || l.sink == l.next
	if skip {
		l.to = l.next
	}
	err := l.to.Head(h, end)
	if err == nil && !end && (skip || detached(l.sink)) {
		l.to = l.next
		if n, ok := l.next.(*responseLink); ok {
			l.to = n.to
		}
	}
	return err
}

// Data implements exchange.Sink.
func (l *responseLink) Data(p []byte, end bool) error { return l.to.Data(p, end) }

// Trailer implements exchange.Sink.
func (l *responseLink) Trailer(f *exchange.Fields) error { return l.to.Trailer(f) }

func detached(s any) bool {
	d, ok := s.(exchange.Detacher)
	return ok && d.Detached()
}
