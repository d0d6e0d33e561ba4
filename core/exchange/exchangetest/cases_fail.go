package exchangetest

import (
	"errors"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
)

// testBackpressure: while a reader does not read, its writer blocks, after a
// bounded number of bytes; then everything arrives.
func testBackpressure(h *harness) {
	const piece, pieces = 64 << 10, 512 // 32 MiB: more than any socket buffers
	var written atomic.Int64
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: piece * pieces}, false))
		p := []byte(pattern(piece))
		for i := range pieces {
			if err := c.Data(p, i == pieces-1); err != nil {
				h.Errorf("write piece %d: %v", i, err)
				return
			}
			written.Add(1)
		}
	})
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	blocked, goOn := make(chan struct{}), make(chan struct{})
	var total, calls int
	sink := countSink{data: func(p []byte) {
		if calls++; calls == 1 {
			close(blocked)
			<-goOn
		}
		total += len(p)
	}}
	fed := h.do(func() error { return s.Feed(&sink) })
	h.closed("first data", blocked)
	stalled := int64(-1)
	for range 100 { // until the writer makes no progress for a while
		time.Sleep(20 * time.Millisecond)
		n := written.Load()
		if n == stalled {
			break
		}
		stalled = n
	}
	if n := written.Load(); n >= pieces-1 {
		h.Errorf("the writer was not held back: %d of %d pieces", n, pieces)
	}
	close(goOn)
	h.noError("Feed", h.wait("answer", fed))
	if total != piece*pieces {
		h.Errorf("got %d bytes, want %d", total, piece*pieces)
	}
	release(s)
}

// countSink is a response sink that keeps nothing.
type countSink struct{ data func(p []byte) }

func (s *countSink) Head(*exchange.Response, bool) error { return nil }
func (s *countSink) Trailer(*exchange.Fields) error      { return nil }
func (s *countSink) Data(p []byte, _ bool) error {
	if len(p) > 0 {
		s.data(p)
	}
	return nil
}

// testSinkError: Feed returns what the sink returned, unchanged.
func testSinkError(h *harness) {
	errMine := errors.New("mine")
	feedErr := make(chan error, 1)
	h.serve(func(c exchange.Client) {
		feedErr <- c.Feed(&request{OnData: func([]byte, bool) error { return errMine }})
		h.noError("answer", c.Head(&exchange.Response{Status: 200}, true))
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(newRequest("POST", "/", 4), false))
	_ = s.Data([]byte("body"), true)
	err := h.wait("answer", h.do(func() error {
		return s.Feed(&response{OnHead: func(*exchange.Response, bool) error { return errMine }})
	}))
	if err != errMine { //nolint:errorlint // it must be the very same
		h.Errorf("upstream's Feed: got %v, want the sink's own error", err)
	}
	if err := h.wait("handler", feedErr); err != errMine { //nolint:errorlint // as above
		h.Errorf("client's Feed: got %v, want the sink's own error", err)
	}
	release(s)
}

// testEarlyAnswer: an answer that does not wait for the request (rule 8).
func testEarlyAnswer(h *harness) {
	fed, done := make(chan error, 1), make(chan struct{})
	h.serve(func(c exchange.Client) {
		defer close(done)
		head := make(chan struct{})
		go func() { // ends when the answer has been written
			fed <- c.Feed(&request{OnHead: func(*exchange.Request, bool) error { close(head); return nil }})
		}()
		h.closed("head", head)
		h.noError("write head", c.Head(&exchange.Response{Status: 413, Length: 3}, false))
		h.noError("write body", c.Data([]byte("big"), true))
		if err := h.wait("end of Feed", fed); !errors.Is(err, exchange.ErrAnswered) {
			h.Errorf("Feed of an answered request: got %v, want ErrAnswered", err)
		}
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(newRequest("POST", "/", 1<<30), false))
	if err := s.Data(nil, false); err != nil && !errors.Is(err, exchange.ErrAnswered) { // it may have come already
		h.Errorf("flush: %v", err)
	}
	var r response
	h.noError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	h.want(&r, 413, "big")
	if err := s.Data([]byte("more"), false); !errors.Is(err, exchange.ErrAnswered) {
		h.Errorf("Data after the answer: got %v, want ErrAnswered", err)
	}
	testHandlerDone(h, done)
	release(s)
}

// testTooLittle: an answer shorter than its length must not look complete.
func testTooLittle(h *harness) {
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: 10}, false))
		_ = h.codecError("end of a short body", c.Data([]byte("short"), true))
	})
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	var r response
	_ = h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	release(s)
}

