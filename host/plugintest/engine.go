package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
)

func joinPath(parts []string) string { return abi.JoinPath(parts...) }

// engine is the part of a proxy's engine that filters deal with, around messages
// in memory.
type engine struct {
	x         filter.Exchange
	cancel    context.CancelFunc
	filters   []filter.Filter
	responses []exchange.Sink[*exchange.Response] // [i]: where the response enters filter i
	request   requestFeeder
	response  feeder
	head      bool // the request is a HEAD request

	mu       sync.Mutex
	up       upstream
	down     client
	answered bool
	aborted  string
	rerouted bool
	filling  filter.Filling // who has the response, if a plugin stores it

	fills   sync.WaitGroup                   // clients of what is being stored
	refresh func(from int, req Request) bool // begins an exchange; nil: it cannot
}

var _ filter.Engine = (*engine)(nil)

func newEngine(factories []filter.Factory, route *filter.Route, deadline time.Duration, req Request) (*engine, error) {
	e := &engine{}
	e.up.e, e.down.e = e, e
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	h, ip, err := requestHead(req)
	if err != nil {
		cancel()
		return nil, err
	}
	e.head = h.Method == "HEAD"
	x := &e.x
	x.Context, x.Start, x.RequestID = ctx, time.Now(), "00000000000000000000000000000001"
	if deadline > 0 {
		x.Deadline = x.Start.Add(deadline)
	}
	x.Request, x.ClientAddr, x.ClientIP = h, ip, ip.String()
	x.Route, x.Engine = route, e
	x.Upstream.Cluster = "upstream"

	var down exchange.Sink[*exchange.Response] = &e.down
	for _, f := range factories {
		g, err := f.New(x)
		if err != nil {
			cancel()
			return nil, err
		}
		e.filters = append(e.filters, g)
		down = g.Response(down)
		e.responses = append(e.responses, down)
	}
	e.request.sink = &e.up
	for _, f := range slices.Backward(e.filters) {
		e.request.sink = f.Request(e.request.sink)
	}
	x.SetRequestRun()
	e.request.failed, e.response.failed = e.requestFailed, e.responseFailed
	return e, nil
}

func requestHead(req Request) (*exchange.Request, netip.Addr, error) {
	h := &exchange.Request{Method: req.Method, Scheme: req.Scheme, Version: version(req.Protocol)}
	if h.Method == "" {
		h.Method = "GET"
	}
	if h.Scheme == "" {
		h.Scheme = "http"
	}
	orDefault := func(s, d string) string {
		if s == "" {
			return d
		}
		return s
	}
	if err := h.ParseAuthority(orDefault(req.Authority, "example.com")); err != nil {
		return nil, netip.Addr{}, err
	}
	if err := h.ParseTarget(orDefault(req.Path, "/")); err != nil {
		return nil, netip.Addr{}, err
	}
	remote, err := netip.ParseAddrPort(orDefault(req.Client, "192.0.2.1:40000"))
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("Request.Client: %w", err)
	}
	ip := remote.Addr()
	if req.ClientIP != "" {
		if ip, err = netip.ParseAddr(req.ClientIP); err != nil {
			return nil, ip, fmt.Errorf("Request.ClientIP: %w", err)
		}
	}
	local := netip.MustParseAddrPort("198.51.100.1:8080")
	h.Conn = &exchange.Conn{
		ID: 1, Listener: "test", Remote: remote, Local: local,
		RemoteIP: remote.Addr().String(), RemoteAddr: remote.String(), LocalAddr: local.String(),
	}
	return h, ip, nil
}

// claim takes the one answer of the exchange.
func (e *engine) claim() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answered {
		return false
	}
	e.answered = true
	return true
}

// setOutcome notes how the upstream did.
func (e *engine) setOutcome(resp Response) {
	e.x.Mu.Lock()
	defer e.x.Mu.Unlock()
	e.x.Upstream.Failure = resp.Failure
	if !resp.Untried {
		e.x.Upstream.Attempts = 1
	}
}

