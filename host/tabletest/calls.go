package tabletest

import (
	"fmt"

	"wproxy/host"
	"wproxy/host/plugintest"
)

// check says what is wrong with a call, or "".
func (c *call) check() string {
	if c.Upstream == "" {
		return "a call without its upstream"
	}
	switch host.CallOutcome(c.Fail) {
	case "", host.CallUnavailable, host.CallTimeout, host.CallReset:
	default:
		return fmt.Sprintf("fail is %q; it may be unavailable, timeout and reset", c.Fail)
	}
	if why := checkFields(c.Response.Headers); why != "" {
		return "response.headers: " + why
	}
	if why := checkFields(c.Response.Trailers); why != "" {
		return "response.trailers: " + why
	}
	if why := checkBody(c.Response.Body); why != "" {
		return "response.body: " + why
	}
	if c.Expect != nil {
		for what, m := range (&expect{Upstream: c.Expect}).matchers() {
			if why := checkMatcher(m); why != "" {
				return what + ": " + why
			}
		}
	}
	return ""
}

// calls answers the plugin's calls that wait, as the table says, one after the other: an
// answer may lead to the next call. It returns the part of the list that no call was
// made for.
func (c *comparer) calls(list []call) []call {
	for i := range list {
		pending := c.p.Callouts()
		if len(pending) == 0 {
			return list[i:]
		}
		c.call(&list[i], pending[0])
	}
	if pending := c.p.Callouts(); len(list) > 0 && len(pending) > 0 {
		c.fail("call", "no further call", "one to "+pending[0].Upstream)
	}
	return nil
}

// call compares one call and brings it to its end.
func (c *comparer) call(want *call, got *plugintest.Callout) {
	if got.Upstream != want.Upstream {
		c.fail("call", "to "+want.Upstream, "to "+got.Upstream)
	}
	if e := want.Expect; e != nil {
		for _, f := range e.parts(got.Request) {
			c.value("call "+f.key, f.want, f.got)
		}
		c.fields("call header", e.Headers, got.Request.Fields)
		c.fields("call trailer", e.Trailers, got.Request.Trailers)
	}
	if want.Fail != "" {
		got.Fail(host.CallOutcome(want.Fail), want.Fail)
		return
	}
	r := want.Response
	var body []byte
	for _, piece := range pieces(r.Body) {
		body = append(body, piece...)
	}
	got.Answer(plugintest.Response{Status: r.Status, Fields: pairs(r.Headers), Body: body, Trailers: pairs(r.Trailers)})
}
