package proxy

import (
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
	return x.deliver(x.entry(from), a.Head, a.Body, a.Trailer)
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
	if !x.live {
		return
	}
	if x.reason == "" {
		x.reason = reason
	}
	x.answered, x.aborted = true, true
	if x.up != nil {
		x.up.Reset(exchange.CodeCancel)
	}
	x.client.Reset(exchange.CodeInternal)
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
func (x *state) answer(status int, reason string) error {
	if x.claim() {
		x.reply(status, reason, nil)
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

// push sends own with body into the response's chain. When that fails, finish
// finds the answer incomplete.
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
	_ = x.deliver(x.last, &x.own, body, nil)
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
	case trailer && h.Status != 304 && x.req.Method != http.MethodHead:
		h.Length = exchange.LengthUnknown
		h.Fields.Remove("content-length")
	default:
		h.Fields.Set("content-length", strconv.Itoa(size)) // the filters' view
	}
}

// buildOwn fills own and body: a short text that a person can act on, or the
// same as JSON for a client that prefers it.
func (x *state) buildOwn(status int, reason string, extra *exchange.Field) {
	h := &x.own
	h.Reset()
	h.Status = status
	accept := ""
	if x.req != nil {
		accept = joined(&x.req.Fields, "accept")
	}
	b := x.body[:0]
	if prefersJSON(accept) {
		h.Fields.Add("content-type", "application/json")
		b = append(b, `{"status":`...)
		b = strconv.AppendInt(b, int64(status), 10)
		b = appendMember(b, "error", http.StatusText(status))
		b = appendMember(b, "reason", reason)
		b = appendMember(b, "request_id", x.fx.RequestID)
		b = append(b, "}\n"...)
	} else {
		h.Fields.Add("content-type", "text/plain; charset=utf-8")
		b = strconv.AppendInt(b, int64(status), 10)
		b = append(b, ' ')
		b = append(b, http.StatusText(status)...)
		b = append(b, '\n')
		if reason != "" {
			b = append(b, "reason: "...)
			b = append(b, reason...)
			if hint := hints(reason); hint != "" {
				b = append(b, " ("...)
				b = append(b, hint...)
				b = append(b, ')')
			}
			b = append(b, '\n')
		}
		b = append(b, "request id: "...)
		b = append(b, x.fx.RequestID...)
		b = append(b, '\n')
	}
	x.body = b
	if status >= 400 {
		h.Fields.Add("cache-control", "no-store")
	}
	if extra != nil {
		h.Fields.Add(extra.Name, extra.Value)
	}
}

// hints says what to do about a reason whose name alone does not.
func hints(reason string) string {
	switch reason {
	case "encoded_slash":
		return `the path has an encoded slash, backslash or NUL; a route with encoded_slash = "keep" takes it`
	case "repick_policy":
		return `a plugin led to a route with plugins that have not run; repick = "trust" on that route allows it`
	}
	return ""
}

// appendMember appends a further member of a JSON object. Reasons and ids are
// ASCII; what would have to be escaped is replaced.
func appendMember(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	for i := range len(value) {
		c := value[i]
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			c = '_'
		}
		b = append(b, c)
	}
	return append(b, '"')
}
