package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
)

// A testConn is a client's connection that does what the tests need and no more. It
// shares no code with the package but the Framer.
type testConn struct {
	nc   net.Conn
	fr   *http2.Framer
	done sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	// Guarded by mu.
	block   bytes.Buffer
	enc     *hpack.Encoder
	streams map[uint32]*testStream
	next    uint32
	window  int64 // of the connection
	initial int64 // of a stream
	goAway  *http2.GoAwayFrame
	acked   int // SETTINGS and PING that were acknowledged by the server
	err     error
}

// dialTest greets the server on nc.
func dialTest(tb testing.TB, nc net.Conn) *testConn {
	tb.Helper()
	c := &testConn{nc: nc, fr: http2.NewFramer(nc, nc), streams: map[uint32]*testStream{}, next: 1, window: 1<<16 - 1, initial: 1<<16 - 1}
	c.changed.L = &c.mu
	c.enc = hpack.NewEncoder(&c.block)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(nc, http2.ClientPreface)
	_ = c.fr.WriteSettings()
	c.done.Go(c.read) // ends with the connection
	return c
}

func (c *testConn) close() {
	_ = c.nc.Close()
	c.done.Wait()
}

// do runs f with the lock.
func (c *testConn) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// until waits until ok, with the lock, reports true, or the connection has ended.
func (c *testConn) until(ok func() bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !ok() && c.err == nil {
		c.changed.Wait()
	}
	return ok()
}

func (c *testConn) read() {
	for {
		f, err := c.fr.ReadFrame()
		c.mu.Lock()
		if err != nil {
			c.err = err
			for _, s := range c.streams {
				s.fail(err)
			}
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
		c.frame(f)
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

func (c *testConn) frame(f http2.Frame) {
	s := c.streams[f.Header().StreamID]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			c.acked++
			return
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, s := range c.streams {
				s.window += int64(v) - c.initial
			}
			c.initial = int64(v)
		}
		_ = c.fr.WriteSettingsAck()
	case *http2.PingFrame:
		if f.IsAck() {
			c.acked++
		} else {
			_ = c.fr.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if s != nil {
			s.window += int64(f.Increment)
		}
	case *http2.GoAwayFrame:
		g := *f
		c.goAway = &g
	case *http2.RSTStreamFrame:
		if s != nil && !s.ended {
			s.reset = &f.ErrCode
			s.fail(errors.New("reset: " + f.ErrCode.String()))
		} else if s != nil {
			s.stopped = true
		}
	case *http2.DataFrame:
		if s != nil {
			s.events = append(s.events, event{data: append([]byte(nil), f.Data()...), end: f.StreamEnded()})
			s.ended = f.StreamEnded()
		}
	case *http2.MetaHeadersFrame:
		if s != nil {
			s.events = append(s.events, event{head: f.Fields, end: f.StreamEnded()})
			s.ended = f.StreamEnded()
		}
	}
}

// open returns a new stream; nil if there can be none.
func (c *testConn) open() *testStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.goAway != nil {
		return nil
	}
	s := &testStream{c: c, id: c.next, window: c.initial}
	c.next += 2
	c.streams[s.id] = s
	return s
}

// headers writes a field section. The lock is held.
func (c *testConn) headers(id uint32, end bool, fields ...string) error {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	b := c.block.Bytes()
	n := min(len(b), 16<<10)
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, BlockFragment: b[:n], EndHeaders: n == len(b)})
	for b = b[n:]; len(b) > 0 && err == nil; b = b[n:] {
		n = min(len(b), 16<<10)
		err = c.fr.WriteContinuation(id, n == len(b), b[:n])
	}
	return err
}

// get opens a stream for a request without a body.
func (c *testConn) get(path string, more ...string) *testStream {
	s := c.open()
	if s != nil {
		c.do(func() {
			_ = c.headers(s.id, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "x.example", ":path", path}, more...)...)
		})
	}
	return s
}

// An event is a frame for a stream.
type event struct {
	head []hpack.HeaderField
	data []byte
	end  bool
}

