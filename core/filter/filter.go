// Package filter is all that core knows of plugins: a Filter wraps the sinks of
// one exchange, a Factory makes Filters for a route.
//
// Contract (architecture, "The contract of an exchange"): a filter passes a
// message on by calling next, holds it back by not calling next yet (its feeder
// is parked inside Head, Data or Trailer), edits the head in place before
// passing it on, and answers with Exchange.Answer. It never starts a goroutine
// per exchange on the plain path.
package filter

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync"
	"time"

	"wproxy/core/exchange"
)

// A Filter handles one exchange. Request and Response are called once each,
// before the first head is pushed, and wrap the sink that follows; a filter with
// no interest in a direction returns next. Requests run through a route's
// filters in order, responses in reverse order.
type Filter interface {
	Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request]
	Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response]

	// Close is called once, after both messages, when the exchange's record is
	// final (status, bytes, times). err is nil when the exchange went well. It
	// runs before the heads are recycled. The Filter may be reused afterwards by its Factory.
	Close(err error)
}

// A BodyInspector is a Filter that may refuse a request for what its body says. If
// InspectsRequestBody reports true, which the engine asks when it has the head of
// a request whose body is to come, no upstream is dialed before the first bytes of the
// body, or its end, have come out of the last filter: a body that is refused at once
// does not touch the upstream, and costs no connection.
type BodyInspector interface{ InspectsRequestBody() bool }

// A Factory makes filters. It is safe for concurrent use and lives as long as
// the snapshot that names it.
type Factory interface {
	// Name is the plugin's name in the configuration.
	Name() string
	// New makes the filter of one exchange. An error answers the exchange
	// with 503 and reason "plugin_failed:NAME" unless it is an *exchange.Error
	// with its own Status and Reason.
	New(x *Exchange) (Filter, error)
}

// An Exchange is what filters may see of the exchange they are part of. It is
// made by the engine, shared by the filters of one exchange, and valid until
// the last Close has returned. Fields are written by the engine only, but for
// Reason and Response when a filter replaces the response; filters edit Request
// and Response in place while they hold them.
type Exchange struct {
	Context  context.Context // done when the client has gone or the exchange was given up
	Start    time.Time
	Deadline time.Time // of the whole exchange (route timeout); zero: none

	RequestID string
	Request   *exchange.Request  // never nil
	Response  *exchange.Response // nil until a final head is on its way back

	// The trailers as they were passed on, for filters that those went past; nil until
	// then. Written under Mu.
	RequestTrailer, ResponseTrailer *exchange.Fields

	ClientAddr netip.Addr // after trust_proxy
	ClientIP   string     // ClientAddr.String(), made once

	Route    *Route
	Upstream Outcome
	Selected string // upstream that a filter has chosen instead of the route's, before the request has passed it; "": none. Written under Mu

	BytesIn, BytesOut int64     // body bytes so far: from the client, to the client
	Reason            string    // why wproxy answered itself; "". A filter that replaces the response it holds sets it, under Mu, and the log shows it
	Finished          time.Time // set before Close

	Engine Engine

	// Timed says that somebody wants to know what guests of filters do in this exchange, and
	// when: filters tell with NoteCall.
	Timed bool

	// Refresh is set in an exchange without a client, which a filter asked for (Streamer).
	Refresh bool

	// Mu guards what guests may touch from outside their own direction (a
	// tick, the other half of the exchange): edits of Request and Response by
	// filters, the bags below, and who is parked. It is a leaf, taken for single
	// accesses and held across no call. The engine takes it where it writes
	// Response, Route, Upstream or Reason once the request is with the filters,
	// as an answer may come from a filter at any time, and needs it for nothing else.
	Mu sync.Mutex

	grpc       uint8   // whether the client speaks gRPC, once that is known
	requestRun bool    // the request head has reached a filter
	over       bool    // the answer has ended
	parked     []Waker // filters whose feeder waits

	closing bool // Quiesce was called
	pushers sync.WaitGroup

	props     []Prop
	LogFields []exchange.Field // filled through SetLogField; order kept
	Verdicts  []Verdict
	calls     []Calls
}

// A Route is what filters may know of the matched route. Immutable.
type Route struct {
	Name     string
	Cluster  string         // name of its upstream; "": it has several, or none
	Metadata map[string]any // routes.R.metadata
}

// An Outcome tells how the last try at an upstream went.
type Outcome struct {
	Cluster       string // name of the upstream
	Address       string // of the server
	Attempts      int
	Failure       string // "", "connect", "reset", "timeout", "tls"
	ConnectTime   time.Duration
	FirstByteTime time.Duration
	Reused        bool
	TLS           *tls.ConnectionState // of the connection; nil: it is in clear, or there is none
}

// A Prop is a property that a plugin has set, for later plugins of the chain.
type Prop struct {
	Path  string // parts joined by NUL
	Value []byte
}

// A Verdict is what a plugin says it decided, for the access log.
type Verdict struct {
	Plugin  string
	Verdict string
	Took    time.Duration // time inside the guest
}

// An Answer is a response made by wproxy instead of an upstream.
type Answer struct {
	Head    *exchange.Response // Status, Fields; Length is set from Body
	Body    []byte             // owned by the caller again after Answer has returned
	Reason  string             // log field "reason", e.g. the details of a local reply
	Trailer *exchange.Fields   // nil: none
}

