package tcp

import (
	"strconv"
	"time"

	"wproxy/core/access"
)

// id names the connection in logs, and to plugins.
func (c *conn) id() string { return strconv.FormatUint(c.facts.ID, 10) }

// account turns the connection into counters, an entry of the recorder and a line of the log.
func (c *conn) account(snap *Snapshot) {
	c.mu.Lock()
	reason, joined := c.reason, c.server != nil
	c.mu.Unlock()
	took := time.Since(c.start)
	in, out := c.in.Load(), c.out.Load()
	if reason != "" && reason != reasonGone && reason != reasonReset {
		c.p.metrics.Refused(reason)
	}
	if c.counted {
		c.route.Metrics.Done(in, out, joined)
	}
	if snap.Access == nil && c.p.records == nil {
		return
	}
	r := access.Record{
		TCP: true, Time: c.start, RequestID: c.id(), Client: c.facts.RemoteIP, Listener: c.facts.Listener,
		Method: "TCP", Host: c.name, Path: c.name, Protocol: "TCP", // method and path are for the combined format
		BytesIn: in, BytesOut: out, Total: took, Reason: reason,
	}
	if i := c.facts.Identity; i != nil {
		r.ClientCert = i.Name()
	}
	if c.route != nil {
		r.Route = c.route.Name
	}
	if c.tries > 0 {
		r.Upstream, r.Server, r.Tries, r.Retried, r.Connect = c.to.Name, c.endpoint.Name, c.tries, c.retried, c.connect
	}
	if c.x != nil {
		r.Fields = c.x.LogFields
		for _, v := range c.x.Verdicts {
			r.Plugins = append(r.Plugins, access.Plugin{Name: v.Plugin, Took: v.Took, Verdict: v.Verdict})
		}
	}
	c.p.records.Keep(c.p.records.Wants(&r), &r)
	if snap.Access != nil {
		snap.Access.Log(&r)
	}
}
