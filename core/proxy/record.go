package proxy

import (
	"strings"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
)

// statusGone is what the log says of a client that went before its answer, as
// in nginx. It never goes over a wire.
const statusGone = 499

// account makes the record final, lets the filters close, and turns it into
// metrics and a line of the log. It is the one place that watches.
func (x *state) account(err error) {
	now := x.p.now()
	x.uncount()
	x.mu.Lock()
	gone, reason := x.gone && !x.aborted, x.reason
	x.mu.Unlock()
	x.fill(gone, x.said(reason))
	x.rec.Total = max(now.Sub(x.start), 0)

	if len(x.filters) > 0 {
		if x.snap.Access.ReadsResponse() && x.rec.Response != nil {
			x.heads.CopyFrom(x.rec.Response) // a filter takes its own back
			x.rec.Response = &x.heads
		}
		x.fx.Mu.Lock() // a guest's tick may be looking
		x.fx.Finished, x.fx.Reason = now, x.rec.Reason
		x.fx.Upstream = x.outcomeOf()
		x.fx.Mu.Unlock()
		x.closeFilters(err)
	}

	x.sendTrace(now)
	if x.fx.Refresh { // no client has asked
		x.accountUpstream(now)
		return
	}
	m := x.snap.NoRoute
	if x.route != nil {
		m = x.route.Metrics
	}
	m.Done(x.listener, x.rec.Status, x.rec.Total)
	if x.grpc {
		m.GRPCDone(x.rec.GRPCStatus, x.rec.GRPC)
	}
	if x.ours && reason != "" {
		x.p.metrics.Refused(reason)
	}
	x.accountUpstream(now)
	x.p.traffic.Done(outcomeOf(&x.rec), x.rec.Total)
	kind := x.p.records.Wants(&x.rec)
	if x.snap.Access == nil && kind == access.Ordinary {
		return
	}
	x.rec.Trapped, x.rec.Request = kind == access.Trapped, &x.req.Fields
	x.tellPlugins()
	x.p.records.Keep(kind, &x.rec)
	x.snap.Access.Log(&x.rec)
}

// outcomeOf tells whose doing it was if an exchange did not end well.
func outcomeOf(r *access.Record) metrics.Outcome {
	switch reason := r.Reason; {
	case r.Status == statusGone || reason == "client_gone" || reason == "incomplete_request":
		return metrics.ClientError
	case r.Status >= 400 && r.Status < 500:
		return metrics.ClientError
	case strings.HasPrefix(reason, "plugin_") && (r.Status >= 500 || !strings.HasPrefix(reason, "plugin_reply:")):
		return metrics.ProxyError
	case strings.HasPrefix(reason, "upstream_"):
		return metrics.UpstreamError
	case r.Status >= 500:
		if r.Tries > 0 || reason == "no_server" || reason == "no_upstream" || strings.HasPrefix(reason, "queue_") {
			return metrics.UpstreamError
		}
		return metrics.ProxyError
	case reason == "truncated" || reason == "reset" || reason == "read_timeout" || reason == "timeout":
		return metrics.UpstreamError // it broke off
	default:
		return metrics.Fine
	}
}

// accountUpstream counts what the upstream has done.
func (x *state) accountUpstream(now time.Time) {
	o := &x.out
	if o.tries == 0 {
		return
	}
	if o.claimed {
		o.to.Metrics.Done(o.firstByte, now.Sub(o.began))
	}
	if o.retryReason != "" {
		o.to.Metrics.Retried(o.retryReason, metrics.RetryOutcome(o.claimed))
	}
}

// said returns the reason for the log: reason, the engine's, unless a filter that
// replaced the response has given another.
func (x *state) said(reason string) string {
	if len(x.filters) == 0 {
		return reason
	}
	x.fx.Mu.Lock()
	defer x.fx.Mu.Unlock()
	if r := x.fx.Reason; r != "" && r != x.noted {
		return r
	}
	return reason
}

// uncount takes the exchange out of the cluster's live counters.
func (x *state) uncount() {
	if x.out.counted {
		x.out.to.Cluster.Live.Active.Add(-1)
	}
	if x.out.retried {
		x.out.to.Cluster.Live.Retrying.Add(-1)
	}
}

// fill fills the record, but for the time it took.
func (x *state) fill(gone bool, reason string) {
	o, r := &x.out, &x.rec
	r.Time, r.RequestID, r.Client = x.start, x.fx.RequestID, x.fx.ClientIP
	r.Protocol = x.req.Version.String()
	r.BytesIn, r.BytesOut = x.fx.BytesIn, x.fx.BytesOut
	r.Status, r.Reason = x.status, reason
	if x.snap.Access != nil { // nobody else reads them
		r.Referer, r.UserAgent = x.req.Fields.Value("referer"), x.req.Fields.Value("user-agent")
	}
	if x.req.Conn != nil {
		r.Listener = x.req.Conn.Listener
		if i := x.req.Conn.Identity; i != nil {
			r.ClientCert = i.Name()
		}
	}
	if gone && !x.ended.Load() {
		if !x.headSent.Load() {
			r.Status = statusGone
		}
		r.Reason = "client_gone"
	}
	if x.route != nil {
		r.Route = x.route.Name
	}
	if o.tries > 0 {
		r.Upstream, r.Server, r.Tries = o.to.Cluster.Name, o.endpoint.Name, o.tries
		r.Connect, r.FirstByte, r.Retried = o.connectTime, o.firstByte, o.reasons
	}
}

// outcomeOf tells filters how the last try went.
func (x *state) outcomeOf() filter.Outcome {
	o := &x.out
	if o.to == nil {
		return filter.Outcome{}
	}
	out := filter.Outcome{
		Cluster: o.to.Cluster.Name, Attempts: o.tries,
		ConnectTime: o.connectTime, FirstByteTime: o.firstByte, Reused: o.reused, TLS: o.tls,
	}
	if o.endpoint != nil {
		out.Address = o.endpoint.Name
	}
	if !o.claimed {
		out.Failure = o.lastFailure
	}
	return out
}

// closeFilters closes the filters. An exchange that was answered, by whomever,
// went well.
func (x *state) closeFilters(err error) {
	if x.ended.Load() {
		err = nil
	} else if err == nil {
		err = exchange.ErrReset
	}
	for _, f := range x.filters {
		f.Close(err)
	}
}

// tellPlugins adds what plugins left for the log.
func (x *state) tellPlugins() {
	x.rec.Fields = x.fx.LogFields
	for _, v := range x.fx.Verdicts {
		x.rec.Plugins = append(x.rec.Plugins, access.Plugin{Name: v.Plugin, Took: v.Took, Verdict: v.Verdict})
	}
}