// A testStream is an exchange.Upstream.
type testStream struct {
	c      *testConn
	id     uint32
	method string

	// Guarded by c.mu.
	events  []event
	window  int64
	ended   bool // the answer has
	stopped bool // the rest of the request is not wanted
	reset   *http2.ErrCode
	err     error
}

func (s *testStream) fail(err error) {
	if s.err == nil {
		s.err = &exchange.Error{Op: "test", Side: exchange.UpstreamSide, Err: err}
	}
}

func (s *testStream) Head(r *exchange.Request, end bool) error {
	s.method = r.Method
	fields := []string{":method", r.Method, ":scheme", r.Scheme, ":authority", r.Authority, ":path", r.Target}
	for n, v := range r.Fields.All() {
		fields = append(fields, n, v)
	}
	if r.Length > 0 {
		fields = append(fields, "content-length", strconv.FormatInt(r.Length, 10))
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.headers(s.id, end, fields...)
}

func (s *testStream) Data(p []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 || end {
		n := int(min(int64(len(p)), s.window, c.window, 16<<10))
		switch {
		case s.ended || s.stopped:
			return exchange.ErrAnswered
		case s.err != nil:
			return s.err
		case n <= 0 && len(p) > 0:
			c.changed.Wait()
			continue
		}
		s.window -= int64(n)
		c.window -= int64(n)
		if err := c.fr.WriteData(s.id, end && n == len(p), p[:n]); err != nil {
			return err
		}
		end = end && n < len(p)
		p = p[n:]
	}
	return nil
}

func (s *testStream) Trailer(f *exchange.Fields) error {
	var fields []string
	for n, v := range f.All() {
		fields = append(fields, n, v)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.headers(s.id, true, fields...)
}

func (s *testStream) Reset(exchange.Code) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err == nil && !s.ended {
		_ = s.c.fr.WriteRSTStream(s.id, http2.ErrCodeCancel)
	}
	s.fail(exchange.ErrReset)
	s.c.changed.Broadcast()
}

func (s *testStream) Feed(dst exchange.Sink[*exchange.Response]) error {
	c := s.c
	head := false
	for {
		c.mu.Lock()
		for len(s.events) == 0 && s.err == nil {
			c.mu.Unlock()
			if head {
				if err := dst.Data(nil, false); err != nil {
					return err
				}
			}
			c.mu.Lock()
			if len(s.events) == 0 && s.err == nil {
				c.changed.Wait()
			}
		}
		if len(s.events) == 0 {
			err := s.err
			c.mu.Unlock()
			return err
		}
		e := s.events[0]
		s.events = s.events[1:]
		c.mu.Unlock()
		var err error
		switch {
		case e.head != nil && head:
			err = dst.Trailer(fieldsOf(e.head))
		case e.head != nil:
			r := s.response(e)
			head = r.Status >= 200
			err = dst.Head(r, e.end)
		default:
			if err = dst.Data(e.data, e.end); len(e.data) > 0 {
				c.do(func() {
					_ = c.fr.WriteWindowUpdate(0, uint32(len(e.data)))
					_ = c.fr.WriteWindowUpdate(s.id, uint32(len(e.data)))
				})
			}
		}
		if err != nil || e.end {
			return err
		}
	}
}

func (s *testStream) response(e event) *exchange.Response {
	r := &exchange.Response{Version: exchange.HTTP2, Length: exchange.LengthUnknown, Fields: *fieldsOf(e.head)}
	r.Status, _ = strconv.Atoi(e.head[0].Value)
	if v, ok := r.Fields.Get("content-length"); ok {
		r.Length, _ = strconv.ParseInt(v, 10, 64)
	} else if e.end {
		r.Length = 0
	}
	return r
}

func fieldsOf(list []hpack.HeaderField) *exchange.Fields {
	f := new(exchange.Fields)
	for _, x := range list {
		if x.Name[0] != ':' {
			f.Add(x.Name, x.Value)
		}
	}
	return f
}

// answer waits for the end of the answer, and returns status, body and error.
func (s *testStream) answer() (int, string, error) {
	var r response
	err := s.Feed(&r)
	h, body, _, _ := r.Message()
	if h == nil {
		return 0, body, err
	}
	return h.Status, body, err
}
