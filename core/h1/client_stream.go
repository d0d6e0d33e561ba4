package h1

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
)

// Facts about a clientStream that both directions have to know.
const (
	flagSent      = 1 << iota // the request is complete
	flagResBegun              // a byte of the answer has come
	flagResEnded              // the answer is complete
	flagSwitched              // 101: tunnel
	flagNoReuse               // the connection must be closed afterwards
	flagGivenUp               // Reset was called
	flagStreamEnd             // detached from the connection
)

// A clientStream is the upstream's side of one exchange.
type clientStream struct {
	mu sync.Mutex
	// Guarded by mu. Feed and the Sink methods, which run before it is taken
	// away, read it without.
	c *ClientConn

	flags    atomic.Uint32
	deadline moment
	idle     atomic.Int64 // of a tunnel, nanoseconds; a flush may look while the 101 is passed on
	reused   bool

	// Owned by the writer.
	w       writer
	method  string
	upgrade string
	began   bool  // Head was called
	unsent  bool  // the request waits for Feed, which sends it
	before  int64 // conn.wrote before this exchange

	// Owned by the reader.
	head    responseHead
	resp    exchange.Response
	interim exchange.Response
	body    body
	feeder  feeder
	trailer exchange.Fields
}

var (
	_ exchange.Upstream    = (*clientStream)(nil)
	_ exchange.Deadliner   = (*clientStream)(nil)
	_ exchange.TunnelIdler = (*clientStream)(nil)
	_ exchange.Releaser    = (*clientStream)(nil)
)

func (x *clientStream) open(c *ClientConn) {
	x.mu.Lock()
	x.c = c
	x.mu.Unlock()
	x.flags.Store(0)
	x.deadline, x.reused = 0, c.Reused()
	x.idle.Store(int64(c.o.tunnelIdle()))
	x.w.reset(&c.conn)
	x.w.limit = limit{timeout: c.o.writeTimeout()}
	x.method, x.upgrade, x.began, x.unsent, x.before = "", "", false, false, c.wrote
}

// detach takes the connection away from x: to give it back, or after it was closed.
func (x *clientStream) detach() {
	x.flags.Or(flagStreamEnd)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.c = nil
}

// Release implements exchange.Releaser.
func (x *clientStream) Release() {
	if x.flags.Load()&flagStreamEnd == 0 {
		x.Reset(exchange.CodeCancel)
	}
	x.w.release()
	x.resp.Reset()
	x.interim.Reset()
	x.trailer.Reset()
	x.head.reset()
	x.feeder = feeder{}
	x.w.c, x.w.op.c, x.w.op.wrote = nil, nil, nil
	x.method, x.upgrade = "", ""
	if !invariants {
		clientStreams.Put(x)
	}
}

// SetDeadline implements exchange.Deadliner.
func (x *clientStream) SetDeadline(t time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.c != nil {
		x.deadline = x.c.at(t)
		x.w.limit.deadline = x.deadline
	}
}

// SetTunnelIdle implements exchange.TunnelIdler.
func (x *clientStream) SetTunnelIdle(d time.Duration) {
	if d != 0 {
		x.idle.Store(int64(d))
	}
}

// Reset implements exchange.Stream.
func (x *clientStream) Reset(code exchange.Code) {
	flags := x.flags.Or(flagGivenUp | flagNoReuse)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.c == nil || !x.c.retire():
	case code == exchange.CodeNoError && flags&flagSwitched != 0:
		_ = x.c.nc.Close() // a tunnel that has come to its end
	default:
		x.c.abort()
	}
}

// close closes the connection in the ordinary way.
func (x *clientStream) close(c *ClientConn) {
	x.flags.Or(flagNoReuse)
	if c.retire() {
		_ = c.nc.Close() // what has to be known about it is known
	}
}

// Head implements exchange.Sink.
func (x *clientStream) Head(h *exchange.Request, end bool) error {
	c := x.c
	if x.began || c == nil {
		return x.order("write head")
	}
	x.began, x.method = true, h.Method
	c.active.Store(0)
	b := x.w.begin(headSize(&h.Fields, len(h.Method)+len(h.Target)+len(h.Authority)+len(h.Upgrade)))
	from := len(b)
	b = appendRequestLine(b, h)
	b, lines := appendFields(b, &h.Fields)
	b, more := x.appendFraming(b, h, end)
	// A request line with a line break in it would come out as one line more.
	if err := x.w.commit(append(b, crlf...), from, lines+more+3); err != nil {
		return x.writeError(err)
	}
	switch {
	case end && c.watch != 0 && x.reused && c.tls == nil:
		// Feed sends it, for whom that is cheaper (rawTurn). On a new connection,
		// which nobody has looked at, something may have come in already.
		x.unsent = true
		x.flags.Or(flagSent)
		return nil
	case end:
		return x.end(x.w.flush())
	}
	if x.upgrade == "" {
		c.active.Store(int64(ongoing))
	}
	return nil
}

