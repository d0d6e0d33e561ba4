package h2

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// A serverConn is a client's connection.
type serverConn struct {
	conn

	// Immutable.
	s     *Server
	facts *exchange.Conn
	ctx   context.Context

	parsed requestHead // scratch of the reader

	workers sync.WaitGroup
	free    []*serverStream // their goroutines wait for an exchange; guarded by conn.mu
	ended   bool            // no goroutine may begin to wait; guarded by conn.mu

	before, behind *serverConn // in the list; guarded by s.mu
}

var _ side = (*serverConn)(nil)

// head implements side.
func (c *serverConn) head(id uint32, s *stream, b *block, end bool) error {
	if s != nil {
		return c.trailer(s, b, end)
	}
	started := time.Now()
	if skip, err := c.admit(id, b); skip || err != nil {
		if se, ok := err.(*streamError); ok { //nolint:errorlint // it is never wrapped
			h := &c.parsed
			*h = requestHead{}
			_, _ = h.pseudo(b) // what there is; it is refused anyway
			c.tell(fault{0, se.reason}, started, h)
		}
		return err
	}
	x := c.worker()
	x.begin(id, started)
	h := &c.parsed
	f := parseRequest(&x.req, h, b, c.facts.SchemeOf(c.s.scheme), end)
	if f.ok() && c.s.maxBody > 0 && x.req.Length > c.s.maxBody {
		f = fault{http.StatusRequestEntityTooLarge, ReasonBodyTooLarge}
	}
	if !f.ok() {
		c.giveBack(x)
		return c.refuse(id, f, started, h, end)
	}
	x.req.Conn = c.facts
	c.mu.Lock()
	if !c.share.hold(b.size) {
		c.remember(id | oursBit)
		c.mu.Unlock()
		c.giveBack(x)
		c.tell(fault{0, ReasonMemory}, started, h)
		return &streamError{id, http2.ErrCodeRefusedStream, ReasonMemory}
	}
	x.heads = b.size
	c.begin(&x.stream, id)
	x.ended, x.length, x.most = end, h.length, c.s.maxBody
	c.busy++
	c.mu.Unlock()
	x.complete = end
	x.start()
	return nil
}

// trailer takes the second field section of a request.
func (c *serverConn) trailer(s *stream, b *block, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !s.open || s.id == 0:
		return nil
	case s.ended:
		return &streamError{s.id, http2.ErrCodeStreamClosed, ReasonStreamClosed}
	case !end:
		return &streamError{s.id, http2.ErrCodeProtocol, ReasonBadTrailer}
	}
	if f := setTrailer(&s.trailer, b); !f.ok() {
		return &streamError{s.id, http2.ErrCodeProtocol, ReasonBadTrailer}
	}
	if err := s.expect(0, true); err != nil {
		return err
	}
	x, ok := s.owner.(*serverStream)
	if !ok || !c.share.hold(b.size) {
		return &streamError{s.id, http2.ErrCodeEnhanceYourCalm, ReasonMemory}
	}
	x.heads += b.size
	s.ended, s.trailed = true, s.trailer.Len() > 0
	s.in.wake()
	s.over()
	return nil
}

// admit judges a field section for a stream that is not open: whether it may open it.
// skip: it is to be forgotten.
func (c *serverConn) admit(id uint32, b *block) (skip bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, idle, ours := c.find(id)
	switch {
	case id%2 == 0:
		return false, protocol()
	case !idle && ours: // trailers that were on their way when we reset the stream
		return true, c.late()
	case !idle && c.closedBefore(id):
		return false, &connError{http2.ErrCodeStreamClosed, ReasonStreamClosed}
	case !idle && c.remembered[c.forget] != 0: // it may have been forgotten
		return false, &streamError{id, http2.ErrCodeStreamClosed, ReasonStreamClosed}
	case !idle:
		return false, protocol() // RFC 9113 5.1.1: ids only rise
	case c.goingAway == goingNow: // RFC 9113 6.8: the client knows, or will soon
		c.ignored = id
		return true, c.late()
	}
	c.last = id
	switch {
	case b.self:
		err = &streamError{id, http2.ErrCodeProtocol, ReasonProtocol}
	case len(c.streams) >= c.o.MaxStreams, c.busy >= 2*c.o.MaxStreams:
		// The second: it cancels faster than exchanges can end.
		err = &streamError{id, http2.ErrCodeRefusedStream, ReasonTooMany}
	}
	if err != nil {
		c.remember(id | oursBit) // its body may be on its way
	}
	return false, err
}

