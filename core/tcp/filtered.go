package tcp

import (
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// filtered serves a connection whose route has filters.
func (c *conn) filtered() {
	down, err := c.chain()
	defer c.closeFilters()
	if err != nil {
		c.failed(err)
		return
	}
	c.fromClient(down)
	c.mu.Lock()
	c.noBack = true
	done := c.back
	c.mu.Unlock()
	if done != nil {
		<-done
	}
}

// chain makes the filters, links them, and returns where what the client sends goes in.
func (c *conn) chain() (filter.Flow, error) {
	r := c.route
	x := &filter.Exchange{
		Context: c.ctx, Start: c.start, Deadline: c.deadline(), RequestID: c.id(),
		Request:    &exchange.Request{Conn: c.facts, Authority: c.name, Length: -1},
		ClientAddr: c.facts.Remote.Addr().Unmap(), ClientIP: c.facts.RemoteIP,
		Route: &r.Info, Engine: engine{c},
	}
	c.mu.Lock()
	c.x = x
	over := c.over
	c.mu.Unlock()
	if over {
		x.AnswerEnded() // abort has not seen it
	}
	for _, f := range r.Filters {
		g, err := f.NewTCP(x)
		if err != nil {
			if _, ok := errors.AsType[*exchange.Error](err); !ok {
				err = &exchange.Error{Op: "plugin " + f.Name(), Reason: "plugin_failed:" + f.Name(), Err: err}
			}
			return nil, err
		}
		c.filters = append(c.filters, g)
	}
	var up filter.Flow = client{c}
	for _, f := range c.filters { // the last filter sees first what the upstream sends
		up = f.Upstream(up)
	}
	var down filter.Flow = server{c, up}
	for _, f := range slices.Backward(c.filters) {
		down = f.Downstream(down)
	}
	return down, nil
}

// fromClient feeds what the client sends.
func (c *conn) fromClient(down filter.Flow) {
	if err := down.Open(); err != nil {
		c.failed(err)
		return
	}
	if len(c.first) > 0 {
		p := c.first
		c.first = nil
		c.in.Add(int64(len(p)))
		if err := down.Data(p, false); err != nil {
			c.flowFailed(err)
			return
		}
	}
	c.feed(down, c.client, exchange.ClientSide)
}

// feed reads one side to its end and pushes what it reads into f.
func (c *conn) feed(f filter.Flow, src net.Conn, from exchange.Side) {
	r := newReader(src)
	defer r.release()
	for {
		p, err := r.read()
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			c.broken(from)
			return
		}
		if from == exchange.ClientSide {
			c.in.Add(int64(len(p)))
			if end {
				c.noteGone()
			}
		} else {
			c.heard.Add(int64(len(p)))
		}
		if bad := f.Data(p, end); bad != nil {
			c.flowFailed(bad)
			return
		}
		if end {
			return
		}
		r.fit(len(p))
	}
}

// flowFailed ends the connection because a flow has failed, unless it is one that has
// ended for itself: what the upstream has said last is to be passed on.
func (c *conn) flowFailed(err error) {
	if !errors.Is(err, exchange.ErrAnswered) {
		c.failed(err)
	}
}

// A server is the end of the client's direction: it joins the connection with an upstream.
type server struct {
	c  *conn
	up filter.Flow
}

// Open implements filter.Flow. From here on the upstream may speak.
func (s server) Open() error {
	c := s.c
	if err := c.dial(); err != nil {
		c.failed(err)
		return exchange.ErrAnswered
	}
	c.x.Mu.Lock()
	c.x.Upstream = filter.Outcome{
		Cluster: c.to.Name, Address: c.endpoint.Name, Attempts: c.tries, ConnectTime: c.connect,
	}
	c.x.Mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.noBack {
		return exchange.ErrAnswered
	}
	done := make(chan struct{})
	c.back = done
	go func() { // ends with the upstream's direction; filtered waits for it
		defer close(done)
		if err := s.up.Open(); err != nil {
			c.failed(err)
			return
		}
		c.feed(s.up, c.server, exchange.UpstreamSide)
	}()
	return nil
}

// Data implements filter.Flow. An upstream that takes no more may have said why: its own
// direction goes on.
func (s server) Data(p []byte, end bool) error {
	if len(p) > 0 {
		if _, err := s.c.server.Write(p); err != nil {
			return exchange.ErrAnswered
		}
	}
	if end {
		closeWrite(s.c.server)
	}
	return nil
}

// A client is the end of the upstream's direction.
type client struct{ c *conn }

// Open implements filter.Flow.
func (client) Open() error { return nil }

// Data implements filter.Flow.
func (d client) Data(p []byte, end bool) error {
	c := d.c
	if len(p) > 0 {
		n, err := c.client.Write(p)
		c.out.Add(int64(n))
		if err != nil {
			c.broken(exchange.ClientSide)
			return exchange.ErrAnswered
		}
	}
	if end {
		closeWrite(c.client)
	}
	return nil
}

// closeFilters ends the filters.
func (c *conn) closeFilters() {
	c.abort("", false) // both directions have ended
	c.mu.Lock()
	gone := c.gone
	reason := c.reason
	c.mu.Unlock()
	x := c.x
	x.Mu.Lock()
	x.Finished, x.Reason = time.Now(), reason
	x.BytesIn, x.BytesOut = c.in.Load(), c.out.Load()
	x.Mu.Unlock()
	x.Quiesce()
	for _, f := range c.filters {
		f.Close(gone)
	}
}

// An engine is what filters may ask for.
type engine struct{ c *conn }

// Answer implements filter.Engine: there is nothing to answer.
func (engine) Answer(filter.Filter, *filter.Answer) error { return exchange.ErrAnswered }

// Abort implements filter.Engine.
func (e engine) Abort(reason string) { e.c.abort(reason, false) }

// Fail implements filter.Engine.
func (e engine) Fail(err *exchange.Error) { e.c.failed(err) }

// Reroute implements filter.Engine: the route was chosen by what the client has said before
// any filter saw it.
func (engine) Reroute(bool) {}
