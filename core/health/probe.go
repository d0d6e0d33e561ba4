package health

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// Protocol is what a check speaks.
type Protocol uint8

const (
	// HTTP sends a request and looks at the answer.
	HTTP Protocol = iota
	// TCP connects as requests would, which with TLS includes the handshake.
	TCP
	// GRPC calls grpc.health.v1.Health/Check.
	GRPC
)

// A StatusRange is the statuses from First to Last.
type StatusRange struct{ First, Last int }

// A Check is how to ask a server. It is immutable.
type Check struct {
	Protocol Protocol

	// Of HTTP. Host and Path are those of the request; an empty Host is what
	// the server is called.
	Method, Host, Path string
	Fields             []exchange.Field
	Expect             []StatusRange
	Contains           string         // in the body; "": anything
	Match              *regexp.Regexp // in the body; nil: anything

	// Of GRPC: the service asked about; "" is the server as a whole.
	Service string

	Every      time.Duration // between two checks of a server
	EveryDown  time.Duration // of one that is down
	Timeout    time.Duration // of all of a check
	Thresholds Thresholds
}

// Run asks e once, over a connection that connect makes, and closes that.
func (c *Check) Run(ctx context.Context, connect pool.DialFunc, e *upstream.Endpoint) Result {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := connect(ctx, e)
	if err != nil {
		return bad(ctx, err)
	}
	defer conn.Close() // one connection a check: that new ones can be made is part of what is asked
	if c.Protocol == TCP {
		return Result{OK: true}
	}
	if !conn.Reserve() {
		return Result{Reason: "closed"}
	}
	up, err := conn.Open(ctx)
	if err != nil {
		return bad(ctx, err)
	}
	defer up.Reset(exchange.CodeCancel)
	if d, ok := up.(exchange.Deadliner); ok {
		deadline, _ := ctx.Deadline()
		d.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { up.Reset(exchange.CodeCancel) })
	defer stop()
	if c.Protocol == GRPC {
		return c.askGRPC(ctx, up, e)
	}
	return c.askHTTP(ctx, up, e)
}

// bad says in a few words what err means.
func bad(ctx context.Context, err error) Result {
	if ctx.Err() != nil {
		return Result{Reason: "timeout"}
	}
	e, ok := errors.AsType[*exchange.Error](err)
	switch {
	case !ok:
		return Result{Reason: shorten(err.Error())}
	case e.Reason == "":
		return Result{Reason: "reset"}
	default:
		return Result{Reason: strings.TrimPrefix(e.Reason, "upstream_")}
	}
}

// shorten makes words of others fit for a reason.
func shorten(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.ToValidUTF8(s, "?")
}

// askHTTP sends the request of c and judges the answer.
func (c *Check) askHTTP(ctx context.Context, up exchange.Upstream, e *upstream.Endpoint) Result {
	q := c.request(e)
	if err := up.Head(q, true); err != nil {
		return bad(ctx, err)
	}
	a := answer{keep: c.Contains != "" || c.Match != nil}
	if err := up.Feed(&a); err != nil && !a.full {
		return bad(ctx, err)
	}
	switch {
	case !c.expects(a.status):
		return Result{Reason: "status " + strconv.Itoa(a.status)}
	case c.Contains != "" && !strings.Contains(string(a.body), c.Contains),
		c.Match != nil && !c.Match.Match(a.body):
		return Result{Reason: "unexpected body"}
	}
	return Result{OK: true}
}

func (c *Check) request(e *upstream.Endpoint) *exchange.Request {
	q := &exchange.Request{Method: c.Method, Scheme: e.Scheme, Authority: c.authority(e)}
	path, _, _ := strings.Cut(c.Path, "?")
	q.SetTarget(c.Path, len(path))
	q.Fields.Add("user-agent", userAgent)
	q.Fields.Add("accept", "*/*")
	for _, f := range c.Fields {
		q.Fields.Set(f.Name, f.Value)
	}
	return q
}

// authority is what e is addressed as.
func (c *Check) authority(e *upstream.Endpoint) string {
	if c.Host != "" {
		return c.Host
	}
	return e.Host
}

func (c *Check) expects(status int) bool {
	for _, r := range c.Expect {
		if r.First <= status && status <= r.Last {
			return true
		}
	}
	return false
}

// errEnough ends the reading of a body that is longer than what is looked at.
var errEnough = errors.New("health: enough of the body was seen")

// An answer collects a response. It is its sink.
type answer struct {
	keep    bool // the body, up to MaxBody
	status  int
	body    []byte
	seen    int // bytes of the body, up to MaxBody
	full    bool
	fields  exchange.Fields // copies, of the head
	trailer exchange.Fields
}

// Head implements exchange.Sink.
func (a *answer) Head(h *exchange.Response, _ bool) error {
	a.status = h.Status
	a.fields.Reset()
	for _, f := range h.Fields.List() {
		a.fields.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	return nil
}

// Data implements exchange.Sink.
func (a *answer) Data(p []byte, end bool) error {
	if a.keep {
		a.body = append(a.body, p[:min(len(p), MaxBody-a.seen)]...)
	}
	a.seen = min(a.seen+len(p), MaxBody)
	if a.seen == MaxBody && !end {
		a.full = true
		return errEnough
	}
	return nil
}

// Trailer implements exchange.Sink.
func (a *answer) Trailer(f *exchange.Fields) error {
	for _, l := range f.List() {
		a.trailer.Add(strings.Clone(l.Name), strings.Clone(l.Value))
	}
	return nil
}
