package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// The steps of a standard exchange, each of which a plugin has a callback for.
const (
	stepRequestHeaders = iota
	stepRequestBody
	stepRequestTrailers
	stepResponseHeaders
	stepResponseBody
	stepResponseTrailers
	stepEnd
	stepWhole // all of them, and what the host does between them
	steps
)

var stepNames = [steps]string{
	"request headers", "request body", "request trailers", "response headers", "response body", "response trailers", "end", "exchange",
}

// benchBody is the size of either body, in bytes.
const benchBody = 1 << 10

// A bencher makes the same exchange again and again, through the filter of one plugin,
// between a client and an upstream that do nothing. It is its own engine.
type bencher struct {
	factory filter.Factory
	x       filter.Exchange
	req     exchange.Request
	resp    exchange.Response
	trailer exchange.Fields
	conn    exchange.Conn
	route   filter.Route
	body    []byte
	fields  []exchange.Field // of the request
	answer  []exchange.Field // of the response
	ctx     context.Context

	// get is the path of a GET request without a body, whose answer has no trailers; "": it is a POST.
	// Where it has numberMark, that is another number in each exchange.
	get    string
	number int

	out      exchange.Sink[*exchange.Response]
	answered bool
	aborted  string

	step    int                        // the one that is being made
	onStep  func(step int, run func()) // around each
	calls   [steps][]host.Callback     // made in a step, the first time
	samples [steps][]time.Duration     // of guest time, callbacks of a step together; of an exchange, all time
	spent   time.Duration              // in the step being made
	made    bool                       // a callback was made in it
	record  bool
}

// numberMark is what stands in a path for the number of the exchange.
const numberMark = "{n}"

// maxSamples of each step are kept; what comes later counts for nothing.
const maxSamples = 1 << 18

// benchRequest are the fields that the standard request has besides those asked for.
func benchRequest(body bool) []exchange.Field {
	list := []exchange.Field{
		{Name: "host", Value: "example.com"},
		{Name: "user-agent", Value: "wproxy-bench"},
		{Name: "accept", Value: "*/*"},
		{Name: "accept-encoding", Value: "gzip, br"},
	}
	if body {
		list = append(list, exchange.Field{Name: "content-type", Value: "text/plain"}, exchange.Field{Name: "content-length", Value: "1024"})
	}
	return list
}

// benchResponse are those of the response, which is from now: a cache would not take an old one.
func benchResponse() []exchange.Field {
	return []exchange.Field{
		{Name: "server", Value: "nginx"},
		{Name: "date", Value: time.Now().UTC().Format(http.TimeFormat)},
		{Name: "content-type", Value: "text/html"},
		{Name: "content-length", Value: "1024"},
		{Name: "last-modified", Value: "Thu, 01 Jan 1970 00:00:00 GMT"},
		{Name: "etag", Value: `"5f3c7c2a-400"`},
	}
}

// newBencher returns a bencher of a POST, or of a GET of a path, with extra fields.
func newBencher(ctx context.Context, get string, extra []exchange.Field) (*bencher, error) {
	client := netip.MustParseAddrPort("192.0.2.17:40000")
	b := &bencher{
		ctx:    ctx,
		get:    get,
		fields: append(benchRequest(get == ""), extra...),
		answer: benchResponse(),
		body:   make([]byte, benchBody),
		route:  filter.Route{Name: "bench", Cluster: "upstream"},
		conn: exchange.Conn{
			ID: 1, Listener: "bench", Remote: client, Local: netip.MustParseAddrPort("198.51.100.1:8080"),
			RemoteIP: client.Addr().String(), RemoteAddr: client.String(), LocalAddr: "198.51.100.1:8080",
		},
		onStep: func(_ int, run func()) { run() },
	}
	for i := range b.body {
		b.body[i] = "wproxy. "[i%8]
	}
	b.trailer.Add("x-checksum", "0")
	b.req = exchange.Request{Method: "POST", Scheme: "http", Version: exchange.HTTP11, Conn: &b.conn}
	if err := b.req.ParseAuthority("example.com"); err != nil {
		return nil, err
	}
	if get != "" {
		b.req.Method = "GET"
		return b, b.next()
	}
	return b, b.req.ParseTarget("/index.html?a=1")
}

// next gives the request the path of the next exchange.
func (b *bencher) next() error {
	if b.number > 0 && !strings.Contains(b.get, numberMark) {
		return nil
	}
	b.number++
	return b.req.ParseTarget(strings.ReplaceAll(b.get, numberMark, strconv.Itoa(b.number)))
}

// onCall is told of each callback by the host.
func (b *bencher) onCall(cb host.Callback, took time.Duration) {
	b.spent += took
	b.made = true
	if !b.record && !slices.Contains(b.calls[b.step], cb) {
		b.calls[b.step] = append(b.calls[b.step], cb)
	}
}

// do makes one step.
func (b *bencher) do(step int, run func() error) error {
	var err error
	b.step, b.spent, b.made = step, 0, false
	b.onStep(step, func() { err = run() })
	if b.record && b.made && len(b.samples[step]) < maxSamples {
		b.samples[step] = append(b.samples[step], b.spent)
	}
	return err
}

