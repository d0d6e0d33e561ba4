package tcp

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"wproxy/core/balance"
	"wproxy/core/exchange"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// target picks the upstream of a connection whose client has key; nil if there is none.
func (r *Route) target(key uint64) *Upstream {
	if len(r.Split) == 1 {
		return r.Split[0].Upstream
	}
	total := 0
	for _, t := range r.Split {
		total += max(t.Weight, 0)
	}
	if total == 0 {
		return nil
	}
	if r.ByClient {
		key = balance.Rehash(key) // see proxy.Route
	} else {
		key = rand.Uint64()
	}
	at, _ := bits.Mul64(key, uint64(total)) //nolint:gosec // not negative
	n := int(at)                            //nolint:gosec // below total
	for _, t := range r.Split {
		if n -= max(t.Weight, 0); n < 0 {
			return t.Upstream
		}
	}
	return nil
}

// dial connects to a server of the route. The error is an *exchange.Error, or
// exchange.ErrAnswered if the connection is over.
func (c *conn) dial() error {
	key := balance.Key(c.facts.RemoteIP)
	to := c.route.target(key)
	if to == nil {
		return &exchange.Error{Op: "pick", Side: exchange.UpstreamSide, Reason: "no_server"}
	}
	s := to.Servers()
	c.to, c.cluster = to, s.Cluster
	s.Cluster.Live.Active.Add(1)
	if !to.ByClient {
		key = 0
	}
	var tried []*upstream.Endpoint
	var last error = &exchange.Error{Op: "pick", Side: exchange.UpstreamSide, Reason: "no_server"}
	for range c.route.Retries + 1 {
		e := s.Picker.Pick(key, tried)
		if e == nil {
			return last
		}
		if last = c.try(e); last == nil || errors.Is(last, exchange.ErrAnswered) {
			return last
		}
		tried = append(tried, e)
	}
	return last
}

// source says whom a connection to a server is made for.
func (c *conn) source() pool.Source {
	return pool.Source{Client: c.facts.Remote, Server: c.facts.Local}
}

// try connects to one server.
func (c *conn) try(e *upstream.Endpoint) error {
	c.tries++
	c.endpoint = e
	e.Live.Active.Add(1) // from here on: who waits for a connection is load too
	pc, took, err := c.to.Pool.Get(c.ctx, pool.Request{Endpoint: e, Deadline: c.deadline(), Source: c.source()})
	if err == nil {
		nc, ok := pc.(*plainConn)
		if !ok {
			panic("tcp: the pool's connections are not made by NewConn")
		}
		c.connect = took
		c.to.Metrics.Connected(took)
		e.ObserveLatency(took, time.Now())
		if o := e.Observer; o != nil {
			o.Answered(200) // there is no other sign of health
		}
		c.pooled = pc
		return c.use(nc.Conn)
	}
	e.Live.Active.Add(-1)
	if c.isOver() {
		return exchange.ErrAnswered
	}
	kind := failureOf(err)
	e.Live.Failures.Add(1)
	c.cluster.Live.Failures.Add(1)
	c.to.Metrics.Failed(kind)
	if o := e.Observer; o != nil && kind != metrics.FailureQueue {
		o.Failed(kind)
	}
	c.retried = append(c.retried, kind)
	if _, ok := errors.AsType[*exchange.Error](err); !ok {
		err = &exchange.Error{Op: "dial", Side: exchange.UpstreamSide, Reason: reasonTimeout, Err: err} // the connection's own
	}
	return err
}

// use makes nc the upstream's side.
func (c *conn) use(nc net.Conn) error {
	c.mu.Lock()
	c.server = nc
	over := c.over
	c.mu.Unlock()
	if over {
		shut(nc, true)
		return exchange.ErrAnswered
	}
	return nil
}

// failureOf names why there is no connection, as metrics do.
func failureOf(err error) string {
	reason := reasonOf(err)
	switch {
	case slices.Contains([]string{pool.ReasonFull, pool.ReasonQueueTime}, reason):
		return metrics.FailureQueue
	case strings.HasPrefix(reason, "upstream_tls_"):
		return metrics.FailureTLS
	default:
		return metrics.FailureConnect
	}
}
