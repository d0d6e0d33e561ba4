package h2

import (
	"errors"
	"io"

	"golang.org/x/net/http2"
)

// read takes frames from the connection until it ends, and returns why.
func (c *conn) read() error {
	for {
		if err := c.awaitFrame(); err != nil {
			return err
		}
		h, err := c.fr.ReadFrameHeader()
		if err == nil {
			err = c.readFrame(h)
		}
		c.in.frame, c.in.body = 0, false
		if err = c.streamFault(c.frameError(err, h)); err != nil {
			return err
		}
	}
}

// awaitFrame returns when the first byte of the next frame is here.
func (c *conn) awaitFrame() error {
	in := &c.in
	if in.r == in.w {
		if err := c.fill(); err != nil {
			return err
		}
	}
	in.frame = max(in.last, 1)
	return nil
}

// readFrame reads and handles the frame that h begins.
func (c *conn) readFrame(h http2.FrameHeader) error {
	if !c.peerSeen() && (h.Type != http2.FrameSettings || h.Flags.Has(http2.FlagSettingsAck)) {
		return &connError{http2.ErrCodeProtocol, ReasonBadPreface} // RFC 9113 3.4
	}
	if h.Type == http2.FrameData {
		c.in.body = true
		return c.readData(h)
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.readHeaders(f)
	case *http2.SettingsFrame:
		return c.readSettings(f)
	case *http2.WindowUpdateFrame:
		return c.readWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.readReset(f)
	case *http2.PingFrame:
		return c.readPing(f)
	case *http2.GoAwayFrame:
		c.side.away(f.LastStreamID, f.ErrCode)
		return c.count(&c.counts.control, rateControl, ReasonControlFlood)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return &streamError{f.StreamID, http2.ErrCodeProtocol, ReasonProtocol}
		}
		return c.count(&c.counts.priority, ratePriority, ReasonPriorityFlood)
	case *http2.PushPromiseFrame:
		return protocol() // a client cannot push (RFC 9113 8.4), and servers were told not to
	}
	if h.Type == 0x10 { // PRIORITY_UPDATE (RFC 9218 7.1)
		return c.count(&c.counts.priority, ratePriority, ReasonPriorityFlood)
	}
	return c.count(&c.counts.unknown, rateUnknown, ReasonUnknownFlood)
}

// peerSeen reports whether the peer's first SETTINGS frame has come.
func (c *conn) peerSeen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.seen
}

// frameError translates errors of the Framer, which read the frame of h.
func (c *conn) frameError(err error, h http2.FrameHeader) error {
	if err == nil || c.in.err != nil {
		return err
	}
	var ce http2.ConnectionError
	var se http2.StreamError
	switch {
	case errors.As(err, &ce):
		return &connError{http2.ErrCode(ce), reasonOf(http2.ErrCode(ce))}
	case errors.As(err, &se) && h.Type == http2.FrameWindowUpdate:
		return &streamError{se.StreamID, se.Code, reasonOf(se.Code)}
	case errors.As(err, &se): // a field block was not decoded: nothing is known any more
		return &connError{se.Code, reasonOf(se.Code)}
	case errors.Is(err, http2.ErrFrameTooLarge), errors.Is(err, io.ErrUnexpectedEOF):
		// The second: a frame that is shorter than its fields.
		return &connError{http2.ErrCodeFrameSize, ReasonFrameSize}
	}
	return err
}

func reasonOf(code http2.ErrCode) string {
	switch code {
	case http2.ErrCodeFlowControl:
		return ReasonFlowControl
	case http2.ErrCodeFrameSize:
		return ReasonFrameSize
	case http2.ErrCodeCompression:
		return ReasonCompression
	case http2.ErrCodeStreamClosed:
		return ReasonStreamClosed
	default:
		return ReasonProtocol
	}
}

