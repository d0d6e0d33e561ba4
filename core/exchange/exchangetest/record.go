package exchangetest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"wproxy/core/exchange"
)

// A Recorder is a Sink that keeps a copy of what it got. The zero value is
// ready; its methods are safe for concurrent use. It complains, through Violation,
// about calls that break the contract of a Sink.
type Recorder[H exchange.Head] struct {
	// OnHead, OnData and OnTrailer, if set, are called after the call was
	// recorded, and their error is returned. They may block.
	OnHead    func(h H, end bool) error
	OnData    func(p []byte, end bool) error
	OnTrailer func(f *exchange.Fields) error

	mu sync.Mutex
	// Guarded by mu.
	interim   []H
	head      H
	data      bytes.Buffer
	calls     []string
	trailer   *exchange.Fields
	ended     bool
	failed    bool
	violation string
}

// Head implements exchange.Sink.
func (r *Recorder[H]) Head(h H, end bool) error {
	r.mu.Lock()
	r.check("Head")
	r.calls = append(r.calls, fmt.Sprintf("Head(%s, %v)", summary(h), end))
	c := clone(h)
	if res, ok := any(c).(*exchange.Response); ok && res.Status < 200 && res.Status != 101 {
		r.interim = append(r.interim, c)
		if end {
			r.violate("a 1xx head that ends the message")
		}
	} else {
		if r.head != nil {
			r.violate("a second head")
		}
		r.head = c
		r.ended = end
	}
	f := r.OnHead
	r.mu.Unlock()
	if f != nil {
		return r.note(f(h, end))
	}
	return nil
}

// Data implements exchange.Sink.
func (r *Recorder[H]) Data(p []byte, end bool) error {
	r.mu.Lock()
	r.check("Data")
	if r.head == nil && (len(p) > 0 || end) {
		r.violate("Data before Head")
	}
	if len(p) == 0 && !end {
		r.calls = append(r.calls, "Flush")
	} else {
		r.calls = append(r.calls, fmt.Sprintf("Data(%d, %v)", len(p), end))
	}
	r.data.Write(p)
	r.ended = end
	f := r.OnData
	r.mu.Unlock()
	if f != nil {
		return r.note(f(p, end))
	}
	return nil
}

// Trailer implements exchange.Sink.
func (r *Recorder[H]) Trailer(t *exchange.Fields) error {
	r.mu.Lock()
	r.check("Trailer")
	r.calls = append(r.calls, "Trailer")
	r.trailer = new(exchange.Fields)
	r.trailer.CopyFrom(t)
	r.ended = true
	f := r.OnTrailer
	r.mu.Unlock()
	if f != nil {
		return r.note(f(t))
	}
	return nil
}

func (r *Recorder[H]) note(err error) error {
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failed = true
	}
	return err
}

func (r *Recorder[H]) check(call string) {
	switch {
	case r.ended:
		r.violate(call + " after the end")
	case r.failed:
		r.violate(call + " after an error")
	}
}

func (r *Recorder[H]) violate(s string) {
	if r.violation == "" {
		r.violation = s
	}
}

// Violation returns the first breach of contract, or "".
func (r *Recorder[H]) Violation() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.violation
}

// Message returns the final head, or nil, the data and the trailer, or nil, and
// whether the message has ended.
func (r *Recorder[H]) Message() (h H, data string, trailer *exchange.Fields, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head, r.data.String(), r.trailer, r.ended
}

// Interim returns the 1xx heads.
func (r *Recorder[H]) Interim() []H {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.interim
}

// Calls returns one string per call, e.g. "Head(GET /, true)", "Data(5, false)",
// "Flush", "Trailer", in order and joined by spaces.
func (r *Recorder[H]) Calls() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, " ")
}

func summary[H exchange.Head](h H) string {
	switch h := any(h).(type) {
	case *exchange.Request:
		return h.Method + " " + h.Target
	case *exchange.Response:
		return fmt.Sprint(h.Status)
	}
	return ""
}

func clone[H exchange.Head](h H) H {
	switch h := any(h).(type) {
	case *exchange.Request:
		c := *h
		c.Fields = exchange.Fields{}
		c.Fields.CopyFrom(&h.Fields)
		out, _ := any(&c).(H)
		return out
	case *exchange.Response:
		c := *h
		c.Fields = exchange.Fields{}
		c.Fields.CopyFrom(&h.Fields)
		out, _ := any(&c).(H)
		return out
	}
	return nil
}

// A Message is what a Stream's Feed pushes.
type Message[H exchange.Head] struct {
	Interim []H
	Head    H
	Data    []string // one call each; "" is a flush
	Trailer *exchange.Fields
	// Err, if set, is returned by Feed in place of the end of the message.
	Err error
}

// Push pushes m into dst, in the way of Feed.
func (m *Message[H]) Push(dst exchange.Sink[H]) error {
	for _, h := range m.Interim {
		if err := dst.Head(h, false); err != nil {
			return err
		}
	}
	if m.Head == nil {
		return m.Err
	}
	last := m.Trailer == nil && m.Err == nil
	if err := dst.Head(m.Head, last && len(m.Data) == 0); err != nil {
		return err
	}
	for i, d := range m.Data {
		if err := dst.Data([]byte(d), last && i == len(m.Data)-1); err != nil {
			return err
		}
	}
	if m.Err != nil {
		return m.Err
	}
	if m.Trailer != nil {
		return dst.Trailer(m.Trailer)
	}
	return nil
}

// A Stream is one side of an exchange without a codec: Feed pushes a scripted
// message, what is written is recorded. Use [NewClient] and [NewUpstream].
type Stream[In, Out exchange.Head] struct {
	Recorder[Out]
	Script Message[In]

	reset chan struct{}
	once  sync.Once
	code  exchange.Code
}

// NewClient returns the stream of a client that sends m.
func NewClient(m Message[*exchange.Request]) *Stream[*exchange.Request, *exchange.Response] {
	return &Stream[*exchange.Request, *exchange.Response]{Script: m, reset: make(chan struct{})}
}

// NewUpstream returns the stream of an upstream that answers with m.
func NewUpstream(m Message[*exchange.Response]) *Stream[*exchange.Response, *exchange.Request] {
	return &Stream[*exchange.Response, *exchange.Request]{Script: m, reset: make(chan struct{})}
}

// Feed implements exchange.Stream.
func (s *Stream[In, Out]) Feed(dst exchange.Sink[In]) error {
	select {
	case <-s.reset:
		return &exchange.Error{Op: "feed", Side: exchange.Internal, Err: exchange.ErrReset}
	default:
		return s.Script.Push(dst)
	}
}

// Reset implements exchange.Stream.
func (s *Stream[In, Out]) Reset(c exchange.Code) {
	s.once.Do(func() {
		s.code = c
		close(s.reset)
	})
}

// WasReset returns a channel that is closed by Reset.
func (s *Stream[In, Out]) WasReset() <-chan struct{} { return s.reset }

// ResetCode returns the code of the first Reset. Call it after WasReset only.
func (s *Stream[In, Out]) ResetCode() exchange.Code { return s.code }
