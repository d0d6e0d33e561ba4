package plugintest

import (
	"errors"

	"wproxy/core/exchange"
)

// upstream is the sink behind the last filter.
type upstream struct {
	e       *engine
	message Request
	flushes int
}

// Head implements exchange.Sink.
func (u *upstream) Head(h *exchange.Request, end bool) error {
	u.e.mu.Lock()
	defer u.e.mu.Unlock()
	m := &u.message
	if m.Method != "" {
		return errors.New("plugintest: second request head")
	}
	m.Method, m.Scheme, m.Authority, m.Path = h.Method, h.Scheme, h.Authority, h.Target
	m.Protocol = h.Version.String()
	m.Fields, m.Ended = drain(&h.Fields), end
	return nil
}

// Data implements exchange.Sink.
func (u *upstream) Data(p []byte, end bool) error {
	u.e.mu.Lock()
	defer u.e.mu.Unlock()
	if err := check(u.message.Method != "", u.message.Ended); err != nil {
		return err
	}
	if len(p) == 0 && !end {
		u.flushes++
	}
	u.message.Body = append(u.message.Body, p...)
	u.message.Ended = end
	return nil
}

// Trailer implements exchange.Sink.
func (u *upstream) Trailer(f *exchange.Fields) error {
	u.e.x.Mu.Lock()
	u.e.x.RequestTrailer = f
	u.e.x.Mu.Unlock()
	u.e.mu.Lock()
	defer u.e.mu.Unlock()
	if err := check(u.message.Method != "", u.message.Ended); err != nil {
		return err
	}
	u.message.Trailers, u.message.Ended = drain(f), true
	return nil
}

// client is the sink in front of the first filter.
type client struct {
	e             *engine
	message       Response
	informational []int
	flushes       int
}

// Head implements exchange.Sink.
func (c *client) Head(h *exchange.Response, end bool) error {
	c.e.mu.Lock()
	if h.Status/100 == 1 && h.Status != 101 {
		c.informational = append(c.informational, h.Status)
		c.e.mu.Unlock()
		return nil
	}
	m := &c.message
	if m.Status != 0 {
		c.e.mu.Unlock()
		return errors.New("plugintest: second response head")
	}
	m.Status, m.Fields, m.Length, m.Ended = h.Status, drain(&h.Fields), h.Length, end
	c.e.mu.Unlock()
	return c.ended(end)
}

// Data implements exchange.Sink.
func (c *client) Data(p []byte, end bool) error {
	c.e.mu.Lock()
	if err := check(c.message.Status != 0, c.message.Ended); err != nil {
		c.e.mu.Unlock()
		return err
	}
	if len(p) == 0 && !end {
		c.flushes++
	}
	c.message.Body = append(c.message.Body, p...)
	c.message.Ended = end
	c.e.mu.Unlock()
	return c.ended(end)
}

// Trailer implements exchange.Sink.
func (c *client) Trailer(f *exchange.Fields) error {
	c.e.x.Mu.Lock()
	c.e.x.ResponseTrailer = f
	c.e.x.Mu.Unlock()
	c.e.mu.Lock()
	if err := check(c.message.Status != 0, c.message.Ended); err != nil {
		c.e.mu.Unlock()
		return err
	}
	c.message.Trailers, c.message.Ended = drain(f), true
	c.e.mu.Unlock()
	return c.ended(true)
}

// ended tells the exchange when the answer is complete.
func (c *client) ended(end bool) error {
	if end {
		c.e.x.AnswerEnded()
	}
	return nil
}

// check holds a call against the contract of exchange.Sink.
func check(head, ended bool) error {
	switch {
	case !head:
		return errors.New("plugintest: data before the head")
	case ended:
		return errors.New("plugintest: data after the end of the message")
	}
	return nil
}
