package proxy

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
	"wproxy/core/upstream"
)

// mirrorHeader marks a copy, so that its receiver can leave out what must happen once.
// The value is the route's name. It is believed of trusted peers only (forwarded.go).
const mirrorHeader = "x-wproxy-mirror"

// A Mirror sends copies of a route's requests to another upstream and drops the
// answers. Use [NewMirror]. The client never waits for a copy: it is sent by a goroutine
// of its own once the request is complete, and left out when too many are under way.
type Mirror struct {
	// Immutable.
	upstream *Upstream
	share    float64 // of requests; 1: all
	maxBody  int
	metrics  *metrics.Mirror

	running atomic.Int64 // copies that are held or sent
}

// NewMirror makes one. share is from 0 to 1; requests with more than maxBody bytes of
// body are not copied.
func NewMirror(to *Upstream, share float64, maxBody int, m *metrics.Mirror) *Mirror {
	return &Mirror{upstream: to, share: share, maxBody: maxBody, metrics: m}
}

// A mirrored is the copy of one request. It is owned by the request's goroutine
// until it is sent.
type mirrored struct {
	*Mirror
	head exchange.Request
	body []byte
}

// mirror begins a copy of the request, whose head as the upstream sees it is in
// out.head, if it is one of those that are copied.
func (x *state) mirror(end bool) {
	m := x.route.Mirror
	if m == nil || x.out.upgrade || m.share < 1 && rand.Float64() >= m.share {
		return
	}
	if x.out.head.Length > int64(m.maxBody) {
		m.metrics.Count(metrics.MirrorTooLarge)
		return
	}
	if m.running.Add(1) > maxMirrored {
		m.running.Add(-1)
		m.metrics.Count(metrics.MirrorSkipped)
		return
	}
	c := &mirrored{Mirror: m}
	c.copyHead(&x.out.head, x.route.Name)
	x.out.copy = c
	if end {
		x.sendCopy()
	}
}

// copyHead copies the head: what h consists of is gone when the exchange is over.
func (c *mirrored) copyHead(h *exchange.Request, routeName string) {
	c.head.Method, c.head.Scheme, c.head.Version = strings.Clone(h.Method), h.Scheme, h.Version
	c.head.Authority = strings.Clone(h.Authority)
	if err := c.head.ParseTarget(strings.Clone(h.Target)); err != nil {
		c.head.Target = "/" // it has been parsed once, so this does not happen
	}
	switch cluster := c.upstream.Cluster; cluster.Host {
	case upstream.HostName:
		c.head.Authority = cluster.HostName
	case upstream.HostServer:
		c.head.Authority = "" // the caller fills it in
	default:
	}
	for _, f := range h.Fields.List() {
		c.head.Fields.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	c.head.Fields.Set(mirrorHeader, routeName)
}

// copyData adds body bytes to the copy, and sends it if they are the last.
func (x *state) copyData(p []byte, end bool) {
	c := x.out.copy
	if c == nil {
		return
	}
	if len(c.body)+len(p) > c.maxBody {
		x.dropCopy(metrics.MirrorTooLarge)
		return
	}
	c.body = append(c.body, p...)
	if end {
		x.sendCopy()
	}
}

// dropCopy gives up a copy that has not been sent.
func (x *state) dropCopy(why string) {
	c := x.out.copy
	if c == nil {
		return
	}
	x.out.copy = nil
	c.running.Add(-1)
	c.metrics.Count(why)
}

// sendCopy sends the copy on a goroutine of its own. That holds the snapshot, so what it
// uses is there until it is over, and whoever waits for the snapshot waits for it.
func (x *state) sendCopy() {
	c, snap := x.out.copy, x.snap
	x.out.copy = nil
	if !snap.refs.Acquire() { // the exchange has it, so this does not happen
		c.running.Add(-1)
		return
	}
	caller := &Caller{x.p}
	go func() { // ends after mirrorTimeout at the latest; release tells who waits
		defer snap.refs.Release()
		defer c.running.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), mirrorTimeout)
		defer cancel()
		deadline, _ := ctx.Deadline()
		_, err := caller.Do(ctx, &Call{
			Upstream: c.upstream, Request: &c.head, Body: c.body, Deadline: deadline, Discard: true,
		})
		if err != nil {
			c.metrics.Count(metrics.MirrorFailed)
			return
		}
		c.metrics.Count(metrics.MirrorAnswered)
	}()
}
