package proxy_test

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"time"

	"wproxy/core/exchange"
)

// A client is a scripted exchange.Client that records the answer.
type client struct {
	req     exchange.Request
	body    []string // "" is a flush
	trailer *exchange.Fields
	feed    func(c *client, dst exchange.Sink[*exchange.Request]) error // instead of body
	gate    chan struct{}                                               // if set, the answer's Data waits for it
	holds   bool                                                        // an answer that has not ended has not gone out

	answered chan struct{} // closed when the answer has ended
	onEnd    func()        // told when it has, or was reset: reading ends then, as in a codec

	mu       sync.Mutex
	interim  []int
	status   int
	fields   exchange.Fields
	length   int64
	got      bytes.Buffer
	trailed  []exchange.Field
	flushes  int
	ended    bool
	reset    bool
	resetter exchange.Resetter
}

func newClient(method, target string) *client {
	c := &client{answered: make(chan struct{})}
	c.req.Method, c.req.Scheme, c.req.Authority = method, "http", "a.example.com"
	if err := c.req.ParseTarget(target); err != nil {
		panic(err)
	}
	c.req.Conn = &exchange.Conn{
		ID: 1, Listener: "http", Remote: netip.MustParseAddrPort("192.0.2.1:1234"), RemoteIP: "192.0.2.1",
	}
	return c
}

func (c *client) from(ip string) *client {
	conn := *c.req.Conn
	conn.Remote, conn.RemoteIP = netip.AddrPortFrom(netip.MustParseAddr(ip), 1234), ip
	c.req.Conn = &conn
	return c
}

func (c *client) with(pairs ...string) *client {
	for i := 0; i < len(pairs); i += 2 {
		c.req.Fields.Add(pairs[i], pairs[i+1])
	}
	return c
}

func (c *client) sending(pieces ...string) *client {
	c.body, c.req.Length = pieces, exchange.LengthUnknown
	return c
}

func (c *client) Feed(dst exchange.Sink[*exchange.Request]) error {
	if c.feed != nil {
		return c.feed(c, dst)
	}
	if err := dst.Head(&c.req, c.body == nil && c.trailer == nil); err != nil || c.body == nil && c.trailer == nil {
		return err
	}
	for i, p := range c.body {
		if err := dst.Data([]byte(p), i == len(c.body)-1 && c.trailer == nil); err != nil {
			return err
		}
	}
	if c.trailer != nil {
		return dst.Trailer(c.trailer)
	}
	return nil
}

func (c *client) Head(h *exchange.Response, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset {
		return &exchange.Error{Op: "write", Side: exchange.ClientSide, Reason: "reset"}
	}
	if h.Status < 200 && h.Status != 101 {
		c.interim = append(c.interim, h.Status)
		return nil
	}
	if c.status != 0 {
		panic("two final heads")
	}
	c.status, c.length = h.Status, h.Length
	c.fields.CopyFrom(&h.Fields)
	c.endLocked(end)
	return nil
}

func (c *client) Data(p []byte, end bool) error {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset {
		return &exchange.Error{Op: "write", Side: exchange.ClientSide, Reason: "reset"}
	}
	if c.status == 0 || c.ended {
		panic("data outside a message")
	}
	if len(p) == 0 && !end {
		c.flushes++
	}
	c.got.Write(p)
	c.endLocked(end)
	return nil
}

func (c *client) Trailer(f *exchange.Fields) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailed = append(c.trailed, f.List()...)
	c.endLocked(true)
	return nil
}

func (c *client) endLocked(end bool) {
	if end {
		c.ended = true
		close(c.answered)
		c.overLocked()
	}
}

func (c *client) Reset(exchange.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset = true
	c.overLocked()
}

func (c *client) overLocked() {
	if f := c.onEnd; f != nil {
		c.onEnd = nil
		f()
	}
}

func (c *client) ResetWhenGone(r exchange.Resetter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetter = r
}

// Retract implements exchange.Retractor.
func (c *client) Retract() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holds || c.ended || c.reset {
		return false
	}
	c.status = 0
	c.fields.Reset()
	c.got.Reset()
	return true
}

