package proxy

import (
	"errors"
	"net/http"
	"strconv"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/route"
)

// Answer implements filter.Engine: the reply of a filter enters at its own
// response sink and passes the filters before it.
func (x *state) Answer(from filter.Filter, a *filter.Answer) error {
	if !x.claim() {
		return exchange.ErrAnswered
	}
	defer x.pushed()
	x.resetUpstream(exchange.CodeCancel)
	x.note(a.Reason)
	x.showResponse(a.Head)
	err := x.deliver(x.entry(from), a.Head, a.Body, a.Trailer)
	x.mend(err)
	return err
}

// mend answers in another way if err says that a filter could not let the answer
// pass. It does so on a goroutine of its own: this one may be a filter's, which has
// to end first, and the request's may be waiting for its client. The caller has
// claimed the answer; finish waits for both.
func (x *state) mend(err error) {
	if err == nil || errors.Is(err, exchange.ErrAnswered) || len(x.filters) == 0 {
		return
	}
	x.mu.Lock()
	x.pushers++
	x.mu.Unlock()
	go func() { // ends soon after the filters' goroutines, of which none can block for long
		x.lastResort(err)
		x.pushed()
	}()
}

// entry returns where the reply of a filter enters the response's chain.
func (x *state) entry(from filter.Filter) exchange.Sink[*exchange.Response] {
	for i := range x.responses {
		if x.filters[i] == from {
			if x.reached.Load() <= int32(i) { //nolint:gosec // a handful
				x.reached.Store(int32(i + 1)) //nolint:gosec // a handful
			}
			return &x.responses[i]
		}
	}
	return outlet{x}
}

// Abort implements filter.Engine.
func (x *state) Abort(reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.live {
		x.abortLocked(reason)
	}
}

// abortLocked is Abort, of an exchange that is live, with mu held.
func (x *state) abortLocked(reason string) {
	if x.reason == "" {
		x.reason = reason
	}
	x.answered, x.aborted = true, true
	if x.up != nil {
		x.up.Reset(exchange.CodeCancel)
	}
	x.client.Reset(exchange.CodeInternal)
	x.cond.Broadcast() // a try may be waiting for its turn
	x.fx.AnswerEnded()
}

// Fail implements filter.Engine. Who feeds the response finds out, as the upstream
// is reset, and comes to lastResort.
func (x *state) Fail(e *exchange.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.live {
		return
	}
	if x.reason == "" {
		x.reason = e.Reason
	}
	if x.failure == nil {
		x.failure = e
	}
	if x.up != nil {
		x.up.Reset(exchange.CodeCancel)
	}
	x.cond.Broadcast()
	x.fx.AnswerEnded()
}

func (x *state) resetUpstream(c exchange.Code) {
	x.mu.Lock()
	if x.up != nil {
		x.up.Reset(c)
	}
	x.mu.Unlock()
}

// note keeps the reason of an answer where filters and the log find it.
func (x *state) note(reason string) {
	x.setReason(reason)
	x.fx.Mu.Lock()
	x.fx.Reason, x.noted = reason, reason
	x.fx.Mu.Unlock()
}

// answer makes an answer of wproxy's own; it enters behind the last filter. It
// always returns ErrAnswered, for the sink call that it ends.
func (x *state) answer(status int, reason string) error { return x.answerWith(status, reason, nil) }

// answerWith is answer with one more field; nil: none.
func (x *state) answerWith(status int, reason string, extra *exchange.Field) error {
	if x.claim() {
		x.reply(status, reason, extra)
		x.pushed()
	}
	return exchange.ErrAnswered
}

// refuse answers a request that has no route: no filter sees that.
func (x *state) refuse(status int, reason string) error {
	x.last = outlet{x}
	return x.answer(status, reason)
}

// redirect answers with a redirect. One to the host that was asked needs one: an
// HTTP/1.0 client may have sent none.
func (x *state) redirect(d *route.Redirect) error {
	to := d.Location(x.req)
	if to == "" {
		return x.answer(400, "missing_host")
	}
	if x.claim() {
		x.reply(d.Status(), "", &exchange.Field{Name: "location", Value: to})
		x.pushed()
	}
	return exchange.ErrAnswered
}

// respondWith answers with the route's fixed answer.
func (x *state) respondWith(r *Respond) error {
	if x.claim() {
		x.own.Reset()
		x.own.Status = r.Status
		x.own.Fields.Replace(r.Fields)
		x.push(r.Body)
		x.pushed()
	}
	return exchange.ErrAnswered
}

// reply pushes an answer of ours. The caller has claimed it.
func (x *state) reply(status int, reason string, extra *exchange.Field) {
	if reason != "" {
		x.note(reason)
	}
	x.ours = true
	x.buildOwn(status, reason, extra)
	x.push(x.body)
}

// push sends own with body into the response's chain. When that fails, mend or
// finish finds the answer incomplete.
func (x *state) push(body []byte) {
	if x.last == nil {
		x.last = outlet{x}
	}
	x.mu.Lock() // a re-pick may be going on
	r := x.route
	x.mu.Unlock()
	if r != nil {
		r.ResponseHeaders.apply(&x.own.Fields)
	}
	x.showResponse(&x.own)
	x.mend(x.deliver(x.last, &x.own, body, nil))
}

// deliver pushes a whole response into to.
func (x *state) deliver(
	to exchange.Sink[*exchange.Response], h *exchange.Response, body []byte, trailer *exchange.Fields,
) error {
	x.frameOwn(h, len(body), trailer != nil)
	if len(body) == 0 && trailer == nil || h.Status == 204 || h.Status == 304 || x.req.Method == http.MethodHead { // RFC 9110 6.4.1
		return to.Head(h, true)
	}
	err := to.Head(h, false)
	if err == nil && len(body) > 0 {
		err = to.Data(body, trailer == nil)
	}
	if err == nil && trailer != nil {
		err = to.Trailer(trailer)
	}
	return err
}

// frameOwn says how long the body of h is.
func (x *state) frameOwn(h *exchange.Response, size int, trailer bool) {
	if len(x.filters) > 0 {
		x.fx.Mu.Lock() // a guest's tick may be looking
		defer x.fx.Mu.Unlock()
	}
	h.Length = int64(size)
	switch {
	case h.Status == 204:
		h.Fields.Remove("content-length")
	case size == 0 && h.Status == 200 && h.Fields.Has("grpc-status"):
		h.Fields.Remove("content-length") // trailers only
	case trailer && h.Status != 304 && x.req.Method != http.MethodHead:
		h.Length = exchange.LengthUnknown
		h.Fields.Remove("content-length")
	default:
		setLength(&h.Fields, size) // the filters' view
	}
}

// setLength sets Content-Length; without an allocation if it says so already.
func setLength(f *exchange.Fields, size int) {
	const name = "content-length"
	var digits [20]byte
	if v, ok := f.Get(name); ok && v == string(strconv.AppendInt(digits[:0], int64(size), 10)) {
		return
	}
	f.Set(name, strconv.Itoa(size))
}

// buildOwn fills own and body.
func (x *state) buildOwn(status int, reason string, extra *exchange.Field) {
	h := &x.own
	h.Reset()
	x.body = x.fx.AppendStatus(x.body[:0], h, status, reason)
	if extra != nil {
		h.Fields.Add(extra.Name, extra.Value)
	}
}