// testTooMuch: nothing beyond the length goes out.
func testTooMuch(h *harness) {
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: 2}, false))
		_ = h.codecError("long body", c.Data([]byte("too much"), true))
	})
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	var r response
	_ = h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	if _, data, _, _ := r.Message(); len(data) > 2 {
		h.Errorf("got %q behind a length of 2", data)
	}
	release(s)
}

// testClientReset: a client that gives up in the middle of its body.
func testClientReset(h *harness) {
	head, fed := make(chan struct{}), make(chan error, 1)
	h.serve(func(c exchange.Client) {
		fed <- c.Feed(&request{OnHead: func(*exchange.Request, bool) error { close(head); return nil }})
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(newRequest("POST", "/", 100), false))
	h.noError("write body", s.Data([]byte("part"), false))
	h.noError("flush", s.Data(nil, false))
	h.closed("head", head)
	reading := h.do(func() error { return s.Feed(new(response)) })
	s.Reset(exchange.CodeCancel)
	s.Reset(exchange.CodeCancel)
	_ = h.codecError("own Feed", h.wait("own Feed", reading))
	if e := h.codecError("client's Feed", h.wait("client's Feed", fed)); e.Side != exchange.ClientSide {
		h.Errorf("Side: got %v, want ClientSide", e.Side)
	}
	release(s)
}

// testServerReset: an answer that is given up in the middle.
func testServerReset(h *harness) { resetAnswer(h, 100) }

// testServerResetUnknown: the same where only the framing can tell.
func testServerResetUnknown(h *harness) { resetAnswer(h, exchange.LengthUnknown) }

func resetAnswer(h *harness, length int64) {
	seen := make(chan struct{})
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: length}, false))
		h.noError("write body", c.Data([]byte("part"), false))
		h.noError("flush", c.Data(nil, false))
		h.closed("part", seen)
		c.Reset(exchange.CodeInternal)
		c.Reset(exchange.CodeInternal)
		_ = h.codecError("Data after Reset", c.Data([]byte("more"), true))
	})
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	r := response{OnData: func(p []byte, _ bool) error {
		if len(p) > 0 {
			close(seen)
		}
		return nil
	}}
	e := h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	if e.Side != exchange.UpstreamSide || e.Retry != exchange.RetryNever {
		h.Errorf("got side %v, retry %v; want UpstreamSide, RetryNever", e.Side, e.Retry)
	}
	if _, data, _, ended := r.Message(); ended || data != "part" {
		h.Errorf("got %q, ended %v; want a part without end", data, ended)
	}
	release(s)
}

// testNoAnswer: a Handler that returns without an answer.
func testNoAnswer(h *harness) {
	h.serve(func(c exchange.Client) { h.noError("Feed", c.Feed(new(request))) })
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	_ = h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(new(response)) })))
	release(s)
}

// testDeadline: a stream that is an exchange.Deadliner keeps to it.
func testDeadline(h *harness) {
	over := make(chan struct{})
	h.serve(func(c exchange.Client) {
		var r request
		_ = c.Feed(&r)
		h.closed("deadline", over)
	})
	s := h.pair.Open(h.T)
	d, ok := s.(exchange.Deadliner)
	if !ok {
		close(over)
		s.Reset(exchange.CodeCancel)
		h.Skip("not a Deadliner")
	}
	start := time.Now()
	d.SetDeadline(start.Add(50 * time.Millisecond))
	h.noError("write request", s.Head(get("/"), true))
	e := h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(new(response)) })))
	took := time.Since(start)
	close(over)
	if e.Status != 504 || took < 50*time.Millisecond || h.o.Bubble && took != 50*time.Millisecond {
		h.Errorf("got %v after %v, want status 504 after 50ms", e, took)
	}
	release(s)
}
