package h2

import (
	"golang.org/x/net/http2"
)

// readSettings applies the peer's settings and acknowledges them (RFC 9113 6.5).
func (c *conn) readSettings(f *http2.SettingsFrame) error {
	if err := c.count(&c.counts.control, rateControl, ReasonControlFlood); err != nil {
		return err
	}
	if f.IsAck() {
		return nil
	}
	if f.NumSettings() > maxSettings {
		return calm(ReasonControlFlood)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range f.NumSettings() {
		if err := c.setting(f.Setting(i)); err != nil {
			return err
		}
	}
	c.peer.seen = true
	c.side.settings()
	c.control(c.fr.WriteSettingsAck())
	return nil
}

// setting applies one. c.mu is held.
func (c *conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return c.frameError(err, http2.FrameHeader{Type: http2.FrameSettings})
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - c.peer.window
		c.peer.window = int64(s.Val)
		for _, x := range c.streams {
			if !x.send.add(more) {
				return &connError{http2.ErrCodeFlowControl, ReasonFlowControl}
			}
			x.out.wake()
		}
	case http2.SettingMaxFrameSize:
		c.peer.frame = min(int(s.Val), maxFrame)
	case http2.SettingEnablePush:
		if c.client && s.Val != 0 { // RFC 9113 6.5.2: servers must not
			return protocol()
		}
	case http2.SettingMaxConcurrentStreams:
		c.peer.streams = s.Val
	case http2.SettingMaxHeaderListSize:
		c.peer.head = s.Val
	default: // ours to ignore (RFC 9113 6.5.2); nothing is pushed, and our blocks need no table
	}
	return nil
}

// readWindowUpdate opens a window for what we send (RFC 9113 6.9).
func (c *conn) readWindowUpdate(f *http2.WindowUpdateFrame) error {
	if err := c.count(&c.counts.windows, rateWindow, ReasonWindowFlood); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if !c.send.add(int64(f.Increment)) {
			return &connError{http2.ErrCodeFlowControl, ReasonFlowControl}
		}
		c.grant()
		return nil
	}
	s, idle, _ := c.find(f.StreamID)
	switch {
	case idle:
		return protocol()
	case s == nil: // RFC 9113 5.1: it may have been on its way
	case !s.send.add(int64(f.Increment)):
		return &streamError{f.StreamID, http2.ErrCodeFlowControl, ReasonFlowControl}
	default:
		s.out.wake()
	}
	return nil
}

// readReset ends a stream that the peer gives up (RFC 9113 6.4).
func (c *conn) readReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	s, idle, _ := c.find(f.StreamID)
	if idle {
		c.mu.Unlock()
		return protocol()
	}
	// An upstream can reset only what we have opened.
	ok := c.client && s != nil || c.counts.resets.add(c.now(), rateReset)
	switch {
	case s == nil:
	case c.client && s.ended:
		s.shut(nil, false) // RFC 9113 8.1: the answer is complete, the rest of the request not wanted
	default:
		s.shut(&resetError{f.ErrCode}, false)
	}
	c.mu.Unlock()
	if s != nil {
		c.side.lost(s, f.StreamID)
	}
	if !ok {
		return calm(ReasonRapidReset)
	}
	return nil
}

// A resetError is why calls fail on a stream that the peer has reset.
type resetError struct{ code http2.ErrCode }

func (e *resetError) Error() string { return "stream was reset by the peer: " + e.code.String() }

// readPing answers a PING, or takes note of an answer (RFC 9113 6.7).
func (c *conn) readPing(f *http2.PingFrame) error {
	if err := c.count(&c.counts.control, rateControl, ReasonControlFlood); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !f.IsAck():
		c.control(c.fr.WritePing(true, f.Data))
	case f.Data == pingDrain && c.goingAway == goingSoon:
		c.goAwayNow() // whatever was sent before our GOAWAY came is here
	}
	return nil
}