// exchange makes one exchange. A plugin that answers itself ends the request.
func (b *bencher) exchange() error {
	if b.get != "" {
		if err := b.next(); err != nil {
			return err
		}
	}
	x := &b.x
	x.Reset()
	b.answered = false
	x.Context, x.Request, x.Route, x.Engine = b.ctx, &b.req, &b.route, b
	x.ClientAddr, x.ClientIP, x.RequestID = b.conn.Remote.Addr(), b.conn.RemoteIP, "0123456789abcdef"
	b.req.Fields.Replace(b.fields)
	if b.req.Length = exchange.LengthUnknown; b.get != "" {
		b.req.Length = 0
	}
	start := time.Now()
	f, err := b.factory.New(x)
	if err != nil {
		return err
	}
	b.out = f.Response(clientEnd{})
	in := f.Request(upstreamEnd{})
	x.SetRequestRun()
	err = b.request(in)
	if err == nil && !b.answered {
		err = b.response()
	}
	x.AnswerEnded()
	endErr := b.do(stepEnd, func() error { f.Close(nil); return nil })
	if b.record && len(b.samples[stepWhole]) < maxSamples {
		b.samples[stepWhole] = append(b.samples[stepWhole], time.Since(start))
	}
	switch {
	case errors.Is(err, exchange.ErrAnswered):
		err = nil
	case err == nil && b.aborted != "":
		err = errors.New(b.aborted)
	}
	return errors.Join(err, endErr)
}

func (b *bencher) request(in exchange.Sink[*exchange.Request]) error {
	if err := b.do(stepRequestHeaders, func() error { return in.Head(&b.req, b.get != "") }); err != nil || b.get != "" {
		return err
	}
	if err := b.do(stepRequestBody, func() error { return in.Data(b.body, false) }); err != nil {
		return err
	}
	return b.do(stepRequestTrailers, func() error { return in.Trailer(&b.trailer) })
}

func (b *bencher) response() error {
	b.resp = exchange.Response{Status: 200, Length: exchange.LengthUnknown, Fields: b.resp.Fields}
	if b.get != "" {
		b.resp.Length = benchBody
	}
	b.resp.Fields.Replace(b.answer)
	b.x.Mu.Lock()
	b.x.Response = &b.resp
	b.x.Mu.Unlock()
	if err := b.do(stepResponseHeaders, func() error { return b.out.Head(&b.resp, false) }); err != nil {
		return err
	}
	if err := b.do(stepResponseBody, func() error { return b.out.Data(b.body, b.get != "") }); err != nil || b.get != "" {
		return err
	}
	return b.do(stepResponseTrailers, func() error { return b.out.Trailer(&b.trailer) })
}

// Answer implements filter.Engine: an answer of the plugin's goes through its own
// response side. What that calls counts to the step that has led to it.
func (b *bencher) Answer(_ filter.Filter, a *filter.Answer) error {
	if b.answered {
		return exchange.ErrAnswered
	}
	b.answered = true
	b.x.Mu.Lock()
	b.x.Response, b.x.Reason = a.Head, a.Reason
	b.x.Mu.Unlock()
	a.Head.Length = int64(len(a.Body))
	if err := b.out.Head(a.Head, len(a.Body) == 0); err != nil || len(a.Body) == 0 {
		return err
	}
	return b.out.Data(a.Body, true)
}

var _ filter.Streamer = (*bencher)(nil)

// Stream implements filter.Streamer.
func (b *bencher) Stream(_ filter.Filter, head *exchange.Response, reason string, p filter.Pusher) error {
	if b.answered {
		return exchange.ErrAnswered
	}
	b.answered = true
	b.x.Mu.Lock()
	b.x.Response, b.x.Reason = head, reason
	b.x.Mu.Unlock()
	return p.Push(b.out)
}

// MayFill implements filter.Streamer. The whole answer is at hand.
func (b *bencher) MayFill(filter.Filling) bool { return b.get != "" }

// Fill implements filter.Streamer: nothing has to be waited for.
func (b *bencher) Fill(filter.Filling) bool { return false }

// Filled implements filter.Streamer.
func (b *bencher) Filled() {}

// Refresh implements filter.Streamer: there is no other exchange.
func (b *bencher) Refresh(filter.Filter) bool { return false }

// Abort implements filter.Engine.
func (b *bencher) Abort(reason string) { b.aborted = reason }

// Fail implements filter.Engine.
func (b *bencher) Fail(e *exchange.Error) { b.aborted = e.Reason }

// Reroute implements filter.Engine.
func (b *bencher) Reroute(bool) {}

type upstreamEnd struct{}

func (upstreamEnd) Head(*exchange.Request, bool) error { return nil }
func (upstreamEnd) Data([]byte, bool) error            { return nil }
func (upstreamEnd) Trailer(*exchange.Fields) error     { return nil }

type clientEnd struct{}

func (clientEnd) Head(*exchange.Response, bool) error { return nil }
func (clientEnd) Data([]byte, bool) error             { return nil }
func (clientEnd) Trailer(*exchange.Fields) error      { return nil }

// heap reads how much has been allocated so far, in objects and bytes. It stops the
// world, so it is exact, and slow.
func heap() (objects, bytes uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs, m.TotalAlloc
}

// errHeld says that the plugin holds the exchange back.
var errHeld = fmt.Errorf("the plugin holds the message back (it waits for a tick or a call); such an exchange cannot be measured")
