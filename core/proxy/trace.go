package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"strconv"
	"strings"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/trace"
)

// What is noted of an exchange for its trace. The data path notes by plain assignments;
// sendTrace makes spans of it when the exchange is over. Without tracing it is a nil
// pointer that is looked at.

// traced is what is noted of an exchange.
type traced struct {
	// Set by beginTrace, then immutable until finish.
	tracer *trace.Tracer // nil: no tracing
	own    trace.Context // of the exchange's own span
	parent trace.SpanID
	state  string // tracestate, if sampled
	timing bool   // the answer gets a server-timing

	tries []tracedTry // if sampled. Guarded by state.mu
}

// A tracedTry is one try at an upstream.
type tracedTry struct {
	id         trace.SpanID
	begin, end time.Time // end is zero while it goes on
	network    string    // of the server
	server     string
	scheme     string
	authority  string
	upstream   string
	status     int
	failure    string
	reused     bool
	connect    time.Duration
}

// debugHeader is the field that carries the token of somebody who wants to know where
// the time goes.
const debugHeader = "x-wproxy-debug"

// A DebugToken is what debugHeader has to say. The zero value is never said.
type DebugToken struct {
	sum [sha256.Size]byte
	set bool
}

// NewDebugToken makes a DebugToken of a text that is not empty.
func NewDebugToken(text string) DebugToken {
	return DebugToken{sum: sha256.Sum256([]byte(text)), set: text != ""}
}