// streamFault handles the error of a frame if it is one of a stream only.
func (c *conn) streamFault(err error) error {
	se, ok := err.(*streamError) //nolint:errorlint // it is never wrapped
	switch {
	case !ok:
		return err
	case se == errDropped:
		return nil
	}
	c.mu.Lock()
	s, idle, _ := c.find(se.id)
	if idle {
		// Nobody has opened it: a RST_STREAM would be for a stream that there is not.
		c.mu.Unlock()
		return &connError{se.code, se.reason}
	}
	if s != nil {
		s.reset(se.code, gone(&connError{se.code, se.reason}))
	} else {
		c.control(c.fr.WriteRSTStream(se.id, se.code))
	}
	ok = c.counts.resets.add(c.now(), rateReset)
	c.mu.Unlock()
	if s != nil {
		c.side.lost(s, se.id)
	}
	if !ok {
		return calm(ReasonRapidReset)
	}
	return nil
}

// readData reads a DATA frame (RFC 9113 6.1). It does not go through the Framer, so
// that bytes are copied once.
func (c *conn) readData(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return protocol()
	}
	n, pad := int(h.Length), 0
	if h.Flags.Has(http2.FlagDataPadded) {
		if n == 0 {
			return &connError{http2.ErrCodeFrameSize, ReasonFrameSize}
		}
		p, err := c.next(1)
		if err != nil {
			return err
		}
		if pad = int(p[0]); pad > n-1 {
			return protocol()
		}
		n -= 1 + pad
	}
	end := h.Flags.Has(http2.FlagDataEndStream)
	refused, err := c.admitData(h, n, end)
	if err != nil {
		return err
	}
	for left := n; left > 0; {
		p, err := c.next(left)
		if err != nil {
			return err
		}
		left -= len(p)
		if refused == nil {
			refused = c.data(h.StreamID, p)
		}
	}
	for ; pad > 0; pad-- {
		if _, err := c.next(1); err != nil {
			return err
		}
	}
	if end && refused == nil {
		c.endOf(h.StreamID)
	}
	return refused
}

// admitData judges a DATA frame with n bytes before they are read. The first error is
// one of the stream: the bytes have to be read and dropped. The second ends the
// connection.
func (c *conn) admitData(h http2.FrameHeader, n int, end bool) (refused, failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := int(h.Length)
	if !c.allow.left.take(whole) {
		return nil, &connError{http2.ErrCodeFlowControl, ReasonFlowControl}
	}
	if n := c.allow.give(whole); n > 0 {
		c.control(c.fr.WriteWindowUpdate(0, uint32(n)))
	}
	switch {
	case n == 0 && !end:
		if !c.counts.empty.add(c.now(), rateEmpty) {
			return nil, calm(ReasonEmptyData)
		}
	case n < tinyData && !end:
		if !c.counts.tiny.add(c.now(), rateTiny) {
			return nil, calm(ReasonTinyData)
		}
	}
	s, idle, ours := c.find(h.StreamID)
	switch {
	case idle:
		return nil, protocol()
	case s == nil && ours: // on its way when we reset the stream
		if !c.counts.lateData.add(c.now(), rateLateData) {
			return nil, calm(ReasonLateFlood)
		}
		if end {
			return errDropped, c.late()
		}
		return errDropped, nil
	case s == nil || s.ended:
		return &streamError{h.StreamID, http2.ErrCodeStreamClosed, ReasonStreamClosed}, nil
	case !s.allow.left.take(whole):
		return &streamError{h.StreamID, http2.ErrCodeFlowControl, ReasonFlowControl}, nil
	}
	if whole > n { // padding is taken by us
		if n := s.allow.give(whole - n); n > 0 {
			c.control(c.fr.WriteWindowUpdate(s.id, uint32(n)))
		}
	}
	if err := s.expect(n, end); err != nil {
		return err, nil
	}
	if s.most > 0 && s.got > s.most {
		s.tooLarge = true
		s.in.wake()
		if end {
			return errDropped, c.late()
		}
		return errDropped, nil
	}
	return nil, nil
}

// late counts the end of a message that is ignored, of which each stream can have one.
// c.mu is held.
func (c *conn) late() error {
	if !c.counts.late.add(c.now(), rateLate) {
		return calm(ReasonStreamClosed)
	}
	return nil
}

// endOf notes that the peer has ended the message of stream id.
func (c *conn) endOf(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		s.ended = true
		s.in.wake()
		s.over()
	}
}

// errDropped is a refusal of which the peer need not hear.
var errDropped = &streamError{reason: ReasonStreamClosed}

// errTooLarge is why a stream fails whose message is larger than it may be.
var errTooLarge = errors.New("body too large")
