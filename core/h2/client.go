package h2

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// ClientOptions are the settings of connections to upstreams. The zero value is good.
// They are shared and must not change while a connection uses them.
type ClientOptions struct {
	MaxHead   int // bytes of a field section; 0: DefaultMaxHead
	MaxFields int // lines of a field section; 0: DefaultMaxFields

	// MaxStreams is the most exchanges of a connection at a time, if the upstream
	// allows as many; 0: DefaultClientStreams.
	MaxStreams int

	HeaderTime   time.Duration // for a field block, from its first byte; 0: DefaultHeaderTime
	ReadTimeout  time.Duration // between bytes of an answer, and until its first; 0: DefaultReadTimeout; negative: none
	WriteTimeout time.Duration // between bytes of a request; 0: DefaultWriteTimeout; negative: none
	Idle         time.Duration // without an exchange; 0: DefaultClientIdle

	// KeepAlive is how long an upstream with open streams may be silent until it is
	// sent a PING, which it has to answer within PingTime; 0: DefaultClientKeepAlive, and
	// DefaultPingTime. Negative: no pings.
	KeepAlive, PingTime time.Duration
}

// forever stands for no timeout.
const forever = 10 * 365 * 24 * time.Hour

func orForever(d, fallback time.Duration) time.Duration {
	if d < 0 {
		return forever
	}
	return cmp.Or(d, fallback)
}

func (o *ClientOptions) common() *options {
	return &options{
		MaxHead: cmp.Or(o.MaxHead, DefaultMaxHead), MaxFields: cmp.Or(o.MaxFields, DefaultMaxFields),
		HeaderTime: cmp.Or(o.HeaderTime, DefaultHeaderTime), Idle: cmp.Or(o.Idle, DefaultClientIdle),
		ReadTimeout: orForever(o.ReadTimeout, DefaultReadTimeout), WriteTimeout: orForever(o.WriteTimeout, DefaultWriteTimeout),
		KeepAlive: max(cmp.Or(o.KeepAlive, DefaultClientKeepAlive), 0), PingTime: cmp.Or(o.PingTime, DefaultPingTime),
	}
}

// A ClientConn is a connection to an upstream that carries many exchanges at a time. It
// implements pool.Conn and pool.Multiplexer; its methods are safe for concurrent use.
//
// It takes no more exchanges when the upstream has said that it leaves (GOAWAY), when
// its numbers are used up, and when it has failed. Those that are under way go on as
// far as the upstream lets them.
type ClientConn struct {
	conn

	// Immutable.
	scheme string
	max    int
	tls    *tls.ConnectionState // nil: in clear
	ready  chan struct{}        // closed when the upstream's settings have come
	failed chan struct{}        // closed when nothing more is read
	why    error                // valid from then on

	reused atomic.Bool // an exchange has been completed

	// Guarded by conn.mu.
	reserved int    // slots that are taken, and no stream yet
	next     uint32 // id of the next stream
	leaving  bool   // no more are opened
	asked    moment // when the first request was complete behind which nothing has come
	free     []*clientStream
}

var _ side = (*ClientConn)(nil)

// NewClientConn takes over nc, an established connection on which nothing was said
// yet. o may be nil. It starts the goroutine that reads, which ends with the
// connection.
func NewClientConn(nc net.Conn, o *ClientOptions) *ClientConn {
	if o == nil {
		o = new(ClientOptions)
	}
	c := &ClientConn{max: cmp.Or(o.MaxStreams, DefaultClientStreams), scheme: "http", next: 1}
	c.ready, c.failed = make(chan struct{}), make(chan struct{})
	if t, ok := nc.(interface{ State() tls.ConnectionState }); ok { // a tlsconn.Conn
		st := t.State()
		c.tls, c.scheme = &st, "https"
	}
	c.client = true
	c.attach(nc, o.common(), c, nil)
	c.mu.Lock()
	_, _ = c.out.Write([]byte(http2.ClientPreface)) // a pile takes everything
	c.greet()
	c.mu.Unlock()
	go func() {
		c.why = c.read()
		close(c.failed)
		_ = c.end(c.why) // streams have been told why
	}()
	return c
}

// Ready waits until the upstream has said how it wants to be spoken to, which is the
// first thing that it says (RFC 9113 3.4). Who does not wait may open more streams than
// it takes; and an upstream that is no HTTP/2 server has seen no request yet. The
// error is ctx's, or says what it did instead.
func (c *ClientConn) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.failed:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.peer.seen {
			return nil // it has said that, and gone
		}
		return c.why
	}
}

// Reserve takes a slot for one exchange.
func (c *ClientConn) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usableLocked() || c.reserved+len(c.streams) >= c.most() {
		return false
	}
	c.reserved++
	return true
}

// most returns how many streams there may be now. c.mu is held.
func (c *ClientConn) most() int { return min(c.max, int(min(c.peer.streams, maxWindow))) }

// Open returns the stream of the exchange that Reserve has taken the slot for. It never
// blocks and does not look at ctx: who wants the stream to end calls Reset.
//
// The stream is an exchange.Deadliner and an exchange.Releaser. Its slot is free again
// when both messages have ended, or it was reset.
func (c *ClientConn) Open(context.Context) (exchange.Upstream, error) {
	return c.newStream(), nil
}

// Reused reports whether an exchange has completed on c before, or so many were given up
// that it takes no more.
func (c *ClientConn) Reused() bool { return c.reused.Load() }

// Idle reports whether c is alive and has no exchange.
func (c *ClientConn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usableLocked() && c.reserved+len(c.streams) == 0
}

// Usable reports whether c will have slots again once exchanges have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usableLocked()
}

