package wasmfilter

import (
	"strconv"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// answer sends a local reply before there is a response here: it claims the
// exchange's answer and goes through the response callbacks of this plugin and of
// those before it. The result is what the request direction returns.
func (f *Filter) answer(r *host.Reply) error {
	won, err := f.send(f.replyAnswer(r))
	if !won {
		f.lost(r)
	}
	if err == nil || !won {
		err = exchange.ErrAnswered
	}
	return err
}

// lost keeps a local reply for which the answer was claimed by somebody else: the
// upstream's response may be on its way here, and a plugin that refuses an exchange
// must not be passed by because it was a moment late.
func (f *Filter) lost(r *host.Reply) {
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	f.reply, f.outrun = r, true
	f.dispatchLocked()
}

// answerWith answers with a status of wproxy's own, unless there is an answer.
func (f *Filter) answerWith(status int, reason string) {
	h, body := f.statusHead(status, reason)
	// What becomes of it is the concern of those in front.
	_, _ = f.send(&filter.Answer{Head: h, Body: body, Reason: reason})
}

// send claims the answer for a; won tells whether a is the answer.
func (f *Filter) send(a *filter.Answer) (won bool, err error) {
	x := f.x
	x.Mu.Lock()
	f.sent = a.Head
	x.Mu.Unlock()
	err = x.Engine.Answer(f, a)
	x.Mu.Lock()
	defer x.Mu.Unlock()
	return f.won, err
}

// answerAside sends a local reply where no direction is there to do it: the
// request has been passed on, or its feeder waits for the client.
func (f *Filter) answerAside() {
	x := f.x
	defer x.Pushed()
	x.Mu.Lock()
	r := f.reply
	if r == nil || f.resp.stage != stageNone {
		f.dispatchLocked() // a response has come in between
		x.Mu.Unlock()
		return
	}
	f.reply = nil
	x.Mu.Unlock()
	_ = f.answer(r) // there is no feeder to tell
}

// replace sends a local reply in place of the response that is held here. The
// response callbacks of this plugin are not made for it (abi.md 5.8).
func (f *Filter) replace(r *host.Reply) error {
	a := f.replyAnswer(r)
	return f.push(a.Head, a.Body, a.Reason)
}

// replaceWith sends a status of wproxy's own in place of the response.
func (f *Filter) replaceWith(status int, reason string) error {
	h, body := f.statusHead(status, reason)
	return f.push(h, body, reason)
}

// push pushes h in place of the response that the direction holds.
func (f *Filter) push(h *exchange.Response, body []byte, reason string) error {
	x := f.x
	x.Mu.Lock()
	f.resp.skip = true
	f.resp.head, x.Response, x.Reason = h, h, reason
	f.status, f.reason = h.Status, reason
	x.Mu.Unlock()
	h.Length = int64(len(body))
	end := len(body) == 0 || x.Request.Method == "HEAD"
	err := f.resp.next.Head(h, end)
	if err == nil && !end {
		err = f.resp.next.Data(body, true)
	}
	if err != nil {
		return err
	}
	return exchange.ErrAnswered
}

// statusHead makes an answer of wproxy's own, which reads like those of the engine.
func (f *Filter) statusHead(status int, reason string) (h *exchange.Response, body []byte) {
	h = &exchange.Response{}
	body = f.x.AppendStatus(nil, h, status, reason)
	if len(body) > 0 { // not in gRPC
		h.Fields.Add(contentLength, strconv.Itoa(len(body)))
	}
	return h, body
}

// replyAnswer makes the answer that a local reply is. That of a gate is in the filter's memory.
func (f *Filter) replyAnswer(r *host.Reply) *filter.Answer {
	if v := f.refusing; v != nil && r == &v.reply {
		return f.refusalAnswer(v)
	}
	h := &exchange.Response{}
	body := f.replyHead(h, r)
	return &filter.Answer{Head: h, Body: body, Reason: f.replyReason(r)}
}

// replyHead makes h, which is empty, the head of a local reply (abi.md 5.8), whose body it returns.
func (f *Filter) replyHead(h *exchange.Response, r *host.Reply) (body []byte) {
	h.Status = r.Status
	if r.Status < 200 || r.Status > 599 {
		h.Status = 500 // 1xx is no answer, and nothing else is HTTP
	}
	if f.x.IsGRPC() {
		grpcHead(h, r)
		return nil
	}
	if !noBody(h.Status) {
		body = r.Body
	}
	addReplyFields(h, r.Fields)
	if len(body) > 0 {
		h.Fields.Add(contentLength, strconv.Itoa(len(body)))
		if !h.Fields.Has("content-type") {
			h.Fields.Add("content-type", "text/plain")
		}
	}
	return body
}

// addReplyFields adds the guest's fields, but for those that would be a second
// status or framing.
func addReplyFields(h *exchange.Response, pairs []abi.Pair) {
	h.Fields.Grow(min(len(pairs)+2, maxHeadFields)) // with length and type
	size := 0
	for _, p := range pairs {
		name, value, ok := host.CleanField(p.Name, p.Value)
		size += len(name) + len(value)
		if !ok || host.HopByHop(name) || name == contentLength ||
			size > maxHeadBytes || h.Fields.Len() >= maxHeadFields {
			continue
		}
		h.Fields.Add(name, value)
	}
}

// grpcHead makes a trailers-only answer: the status travels in the fields of a
// head that ends the message.
func grpcHead(h *exchange.Response, r *host.Reply) {
	code := int(r.GRPCStatus)
	if code < 0 || code > 16 {
		code = filter.GRPCCode(h.Status, "")
	}
	filter.SetGRPCHead(h, code, string(r.Body[:min(len(r.Body), maxLogValue)]))
	extra := r.Fields[:0:0]
	for _, p := range r.Fields {
		switch strings.ToLower(p.Name) {
		case "content-type", "grpc-status", "grpc-message":
		default:
			extra = append(extra, p)
		}
	}
	addReplyFields(h, extra)
}

// replyReason makes the log's reason of a local reply's details, one word, and names
// the plugin where there are none.
func (f *Filter) replyReason(r *host.Reply) string {
	if r.Details == "" {
		return "plugin_reply:" + f.factory.name
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, r.Details[:min(len(r.Details), maxDetails)])
}