// appendFraming decides how the body is framed and appends the fields that say
// so, and Connection. It returns how many lines these are.
func (x *clientStream) appendFraming(b []byte, h *exchange.Request, end bool) ([]byte, int) {
	lines := 0
	te := h.Fields.Has("te")
	switch {
	case h.Upgrade != "" && !end:
		x.w.framing, x.upgrade = noBody, h.Upgrade
		if te {
			b = append(b, "connection: upgrade, te\r\n"...)
		} else {
			b = append(b, "connection: upgrade\r\n"...)
		}
		return appendField(b, "upgrade", h.Upgrade), 2
	case end:
		x.w.framing = noBody
		// RFC 9110 8.6: a zero is sent where the method expects content.
		if h.Fields.Has("content-length") || h.Method == "POST" || h.Method == "PUT" || h.Method == "PATCH" {
			b = append(b, "content-length: 0\r\n"...)
			lines++
		}
	case h.Length >= 0:
		x.w.framing, x.w.left = lengthBody, h.Length
		b = appendLength(b, h.Length)
		lines++
	default:
		x.w.framing = chunkedBody
		b = append(b, "transfer-encoding: chunked\r\n"...)
		lines++
	}
	if te { // RFC 9110 10.1.4: a sender of TE must name it in Connection
		b = append(b, "connection: te\r\n"...)
		lines++
	}
	return b, lines
}

// Data implements exchange.Sink.
func (x *clientStream) Data(p []byte, end bool) error {
	flags := x.flags.Load()
	switch {
	case flags&(flagResEnded|flagSwitched) == flagResEnded:
		return exchange.ErrAnswered // rule 8
	case !x.began || flags&flagSent != 0:
		return x.order("write body")
	case x.upgrade != "":
		if flags&flagSwitched == 0 {
			return x.beforeAnswer(p, end)
		}
		x.w.framing, x.w.marks = tunnel, true
		x.w.limit = limit{timeout: time.Duration(x.idle.Load())}
	}
	err := x.w.data(p, end)
	if end {
		return x.end(err)
	}
	if err != nil {
		return x.writeError(err)
	}
	return nil
}

// beforeAnswer is Data while it is open whether the connection becomes a tunnel.
func (x *clientStream) beforeAnswer(p []byte, end bool) error {
	switch {
	case len(p) > 0:
		return x.order("write tunnel")
	case end: // the upgrade was refused
		return x.end(nil)
	}
	if err := x.w.flush(); err != nil {
		return x.writeError(err)
	}
	return nil
}

// Trailer implements exchange.Sink.
func (x *clientStream) Trailer(f *exchange.Fields) error {
	flags := x.flags.Load()
	switch {
	case flags&(flagResEnded|flagSwitched) == flagResEnded:
		return exchange.ErrAnswered
	case !x.began || flags&flagSent != 0:
		return x.order("write trailer")
	}
	return x.end(x.w.trailer(f))
}

// end is the end of the request; err is what came out of writing it. From the
// moment that flagSent is set the connection may be another exchange's.
func (x *clientStream) end(err error) error {
	if err != nil {
		return x.writeError(err)
	}
	c := x.c
	if x.w.framing == tunnel {
		err = c.closeWrite()
		c.active.Store(int64(c.now()))
		if x.flags.Or(flagSent)&flagResEnded != 0 {
			x.close(c) // both directions have said goodbye
		}
		if err != nil {
			return x.writeError(err)
		}
		return nil
	}
	if c != nil && c.active.Load() == int64(ongoing) {
		c.active.Store(int64(c.now())) // the read timeout counts from here
	}
	x.flags.Or(flagSent)
	return nil
}

func (x *clientStream) order(op string) error {
	return &exchange.Error{Op: op, Side: exchange.Internal, Status: http.StatusInternalServerError, Reason: ReasonOrder}
}

// writeError says what an error while writing the request means.
func (x *clientStream) writeError(err error) error {
	flags := x.flags.Or(flagNoReuse)
	e := &exchange.Error{Op: "write request", Side: exchange.UpstreamSide, Status: http.StatusBadGateway, Err: err}
	switch {
	case flags&flagGivenUp != 0:
		e.Side, e.Status, e.Reason, e.Err = exchange.Internal, 0, ReasonReset, exchange.ErrReset
		return e
	case flags&flagResEnded != 0:
		return exchange.ErrAnswered // Feed has closed the connection
	case errors.Is(err, errBadField):
		e.Side, e.Status, e.Reason = exchange.Internal, http.StatusBadRequest, ReasonBadField
		return e
	case errors.Is(err, errWrongLength):
		e.Side, e.Status, e.Reason = exchange.Internal, http.StatusBadGateway, ReasonWrongLength
		return e
	case errors.Is(err, errTimeout):
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonWriteTimeout
	case errors.Is(err, errDeadline):
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonDeadline
	default:
		e.Reason = ReasonClosed
	}
	switch {
	case x.w.c.wrote == x.before:
		e.Retry = exchange.RetryAlways // not one byte was taken by the kernel
	case x.reused && flags&flagResBegun == 0 && (isClosed(err) || errors.Is(err, net.ErrClosed)):
		e.Retry = exchange.RetryIfReused
	}
	return e
}
