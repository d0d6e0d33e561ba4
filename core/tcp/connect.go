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
	s.Cluster.Budget.Pay(c.route.Budget)
	if !to.ByClient {
		key = 0
	}
	var tried []*upstream.Endpoint
	var last error = &exchange.Error{Op: "pick", Side: exchange.UpstreamSide, Reason: "no_server"}
	for again := range c.route.Retries + 1 {
		e := s.Picker.Pick(key, tried)
		if e == nil || again > 0 && !c.mayRetry() {
			return last
		}
		last = c.try(e)
		if again > 0 {
			to.Metrics.Retried(c.retried[again-1], metrics.RetryOutcome(last == nil))
		}
		if last == nil || errors.Is(last, exchange.ErrAnswered) {
			return last
		}
		tried = append(tried, e)
	}
	return last
}

// mayRetry takes a further try out of the upstream's budget; false: there is none left. As
// with requests, who did not get a connection because a server has enough of them costs the
// next one nothing.
func (c *conn) mayRetry() bool {
	failed := c.retried[len(c.retried)-1]
	if failed == metrics.FailureQueue {
		return true
	}
	if c.route.Budget > 0 && c.cluster.Budget.Take(time.Now(), c.route.BudgetMin) {
		return true
	}
	c.to.Metrics.Retried(failed, metrics.RetryNoBudget)
	return false
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