func (e *engine) setResponse(h *exchange.Response) {
	e.x.Mu.Lock()
	defer e.x.Mu.Unlock()
	e.x.Response = h
}

// Answer implements filter.Engine.
func (e *engine) Answer(from filter.Filter, a *filter.Answer) error {
	_, to, err := e.entry(from)
	if err != nil {
		return err
	}
	return e.answer(to, a)
}

func (e *engine) answer(to exchange.Sink[*exchange.Response], a *filter.Answer) error {
	if !e.claim() {
		return exchange.ErrAnswered
	}
	e.x.Mu.Lock()
	e.x.Response, e.x.Reason = a.Head, a.Reason
	e.x.Mu.Unlock()
	a.Head.Length = int64(len(a.Body))
	end := e.head || len(a.Body) == 0
	if err := to.Head(a.Head, end); err != nil || end {
		return err
	}
	return to.Data(a.Body, true)
}

// Abort implements filter.Engine.
func (e *engine) Abort(reason string) {
	e.mu.Lock()
	if e.aborted == "" {
		e.aborted = reason
	}
	e.mu.Unlock()
	e.cancel()
}

// Fail implements filter.Engine. The client has seen whatever has been passed on:
// it is too late for another answer.
func (e *engine) Fail(err *exchange.Error) { e.Abort(err.Reason) }

// Reroute implements filter.Engine.
func (e *engine) Reroute(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rerouted = e.rerouted || on
}

// requestFailed does what an engine does when the request could not be passed
// on: it answers.
func (e *engine) requestFailed(err error) {
	var x *exchange.Error
	if !errors.As(err, &x) || x.Status == 0 {
		return
	}
	h := &exchange.Response{Status: x.Status}
	body := x.Reason + "\n"
	h.Fields.Add("content-type", "text/plain")
	h.Fields.Add("content-length", strconv.Itoa(len(body)))
	// ErrAnswered, or the client has gone: nothing is left to be done.
	_ = e.answer(e.responses[len(e.responses)-1], &filter.Answer{Head: h, Body: []byte(body), Reason: x.Reason})
}

func (e *engine) responseFailed(error) { e.x.AnswerEnded() }

func (e *engine) err() error { return e.x.Context.Err() }

func (e *engine) stuck() bool { return e.request.busy() || e.response.busy() }

// finish ends the exchange. It waits for the feeders, which a cancelled context
// makes return.
func (e *engine) finish() {
	e.x.AnswerEnded()
	if e.stuck() {
		e.cancel()
	}
	e.request.wait()
	e.response.wait()
	e.cutFilling()
	e.mu.Lock()
	e.x.BytesIn, e.x.BytesOut = int64(len(e.up.message.Body)), int64(len(e.down.message.Body))
	e.mu.Unlock()
	e.x.Finished = time.Now()
	for _, f := range e.filters { // in the order of a proxy: what the answer of one is in goes with it
		f.Close(e.request.error())
	}
	e.cancel()
}

// requestFeeder is the feeder of the request with the sink it feeds.
type requestFeeder struct {
	feeder
	sink exchange.Sink[*exchange.Request]
}

// feeder pushes one message, call after call, on goroutines of its own, as a codec's
// Feed would.
type feeder struct {
	failed func(error)

	mu      sync.Mutex
	queue   []func() error
	running bool
	err     error
	wg      sync.WaitGroup
}

// push queues one call into the sink. After an error there are no more.
func (f *feeder) push(call func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	f.queue = append(f.queue, call)
	if !f.running {
		f.running = true
		f.wg.Go(f.run) // ends when the queue is empty; wait waits
	}
}

func (f *feeder) run() {
	for {
		f.mu.Lock()
		if len(f.queue) == 0 {
			f.running = false
			f.mu.Unlock()
			return
		}
		call := f.queue[0]
		f.queue = f.queue[1:]
		f.mu.Unlock()
		if err := call(); err != nil {
			f.mu.Lock()
			f.err, f.queue = err, nil
			f.mu.Unlock()
			f.failed(err)
		}
	}
}

func (f *feeder) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running
}

func (f *feeder) error() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *feeder) wait() { f.wg.Wait() }