// worker returns a stream for an exchange.
func (c *serverConn) worker() *serverStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		x := c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
		return x
	}
	return newServerStream(c)
}

// giveBack takes a stream that was not used.
func (c *serverConn) giveBack(x *serverStream) {
	x.forget()
	if x.work == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, x)
}

// endWorkers waits for the end of all exchanges.
func (c *serverConn) endWorkers() {
	c.mu.Lock()
	c.ended = true
	c.rest()
	c.mu.Unlock()
	c.workers.Wait()
}

// resting implements side.
func (c *serverConn) resting() bool { return len(c.free) > 0 }

// rest implements side.
func (c *serverConn) rest() {
	for _, x := range c.free {
		close(x.work)
	}
	clear(c.free)
	c.free = nil
}

// lost implements side.
func (c *serverConn) lost(s *stream, id uint32) {
	x, ok := s.owner.(*serverStream)
	if ok && x.presence.lose(id) {
		x.gone(id)
	}
}

// settings implements side.
func (c *serverConn) settings() {}

// away implements side: a client that leaves need not be told anything.
func (c *serverConn) away(uint32, http2.ErrCode) {}

// refuse answers a request that never becomes an exchange, and tells the hook. The
// reader calls; nothing blocks.
func (c *serverConn) refuse(id uint32, f fault, started time.Time, h *requestHead, end bool) error {
	text := strconv.Itoa(f.status) + " " + f.reason + "\n"
	c.mu.Lock()
	body := h.method != http.MethodHead && c.peer.window >= int64(len(text)) && int64(c.send) >= int64(len(text))
	reset := malformed(f)
	c.encode(":status", statusText(f.status))
	c.encode("content-type", "text/plain")
	if body || h.method == http.MethodHead {
		c.encodeInt("content-length", int64(len(text)))
	} else {
		c.encodeInt("content-length", 0) // there is no window for it
	}
	c.encode("date", c.s.date.at(started))
	c.writeBlock(id, !body && !reset)
	if body {
		flags := http2.FlagDataEndStream
		if reset {
			flags = 0
		}
		c.frame(http2.FrameData, flags, id, []byte(text))
		c.send -= window(len(text))
	}
	switch {
	case reset:
		c.control(c.fr.WriteRSTStream(id, http2.ErrCodeProtocol))
	case !end:
		c.control(c.fr.WriteRSTStream(id, http2.ErrCodeNo))
	}
	c.remember(id | oursBit)
	ok := c.counts.resets.add(c.now(), rateReset)
	c.mu.Unlock()
	c.tell(f, started, h)
	if !ok {
		return calm(ReasonRapidReset)
	}
	return nil
}

// tell calls the hook.
func (c *serverConn) tell(f fault, started time.Time, h *requestHead) {
	hook := c.s.refused
	if hook == nil {
		return
	}
	r := Refusal{Status: f.status, Reason: f.reason, Start: started, Conn: c.facts}
	r.Method, r.Target, r.Host = h.method, shorten(h.path), shorten(h.authority)
	if r.Host == "" {
		r.Host = shorten(h.host)
	}
	if len(r.Method) > maxMethod || !isMethod(r.Method) {
		r.Method = ""
	}
	hook(&r)
}

func shorten(s string) string {
	if len(s) > maxRefusedText {
		return strings.Clone(s[:maxRefusedText])
	}
	return s
}

// statusText returns a status code as text.
func statusText(status int) string {
	if 100 <= status && status < 600 {
		const digits = 3
		i := (status - 100) * digits
		return allStatus[i : i+digits]
	}
	return strconv.Itoa(status)
}

// allStatus is the text of all status codes from 100 to 599.
var allStatus = func() string {
	var b strings.Builder
	for i := 100; i < 600; i++ {
		b.WriteString(strconv.Itoa(i))
	}
	return b.String()
}()
