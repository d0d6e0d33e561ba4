package wasmfilter

import (
	"strconv"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// A refusing is what it takes of memory to refuse a request without the guest. A Filter has one from its
// first on, and keeps it over exchanges: a flood is refused without an allocation.
type refusing struct {
	reply  host.Reply
	answer filter.Answer
	head   exchange.Response

	length     int // that lengthText says
	lengthText string
}

// refusalAnswer is replyAnswer for what a gate has said, which is clean, and little.
func (f *Filter) refusalAnswer(v *refusing) *filter.Answer {
	a, h, r := &v.answer, &v.head, &v.reply
	h.Reset()
	*a = filter.Answer{Head: h, Reason: r.Details}
	if r.Details == "" || f.x.IsGRPC() {
		a.Body, a.Reason = f.replyHead(h, r), f.replyReason(r)
		return a
	}
	h.Status = r.Status
	for _, p := range r.Fields {
		h.Fields.Add(p.Name, p.Value)
	}
	if noBody(h.Status) || len(r.Body) == 0 {
		return a
	}
	if a.Body = r.Body; v.length != len(r.Body) {
		v.length, v.lengthText = len(r.Body), strconv.Itoa(len(r.Body))
	}
	h.Fields.Add(contentLength, v.lengthText)
	if !h.Fields.Has("content-type") {
		h.Fields.Add("content-type", "text/plain")
	}
	return a
}

// What a gate says of the log is within the bounds of what a guest says.
const _ uint = min(maxLogValue, maxDetails) - abi.MaxGateWord

// refuse asks for the answer that the gate has for the request, as if the guest had been called and asked for
// it. It reports whether it has; else it is too late for an answer, and what the guest is to find out.
func (f *Filter) refuse() bool {
	x, a := f.x, &f.bucket
	r := a.Refusal()
	v := f.refusing
	if v == nil {
		v = &refusing{}
		f.refusing = v
	}
	r.Reply(&v.reply, *a)
	route := ""
	x.Mu.Lock()
	if f.repliedLocked() || f.abort != "" || f.resp.stage != stageNone {
		x.Mu.Unlock()
		f.shut = false
		f.factory.gate.Leave(*a)
		return false
	}
	f.replied, f.refused, f.stood = true, true, true
	f.reply, f.verdict = &v.reply, r.Verdict()
	if f.route != nil {
		route = f.route.Name
	}
	x.Mu.Unlock()
	r.Count(route)
	return true
}

// leaveHead has the exchange forget a head that is the filter's own, which the next exchange will have: filters
// behind are closed later, and look at the status of the answer.
func (f *Filter) leaveHead() {
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	h := x.Response
	if h == nil || h != &f.reading.head && (f.refusing == nil || h != &f.refusing.head) {
		return
	}
	if f.left == nil || f.left.Status != h.Status {
		f.left = &exchange.Response{Status: h.Status}
	}
	x.Response = f.left
}