// leave is what the codec does when the client has gone.
func (c *client) leave() { c.tell(exchange.CodeCancel) }

// tell tells the engine about the client.
func (c *client) tell(code exchange.Code) {
	c.mu.Lock()
	r := c.resetter
	c.mu.Unlock()
	r.Reset(code)
}

// An origin is a scripted upstream: how each try goes, by its number from 0.
type origin struct {
	used bool // all connections have served others before
	dial func(n int) error
	feed func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error // nil: 200 "ok"
	data func(n int, s *stream, p []byte) error

	mu      sync.Mutex
	dials   int
	streams []*stream
}

// dialed returns how often it was dialed.
func (o *origin) dialed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dials
}

// A stream is one try at an origin and what it got.
type stream struct {
	o       *origin
	conn    *conn
	n       int
	done    chan struct{} // closed by Reset
	headed  chan struct{} // closed when the head has come
	got     chan struct{} // closed when the request has ended
	mu      sync.Mutex
	head    exchange.Request
	body    bytes.Buffer
	trailed []exchange.Field
	flushes int
	ended   bool
	fed     bool
	reset   bool
	code    exchange.Code

	deadline time.Time // written before Head
}

// SetDeadline implements exchange.Deadliner.
func (s *stream) SetDeadline(t time.Time) { s.deadline = t }

func (s *stream) Head(h *exchange.Request, end bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = *h
	s.head.Fields = exchange.Fields{}
	s.head.Fields.CopyFrom(&h.Fields)
	close(s.headed)
	return s.endLocked(end)
}

func (s *stream) Data(p []byte, end bool) error {
	if s.o.data != nil {
		if err := s.o.data(s.n, s, p); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset {
		return &exchange.Error{Op: "write", Side: exchange.UpstreamSide, Status: 502, Reason: "reset", Err: exchange.ErrReset}
	}
	if len(p) == 0 && !end {
		s.flushes++
	}
	s.body.Write(p)
	return s.endLocked(end)
}

func (s *stream) Trailer(f *exchange.Fields) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trailed = append(s.trailed, f.List()...)
	return s.endLocked(true)
}

func (s *stream) endLocked(end bool) error {
	if end {
		s.ended = true
		close(s.got)
	}
	return nil
}

func (s *stream) Feed(dst exchange.Sink[*exchange.Response]) error {
	var err error
	if s.o.feed != nil {
		err = s.o.feed(s.n, s, dst)
	} else {
		err = answer(dst, 200, "ok")
	}
	s.mu.Lock()
	s.fed = err == nil
	s.mu.Unlock()
	return err
}

func (s *stream) Reset(c exchange.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reset {
		s.reset, s.code = true, c
		close(s.done)
	}
}

// hang waits for Reset, as a read from a silent server would.
func (s *stream) hang() error {
	<-s.done
	return &exchange.Error{Op: "read head", Side: exchange.UpstreamSide, Status: 502, Reason: "reset", Err: exchange.ErrReset}
}

func answer(dst exchange.Sink[*exchange.Response], status int, body string) error {
	h := &exchange.Response{Status: status, Length: int64(len(body))}
	if body == "" {
		return dst.Head(h, true)
	}
	if err := dst.Head(h, false); err != nil {
		return err
	}
	return dst.Data([]byte(body), true)
}

// A conn is a connection to an origin.
type conn struct {
	o      *origin
	mu     sync.Mutex
	busy   bool
	served int
	closed bool
	last   *stream
}

func (c *conn) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy || c.closed {
		return false
	}
	c.busy = true
	return true
}

func (c *conn) Open(context.Context) (exchange.Upstream, error) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	s := &stream{
		o: c.o, conn: c, n: len(c.o.streams),
		done: make(chan struct{}), got: make(chan struct{}), headed: make(chan struct{}),
	}
	c.o.streams = append(c.o.streams, s)
	c.last = s
	return s, nil
}

func (c *conn) Reused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served > 0 || c.o.used
}

func (c *conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.last
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed || s.reset || !s.ended || !s.fed {
		return false
	}
	c.busy = false
	c.served++
	return true
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}