// Engine is what the engine does for filters.
type Engine interface {
	// Answer claims the exchange's one answer and pushes it, on the calling
	// goroutine, into the response side of from itself, then of the filters
	// before it. It returns exchange.ErrAnswered when somebody else was
	// first. A filter that answers in its request direction returns
	// exchange.ErrAnswered from the sink call it is in. A filter that replaces a
	// response it is holding does not call Answer: it pushes another head into
	// its own next and returns exchange.ErrAnswered.
	Answer(from Filter, a *Answer) error

	// Abort resets both sides of the exchange; reason goes to the log. It may
	// be called from any goroutine until Close has returned.
	Abort(reason string)

	// Fail gives the exchange up because of e, after the head of the answer has
	// been passed on: if the client has seen nothing of it yet, it is answered
	// with the status and reason of e instead, and otherwise both sides are reset.
	// What the filter returns afterwards does not matter. It may be called from
	// any goroutine until Close has returned, and does not block.
	Fail(e *exchange.Error)

	// Reroute says whether the route is matched again once the request head has
	// passed the last filter, as it is if filters have changed what matching reads
	// and nobody has said anything. true: in any case (Proxy-Wasm
	// clear_route_cache). false: not for what this filter has changed; the true of
	// another prevails.
	Reroute(on bool)
}

// StartLocked counts a goroutine that a filter is about to start because nobody is
// in the direction that it has something to push into; the goroutine ends with
// Pushed. False once filters are being closed: it must not be started then. The
// caller holds Mu.
func (x *Exchange) StartLocked() bool {
	if x.closing {
		return false
	}
	x.pushers.Add(1)
	return true
}

// Pushed ends what StartLocked began.
func (x *Exchange) Pushed() { x.pushers.Done() }

// Quiesce waits for the goroutines that filters have started, and keeps them from
// starting more. A filter calls it first when it is closed, as the goroutine of
// another may be pushing through it. Both messages have ended or been reset by
// then, so none blocks for long.
func (x *Exchange) Quiesce() {
	x.Mu.Lock()
	x.closing = true
	x.Mu.Unlock()
	x.pushers.Wait()
}

// ClosingLocked reports whether Quiesce was called. The caller holds Mu.
func (x *Exchange) ClosingLocked() bool { return x.closing }

// A Waker is a filter that holds a message back with its feeder parked.
type Waker interface{ Wake() }

// Park registers w, which is about to park the goroutine that feeds it. False if the answer has ended already: then there is nothing to wait for.
func (x *Exchange) Park(w Waker) bool {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.over {
		return false
	}
	x.parked = append(x.parked, w)
	return true
}

// Unpark forgets w.
func (x *Exchange) Unpark(w Waker) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	for i := range x.parked {
		if x.parked[i] == w {
			x.parked = append(x.parked[:i], x.parked[i+1:]...)
			return
		}
	}
}

// AnswerEnded says that the answer has been passed on whole, or that the
// exchange was given up: what is left of the request is not wanted any more, and
// filters that hold a message back give it up. The
// engine calls it whoever made the answer; more than once and from any goroutine.
func (x *Exchange) AnswerEnded() {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	x.over = true
	for _, w := range x.parked {
		w.Wake()
	}
}

// Over reports whether AnswerEnded was called.
func (x *Exchange) Over() bool {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	return x.over
}

// SetRequestRun notes that the request side of the filters has been started, as
// opposed to an answer that core makes before (redirect, respond, deny).
func (x *Exchange) SetRequestRun() {
	x.Mu.Lock()
	x.requestRun = true
	x.Mu.Unlock()
}

// RequestRun reports whether SetRequestRun was called: a filter that has not
// seen the request of such an exchange does not handle its response.
func (x *Exchange) RequestRun() bool {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	return x.requestRun
}

// Prop returns the property at path, set by a plugin of this exchange.
func (x *Exchange) Prop(path string) ([]byte, bool) {
	for i := range x.props {
		if x.props[i].Path == path {
			return x.props[i].Value, true
		}
	}
	return nil, false
}

// Props returns all properties that plugins have set, in the order they were
// first set. The slice is owned by x and valid until the next SetProp.
func (x *Exchange) Props() []Prop { return x.props }

// SetProp stores a property; value is owned by x afterwards.
func (x *Exchange) SetProp(path string, value []byte) {
	for i := range x.props {
		if x.props[i].Path == path {
			x.props[i].Value = value
			return
		}
	}
	x.props = append(x.props, Prop{path, value})
}

// SetLogField sets a field of the access log line; an existing one is replaced.
func (x *Exchange) SetLogField(key, value string) {
	for i := range x.LogFields {
		if x.LogFields[i].Name == key {
			x.LogFields[i].Value = value
			return
		}
	}
	x.LogFields = append(x.LogFields, exchange.Field{Name: key, Value: value})
}

// Reset clears x for reuse.
func (x *Exchange) Reset() {
	clear(x.props)
	clear(x.LogFields)
	clear(x.Verdicts)
	clear(x.parked)
	clear(x.calls)
	parked, props, fields, verdicts, calls := x.parked[:0], x.props[:0], x.LogFields[:0], x.Verdicts[:0], x.calls[:0]
	*x = Exchange{} // by itself: with what is kept in it, it would be made elsewhere and copied
	x.parked, x.props, x.LogFields, x.Verdicts, x.calls = parked, props, fields, verdicts, calls
}