// is compares in a time that says nothing about the token, nor about its length.
func (t *DebugToken) is(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return t.set && subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

// beginTrace decides about the trace of the request and writes its place into h, where
// plugins and the upstream find it. trusted: the peer is in trust_proxy.
func (x *state) beginTrace(h *exchange.Request, trusted bool) {
	debug := false
	if x.snap.Debug.set {
		if token, ok := h.Fields.Get(debugHeader); ok {
			h.Fields.Remove(debugHeader) // a secret, or a mistaken one
			debug = x.snap.Debug.is(token)
		}
	}
	x.trace.timing, x.fx.Timed = debug, debug
	t := x.snap.Tracer
	if t == nil {
		return
	}
	own, parent := t.Begin(h.Fields.Joined("traceparent"), trusted, debug)
	if parent == (trace.SpanID{}) {
		h.Fields.Remove("tracestate") // W3C Trace Context 4.3: it belongs to a trace that does not go on
	}
	h.Fields.Set("traceparent", own.Header())
	x.trace.tracer, x.trace.own, x.trace.parent = t, own, parent
	x.rec.Trace, x.rec.Span = own.Trace, own.Span
	if own.Sampled {
		x.trace.state = h.Fields.Joined("tracestate")
		x.fx.Timed = true
	}
}

// traceTry notes that a try begins, and has the upstream hang its spans below it, unless
// somebody has taken the field away.
func (x *state) traceTry() {
	if !x.trace.own.Sampled {
		return
	}
	o := &x.out
	now := x.p.now()
	id := x.trace.tracer.NewSpanID()
	if o.head.Fields.Has("traceparent") {
		o.head.Fields.Set("traceparent", trace.Context{Trace: x.trace.own.Trace, Span: id, Sampled: true}.Header())
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endTryLocked(now)
	if len(x.trace.tries) < maxTracedTries {
		x.trace.tries = append(x.trace.tries, tracedTry{
			id: id, begin: now, network: o.endpoint.Network, server: o.endpoint.Address, scheme: o.endpoint.Scheme, upstream: o.to.Cluster.Name,
		})
	}
}

// lastTryLocked returns the try that goes on; nil: none does. It is called with mu held,
// as the others are whose names say so.
func (x *state) lastTryLocked() *tracedTry {
	if n := len(x.trace.tries); n > 0 && x.trace.tries[n-1].end.IsZero() {
		return &x.trace.tries[n-1]
	}
	return nil
}

// tryConnectedLocked notes what the try goes over.
func (x *state) tryConnectedLocked(took time.Duration) {
	if t := x.lastTryLocked(); t != nil {
		t.reused, t.connect, t.authority = x.out.reused, took, x.out.head.Authority
	}
}

// tryAnsweredLocked notes the status that the try was answered with.
func (x *state) tryAnsweredLocked(status int) {
	if t := x.lastTryLocked(); t != nil {
		t.status = status
	}
}

// endTryLocked notes that the try is over.
func (x *state) endTryLocked(now time.Time) {
	if t := x.lastTryLocked(); t != nil {
		t.end = now
	}
}

// traceFailure notes why the last try was not enough.
func (x *state) traceFailure(failure string) {
	if !x.trace.own.Sampled {
		return
	}
	now := x.p.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endTryLocked(now)
	if n := len(x.trace.tries); n > 0 {
		x.trace.tries[n-1].failure = failure
	}
}

// sendTrace makes the spans of the exchange, which is over: filters are closed, and
// nobody else is at work.
func (x *state) sendTrace(now time.Time) {
	if !x.trace.own.Sampled {
		return
	}
	b := x.trace.tracer.Batch()
	x.serverSpan(b, now)
	for i := range x.trace.tries {
		x.trySpan(b, i, now)
	}
	for i, c := range x.fx.CallsLocked() {
		if i == maxTracedCalls {
			break
		}
		x.pluginSpan(b, &c)
	}
	x.trace.tracer.Send(b)
}

// serverSpan is the span of the exchange as its client sees it, with the names of
// OpenTelemetry's semantic conventions for HTTP (1.23 and later).
func (x *state) serverSpan(b *trace.Batch, now time.Time) {
	r := &x.rec
	method, known := traceMethod(r.Method)
	s := trace.Span{
		Trace: x.trace.own.Trace, ID: x.trace.own.Span, Parent: x.trace.parent, Remote: true, State: x.trace.state,
		Name: method, Kind: trace.Server, Start: x.start, End: now,
	}
	if r.Route != "" {
		s.Name += " " + r.Route
	}
	outcome := x.errorType()
	s.Failed = outcome != ""
	if s.Failed {
		s.Why = r.Reason
	}
	b.Begin(&s)
	b.Text("http.request.method", method)
	if !known {
		b.Text("http.request.method_original", r.Method)
	}
	path, query, _ := strings.Cut(x.snap.Hide.Target(access.RedactQuery(r.Path)), "?")
	b.Text("url.scheme", x.req.Scheme)
	b.Text("url.path", path)
	b.Text("url.query", query)
	addressOf(b, "server", x.snap.Hide.Text("host", r.Host))
	b.Text("client.address", r.Client)
	if c := x.req.Conn; c != nil {
		b.Text("network.peer.address", c.RemoteIP)
		b.Int("network.peer.port", int64(c.Remote.Port()))
	}
	b.Text("network.protocol.name", "http")
	b.Text("network.protocol.version", strings.TrimSuffix(strings.TrimPrefix(r.Protocol, "HTTP/"), ".0"))
	b.Text("user_agent.original", x.snap.Hide.Text("user-agent", r.UserAgent))
	if r.Status >= 100 && r.Status != statusGone {
		b.Int("http.response.status_code", int64(r.Status))
	}
	b.Int("http.request.body.size", r.BytesIn)
	b.Int("http.response.body.size", r.BytesOut)
	b.Text("error.type", outcome)
	if r.GRPC {
		b.Text("rpc.system", "grpc")
		b.Int("rpc.grpc.status_code", int64(r.GRPCStatus))
	}
	b.Text("wproxy.listener", r.Listener)
	b.Text("wproxy.route", r.Route)
	b.Text("wproxy.upstream", r.Upstream)
	b.Text("wproxy.reason", r.Reason)
	b.Text("wproxy.request_id", r.RequestID)
	x.traceTags(b)
}

// errorType says what made the exchange fail; "": it did not. A 4xx is not a failure of
// who answers it.
func (x *state) errorType() string {
	r := &x.rec
	switch {
	case r.Status < 500 && r.Status >= 400:
		return ""
	case r.Reason != "" && (r.Status >= 500 || !x.ended.Load()):
		return r.Reason
	case r.Status >= 500:
		return strconv.Itoa(r.Status)
	}
	return ""
}

// traceTags adds what plugins have set below trace_span_tag (abi.md 6.5).
func (x *state) traceTags(b *trace.Batch) {
	n := 0
	for _, p := range x.fx.Props() {
		key, ok := strings.CutPrefix(p.Path, "trace_span_tag")
		if !ok || len(key) < 2 || key[0] != 0 && key[0] != '.' || n == maxTracedTags {
			continue
		}
		n++
		b.Text(strings.ReplaceAll(key[1:], "\x00", "."), string(p.Value))
	}
}

// trySpan is the span of the try with index i.
func (x *state) trySpan(b *trace.Batch, i int, now time.Time) {
	t := &x.trace.tries[i]
	method, known := traceMethod(x.out.head.Method)
	s := trace.Span{
		Trace: x.trace.own.Trace, ID: t.id, Parent: x.trace.own.Span, State: x.trace.state,
		Name: method + " " + t.upstream, Kind: trace.Client, Start: t.begin, End: t.end,
	}
	if s.End.IsZero() {
		s.End = now
	}
	outcome := t.failure
	switch {
	case t.status >= 400: // that the upstream has answered at all says more than how that is counted
		outcome = strconv.Itoa(t.status)
	case outcome == "" && t.status == 0:
		outcome = x.rec.Reason // somebody else has ended it
	}
	s.Failed = outcome != ""
	b.Begin(&s)
	b.Text("http.request.method", method)
	if !known {
		b.Text("http.request.method_original", x.out.head.Method)
	}
	target := x.snap.Hide.Target(access.RedactQuery(x.out.head.Target))
	if t.authority != "" {
		b.Text("url.full", t.scheme+"://"+t.authority+target)
		addressOf(b, "server", t.authority)
	}
	if host, port, err := net.SplitHostPort(t.server); err == nil && t.network == "tcp" {
		b.Text("network.peer.address", host)
		portOf(b, "network.peer.port", port)
	} else {
		b.Text("network.peer.address", t.server)
	}
	b.Text("network.transport", t.network)
	if t.status != 0 {
		b.Int("http.response.status_code", int64(t.status))
	}
	if i > 0 {
		b.Int("http.request.resend_count", int64(i))
	}
	b.Text("error.type", outcome)
	b.Text("wproxy.upstream", t.upstream)
	b.Bool("wproxy.connection.reused", t.reused)
	if t.connect > 0 {
		b.Float("wproxy.connection.seconds", t.connect.Seconds())
	}
}

// pluginSpan is the span of a group of callbacks.
func (x *state) pluginSpan(b *trace.Batch, c *filter.Calls) {
	b.Begin(&trace.Span{
		Trace: x.trace.own.Trace, ID: x.trace.tracer.NewSpanID(), Parent: x.trace.own.Span, State: x.trace.state,
		Name: "plugin " + c.Plugin + " " + c.Phase.String(), Kind: trace.Internal, Start: c.Begin, End: c.End,
	})
	b.Text("wproxy.plugin", c.Plugin)
	b.Text("wproxy.plugin.phase", c.Phase.String())
	b.Int("wproxy.plugin.callbacks", int64(c.Count))
	b.Float("wproxy.plugin.seconds", c.Took.Seconds())
	b.Int("wproxy.plugin.fuel", c.Fuel)
}

// traceMethod returns the method as an attribute that has few values.
func traceMethod(m string) (name string, known bool) {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY":
		return m, true
	}
	return "_OTHER", false
}

// addressOf adds the two parts of an authority.
func addressOf(b *trace.Batch, key, authority string) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		b.Text(key+".address", authority)
		return
	}
	b.Text(key+".address", host)
	portOf(b, key+".port", port)
}

func portOf(b *trace.Batch, key, port string) {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		b.Int(key, int64(n)) //nolint:gosec // 16 bits
	}
}

// serverTiming adds what is known of where the time went (W3C Server Timing) to the head
// of the answer. It is for who has shown the token, and nobody else.
func (x *state) serverTiming(f *exchange.Fields) {
	if !x.trace.timing {
		return
	}
	var b []byte
	add := func(name string, d time.Duration) {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, name...), ";dur="...)
		b = strconv.AppendFloat(b, float64(max(d, 0).Microseconds())/1e3, 'f', -1, 64)
	}
	x.fx.Mu.Lock()
	for _, c := range x.fx.CallsLocked() {
		add("plugin."+c.Plugin+"."+c.Phase.String(), c.Took)
		b = append(strconv.AppendInt(append(b, `;desc="fuel `...), c.Fuel, 10), '"')
	}
	x.fx.Mu.Unlock()
	if o := &x.out; o.claimed {
		if o.connectTime > 0 {
			add("connect", o.connectTime)
		}
		add("upstream", o.firstByte)
	}
	add("total", x.p.now().Sub(x.start))
	f.Add("server-timing", string(b))
}
