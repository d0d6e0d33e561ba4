package exchangetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
)

// A Pair is a codec's client connected to the same or another codec's server,
// which calls a Handler: what the tests push into Open's streams comes out of the
// Handler's, and the other way.
type Pair interface {
	// Open returns the stream of a new exchange. It may use a connection
	// again if the codec allows it.
	Open(t *testing.T) exchange.Upstream
	// Close closes the connections and waits until the server has ended.
	Close()
}

// Options of Run.
type Options struct {
	// New makes a Pair whose server calls h.
	New func(t *testing.T, h exchange.Handler) Pair
	// Bubble runs each test in a synctest bubble; New must then stay in memory.
	Bubble bool
	// NoUpgrade skips the tests of h1's kind of upgrade.
	NoUpgrade bool
}

// Run runs the conformance suite, each test with a Pair of its own.
func Run(t *testing.T, o Options) {
	t.Helper()
	for _, c := range cases {
		if c.upgrade && o.NoUpgrade {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if o.Bubble {
				synctest.Test(t, func(t *testing.T) { c.run(&harness{T: t, o: o}) })
			} else {
				c.run(&harness{T: t, o: o})
			}
		})
	}
}

// A testCase is one behaviour.
type testCase struct {
	name    string
	upgrade bool
	run     func(h *harness)
}

// patience bounds every wait of a test on real sockets. Only failures use it up: 32 MiB
// through TLS under the race detector take more than ten seconds on a busy machine.
const patience = time.Minute

// A harness is what one test uses.
type harness struct {
	*testing.T
	o    Options
	pair Pair
}

// serve makes the Pair, whose Handler is h. Handlers must not call t.Fatal.
func (h *harness) serve(f func(c exchange.Client)) {
	h.Helper()
	h.pair = h.o.New(h.T, func(_ context.Context, c exchange.Client) { f(c) })
	h.Cleanup(h.pair.Close)
}

// echo answers each request with its own body and trailer, framed by length if
// that is known, after having read all of it.
func (h *harness) echo() {
	h.serve(func(c exchange.Client) {
		var r request
		if err := c.Feed(&r); err != nil {
			return
		}
		req, body, trailer, _ := r.Message()
		res := &exchange.Response{Status: 200, Length: req.Length}
		res.Fields.Add("x-method", req.Method)
		res.Fields.Add("x-target", req.Target)
		h.noError("write head", c.Head(res, false))
		if trailer != nil {
			h.noError("write body", c.Data([]byte(body), false))
			h.noError("write trailer", c.Trailer(trailer))
			return
		}
		h.noError("write body", c.Data([]byte(body), true))
	})
}

type (
	request  = Recorder[*exchange.Request]
	response = Recorder[*exchange.Response]
)

// get returns a request without body.
func get(target string) *exchange.Request { return newRequest("GET", target, 0) }

func newRequest(method, target string, length int64) *exchange.Request {
	r := &exchange.Request{Method: method, Scheme: "http", Authority: "test.example", Length: length}
	path, _, _ := strings.Cut(target, "?")
	r.SetTarget(target, len(path))
	return r
}

// exchange pushes m into a new stream and returns the answer, which must be
// complete. The request is pushed on a goroutine of its own, so that neither side
// has to wait for the other.
func (h *harness) exchange(m Message[*exchange.Request]) *response {
	h.Helper()
	s := h.pair.Open(h.T)
	var r response
	pushErr := h.do(func() error { return m.Push(s) })
	if err := h.wait("request", pushErr); err != nil {
		h.Fatalf("push request: %v", err)
	}
	feedErr := h.do(func() error { return s.Feed(&r) })
	if err := h.wait("answer", feedErr); err != nil {
		h.Fatalf("Feed: %v", err)
	}
	if _, _, _, ended := r.Message(); !ended {
		h.Fatalf("Feed returned nil before the end of the answer: %s", r.Calls())
	}
	if v := r.Violation(); v != "" {
		h.Fatalf("contract of Sink broken: %s: %s", v, r.Calls())
	}
	release(s)
	return &r
}

func release(s exchange.Upstream) {
	if r, ok := s.(exchange.Releaser); ok {
		r.Release()
	}
}

// do runs f on its own goroutine, which ends with f.
func (h *harness) do(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// wait waits for a goroutine of do.
func (h *harness) wait(what string, done <-chan error) error {
	h.Helper()
	t := time.NewTimer(h.limit())
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		h.Fatalf("%s: nothing happened for %v", what, h.limit())
		return nil
	}
}

// limit is patience; in a bubble, where waiting costs nothing, it is longer than
// any timeout of a codec.
func (h *harness) limit() time.Duration {
	if h.o.Bubble {
		return time.Hour
	}
	return patience
}

// closed waits for a channel to be closed.
func (h *harness) closed(what string, c <-chan struct{}) {
	h.Helper()
	t := time.NewTimer(h.limit())
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
		h.Fatalf("%s: nothing happened for %v", what, h.limit())
	}
}

// noError may be called from any goroutine.
func (h *harness) noError(what string, err error) {
	h.Helper()
	if err != nil {
		h.Errorf("%s: %v", what, err)
	}
}

// codecError reports unless err is a codec's own error.
func (h *harness) codecError(what string, err error) *exchange.Error {
	h.Helper()
	var e *exchange.Error
	if !errors.As(err, &e) {
		h.Errorf("%s: got %v, want an *exchange.Error", what, err)
		return new(exchange.Error)
	}
	return e
}

// want compares an answer.
func (h *harness) want(r *response, status int, body string) *exchange.Response {
	h.Helper()
	res, data, _, _ := r.Message()
	if res.Status != status {
		h.Errorf("status: got %d, want %d", res.Status, status)
	}
	if data != body {
		h.Errorf("body: got %d bytes %.60q, want %d bytes %.60q", len(data), data, len(body), body)
	}
	return res
}

// pattern returns n bytes in which a lost, doubled or moved piece shows.
func pattern(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + (i/7+i/251+i/4093)%26)
	}
	return string(b)
}