func (c *ClientConn) usableLocked() bool {
	return !c.leaving && c.err == nil && !c.dead && c.next <= maxStreamID
}

// TLS returns the state of the TLS that c stands on; nil: it is in clear. It is not to be
// changed.
func (c *ClientConn) TLS() *tls.ConnectionState { return c.tls }

// Close closes the connection; streams on it fail.
func (c *ClientConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(errDone)
	return nil
}

// lost implements side: streams are woken by what closes them.
func (c *ClientConn) lost(*stream, uint32) {}

// settings implements side.
func (c *ClientConn) settings() {
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

// resting implements side.
func (c *ClientConn) resting() bool { return len(c.free) > 0 }

// rest implements side.
func (c *ClientConn) rest() { c.free = nil }

// away implements side: streams beyond last have not been processed (RFC 9113 6.8), and
// no more are opened. The connection ends with those that are left.
func (c *ClientConn) away(last uint32, code http2.ErrCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := &unprocessedError{code}
	for id, s := range c.streams {
		switch {
		case id <= last:
		case s.ended: // it has been answered, whatever is said of it now
			s.shut(nil, false)
		default:
			s.shut(err, false)
		}
	}
	c.leave()
}

// leave makes c take no more exchanges. It ends with those that are under way. c.mu is held.
func (c *ClientConn) leave() {
	c.leaving, c.goingAway = true, goingNow
	c.kick()
}

// judge is called when an exchange is given up. If c has been silent since a request was
// sent, its other end may have vanished: TCP would find that out in a quarter of an hour, a
// keep-alive in minutes, and every request until then would wait as long as this one.
// Like a connection of HTTP/1.1, it is not used again. c.mu is held.
func (c *ClientConn) judge() {
	if c.leaving || c.err != nil || c.asked <= moment(c.heard.Load()) || c.now() < c.asked+silentTime {
		return
	}
	c.leave()
}

// spend is called when a stream is reset that the upstream takes for open. Servers defend
// themselves against clients that open streams and reset them, and what they end is the
// connection: one client who cancels would take the answers of all others with it. It gets
// no more requests when it has had its share (rateCancel), which nobody on it notices: it
// has had exchanges, whether or not one was completed, so that who moves to another one has
// not met a server that fails. c.mu is held.
func (c *ClientConn) spend() {
	if !c.counts.cancels.add(c.now(), rateCancel) && !c.leaving {
		c.reused.Store(true)
		c.leave()
	}
}

// An unprocessedError is why calls fail on a stream that the upstream has not looked at.
type unprocessedError struct{ code http2.ErrCode }

func (e *unprocessedError) Error() string { return "the upstream goes away: " + e.code.String() }

// head implements side.
func (c *ClientConn) head(id uint32, s *stream, b *block, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil || c.streams[id] != s {
		if _, idle, _ := c.find(id); idle {
			return protocol()
		}
		if !c.counts.lateHeads.add(c.now(), rateLateHeads) {
			return calm(ReasonLateFlood)
		}
		return nil // on its way when the stream was closed
	}
	x, ok := s.owner.(*clientStream)
	switch {
	case !ok || s.ended:
		return &streamError{id, http2.ErrCodeStreamClosed, ReasonStreamClosed}
	case x.final:
		return x.trailers(b, end)
	default:
		return x.received(b, end)
	}
}

// received takes a response head. c.mu is held.
func (x *clientStream) received(b *block, end bool) error {
	broken := func(reason string) error { return &streamError{x.id, http2.ErrCodeProtocol, reason} }
	h := &x.resp
	h.Reset()
	body, f := parseResponse(h, b, x.method)
	switch {
	case !f.ok():
		return broken(f.reason)
	case x.got > 0:
		return broken(ReasonProtocol) // DATA in front of the head
	case h.Status < 200 && end:
		return broken(ReasonProtocol) // RFC 9113 8.1: there has to be a final head
	case h.Status < 200:
		if x.interims++; x.interims > maxInterim {
			return &streamError{x.id, http2.ErrCodeEnhanceYourCalm, ReasonInterim}
		}
		if h.Status != 100 { // rule 7: wproxy has told its client so itself
			if x.waiting += interimSize(h); x.waiting > x.c.o.MaxHead {
				return &streamError{x.id, http2.ErrCodeEnhanceYourCalm, ReasonInterim}
			}
			next := new(exchange.Response)
			*next, x.resp = x.resp, *next
			x.interim = append(x.interim, next)
			x.in.wake()
		}
		return nil
	}
	x.final, x.length = true, body
	if end {
		if err := x.expect(0, true); err != nil && body != 0 {
			return err
		}
		x.ended = true
	}
	x.in.wake()
	x.over()
	return nil
}

// interimSize is the size of a 1xx head, as in DefaultMaxHead.
func interimSize(h *exchange.Response) int { return h.Fields.Size() + (h.Fields.Len()+1)*32 }

// trailers takes the field section behind the body. c.mu is held.
func (x *clientStream) trailers(b *block, end bool) error {
	if !end {
		return &streamError{x.id, http2.ErrCodeProtocol, ReasonBadTrailer}
	}
	if f := setTrailer(&x.trailer, b); !f.ok() {
		return &streamError{x.id, http2.ErrCodeProtocol, ReasonBadTrailer}
	}
	if err := x.expect(0, true); err != nil {
		return err
	}
	x.ended, x.trailed = true, x.trailer.Len() > 0
	x.in.wake()
	x.over()
	return nil
}

// errNoAnswer is the end of a stream without a head.
var errNoAnswer = errors.New("the stream has ended without an answer")
