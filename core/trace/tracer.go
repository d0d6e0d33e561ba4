// Package trace says which requests are traced, and sends their spans to a receiver of
// OpenTelemetry: OTLP over HTTP in protobuf, with W3C Trace Context in and out.
//
// A [Tracer] decides ([Tracer.Begin]) and sends; a [Context] is the place of a span; a
// [Batch] is the spans of one request, encoded as they are written. The one rule: nobody
// who has spans to give waits for a receiver. Spans that nobody takes are dropped, and
// counted.
//
// trace is a leaf: it does not know what the spans are about.
package trace

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// An Attribute is one thing that a receiver is told about this process, or a field that
// it is sent.
type Attribute struct{ Name, Value string }

// Parent says whose decision to record a trace is followed.
type Parent uint8

// The values of Parent. A trace is continued under its id in any case but ParentIgnore.
const (
	// ParentTrusted follows who is trusted to speak for others. Strangers could
	// otherwise have everything recorded.
	ParentTrusted Parent = iota
	// ParentFollow follows everybody.
	ParentFollow
	// ParentIgnore begins a new trace for every request.
	ParentIgnore
)

// Options of a Tracer.
type Options struct {
	URL      string      // that spans are posted to, http or https. Required
	Fields   []Attribute // of these requests, for receivers that want to know who calls
	Service  string      // service.name. Required
	Version  string      // service.version; "": not said
	Resource []Attribute // what else is said about this process
	Share    float64     // of requests that are recorded where nobody else has decided, 0 to 1
	Parent   Parent

	// Sent, Dropped and Rejected, if set, are told about numbers of spans that a receiver
	// took, that were lost before, and that it did not want. They must not block.
	Sent, Dropped, Rejected func(spans int)
	// Failing, if set, is told when the receiver begins not to take spans, with the
	// reason, and when it takes them again, with nil.
	Failing func(err error)

	// Transport replaces the way to the receiver in tests.
	Transport http.RoundTripper
}

// A Tracer decides about traces and sends spans. It is safe for concurrent use. A nil
// Tracer takes no spans. Use [Open].
type Tracer struct {
	// Immutable.
	o        Options
	share    uint64 // of 2^64, less one; see sample
	all      bool
	envelope envelope
	client   *http.Client
	batches  sync.Pool     // of *Batch
	wake     chan struct{} // capacity 1: there is enough to be sent
	closing  chan struct{} // closed when Close is called
	done     chan struct{} // closed when the sending goroutine has ended
	ctx      context.Context
	cancel   context.CancelFunc // of what is being sent

	mu sync.Mutex // never held while something is sent
	// Guarded by mu.
	buf    []byte // encoded spans
	spans  int    // in buf
	closed bool

	// Owned by the sending goroutine.
	spare   []byte
	body    []byte
	failing bool
}

// Open makes a Tracer. It starts one goroutine that sends; Close ends it.
func Open(o Options) *Tracer {
	t := &Tracer{
		o: o, all: o.Share >= 1,
		envelope: newEnvelope(o.Service, o.Version, o.Resource),
		wake:     make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	if o.Share > 0 && !t.all {
		t.share = uint64(o.Share * math.MaxUint64)
	}
	transport := o.Transport
	if transport == nil {
		transport = newTransport()
	}
	t.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.ctx, t.cancel = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	t.batches.New = func() any { return &Batch{} }
	go t.run() // ended by Close
	return t
}

// Begin says where the span of a request belongs. traceparent is the request's own, or
// "": none; several lines are joined. trusted means that its sender may speak for
// others; wanted, that the request is to be recorded whatever the share is. parent is
// the span that has caused it, zero if there is none that counts: then the
// request's tracestate does not count either.
func (t *Tracer) Begin(traceparent string, trusted, wanted bool) (c Context, parent SpanID) {
	if traceparent != "" && t.o.Parent != ParentIgnore {
		if p, ok := Parse(traceparent); ok {
			follow := trusted || t.o.Parent == ParentFollow
			sampled := p.Sampled
			if !follow {
				sampled = t.sample()
			}
			return Context{p.Trace, newSpanID(), sampled || wanted}, p.Span
		}
	}
	return Context{newID(), newSpanID(), wanted || t.sample()}, SpanID{}
}

// sample decides by the share. It does not look at the trace's id: who has chosen that
// would decide.
func (t *Tracer) sample() bool {
	return t.all || t.share > 0 && rand.Uint64() < t.share
}

// NewSpanID returns an id for a span.
func (t *Tracer) NewSpanID() SpanID { return newSpanID() }

// Batch returns a batch to fill, which has to be given to Send.
func (t *Tracer) Batch() *Batch {
	b, _ := t.batches.Get().(*Batch)
	return b
}

// Send sends the spans of b, soon. It does not wait. b must not be used any more.
func (t *Tracer) Send(b *Batch) {
	b.finish()
	t.mu.Lock()
	ok := !t.closed && len(t.buf)+len(b.out) <= maxHeld
	was := len(t.buf)
	if ok {
		t.buf = append(t.buf, b.out...)
		t.spans += b.spans
	}
	rouse := was < flushBytes && len(t.buf) >= flushBytes
	t.mu.Unlock()
	if rouse {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	if !ok {
		t.dropped(b.spans)
	}
	if cap(b.out) <= maxBatch {
		b.reset()
		t.batches.Put(b)
	}
}

// Close sends what there is, once, and ends the Tracer; further spans are dropped. It
// waits for the receiver, but not for long. Further calls only wait.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if first {
		close(t.closing)
	}
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-t.done:
	case <-timer.C:
	}
	t.cancel()
	<-t.done
	t.client.CloseIdleConnections()
}

// run is the goroutine that sends, the only one.
func (t *Tracer) run() {
	defer close(t.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		closing := false
		select {
		case <-tick.C:
		case <-t.wake:
		case <-t.closing:
			closing = true
		}
		t.flush()
		if closing {
			return
		}
	}
}

// flush sends what has been collected.
func (t *Tracer) flush() {
	t.mu.Lock()
	out, n := t.buf, t.spans
	if n == 0 {
		t.mu.Unlock()
		return
	}
	t.buf, t.spans = t.spare, 0
	t.mu.Unlock()
	t.body = t.envelope.request(t.body[:0], out)
	err := t.deliver(n)
	if t.spare = out[:0]; cap(out) > 4*flushBytes { // a burst must not keep its memory
		t.spare, t.body = nil, nil
	}
	if err != nil {
		t.dropped(n)
	}
	if failing := err != nil; failing != t.failing && !errors.Is(err, context.Canceled) {
		t.failing = failing
		if t.o.Failing != nil {
			t.o.Failing(err)
		}
	}
}

func (t *Tracer) dropped(n int) {
	if t.o.Dropped != nil && n > 0 {
		t.o.Dropped(n)
	}
}
