package tabletest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

// check says what is wrong with a step, or "".
func (s *step) check() string {
	if s.Repeat < 0 || s.Repeat > 1_000_000 {
		return fmt.Sprintf("repeat is %d; it may be 1 to 1000000", s.Repeat)
	}
	switch {
	case s.Request == nil && s.Connection == nil && s.Expect == nil && s.Advance == 0:
		return "a step without request, connection, advance and expect"
	case s.Request != nil && s.Connection != nil:
		return "a step has a request, or a connection"
	case s.Connection != nil:
		if why := s.Connection.check(); why != "" {
			return "connection." + why
		}
	}
	for what, h := range map[string]map[string]any{
		"response.headers": s.Response.Headers, "response.trailers": s.Response.Trailers,
	} {
		if why := checkFields(h); why != "" {
			return what + ": " + why
		}
	}
	if why := checkBody(s.Response.Body); why != "" {
		return "response.body: " + why
	}
	if r := s.Request; r != nil {
		if why := checkFields(r.Headers); why != "" {
			return "request.headers: " + why
		}
		if why := checkFields(r.Trailers); why != "" {
			return "request.trailers: " + why
		}
		if why := checkBody(r.Body); why != "" {
			return "request.body: " + why
		}
	}
	for i := range s.Calls {
		if why := s.Calls[i].check(); why != "" {
			return "calls: " + why
		}
	}
	if s.Expect == nil {
		return ""
	}
	for what, m := range s.Expect.matchers() {
		if why := checkMatcher(m); why != "" {
			return "expect." + what + ": " + why
		}
	}
	switch e := s.Expect; {
	case s.Request == nil && e.exchange():
		return "it expects something of an exchange, and has no request"
	case s.Connection == nil && e.Connection != nil:
		return "it expects something of a connection, and has none"
	case s.Request == nil && s.Connection == nil && (e.Verdict != nil || e.LogFields != nil):
		return "it expects something of an exchange or connection, and has neither"
	}
	return ""
}

// checkFields says what is wrong with the lines of a head that is sent.
func checkFields(h map[string]any) string {
	for name, v := range h {
		if _, ok := texts(v); !ok {
			return fmt.Sprintf("%q is %v; write a string, or a list of strings", name, v)
		}
	}
	return ""
}

func checkBody(b any) string {
	if _, ok := texts(b); !ok && b != nil {
		return "write a string, or a list of strings for the pieces in which it arrives"
	}
	return ""
}

// texts returns a string or a list of strings.
func texts(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		var list []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}

// pairs makes the lines of a head. Names are sorted: a table has no order.
func pairs(h map[string]any) []abi.Pair {
	var out []abi.Pair
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values, _ := texts(h[name])
		for _, v := range values {
			out = append(out, abi.Pair{Name: strings.ToLower(name), Value: v})
		}
	}
	return out
}

// pieces returns a body as it arrives.
func pieces(b any) []string {
	list, _ := texts(b)
	if len(list) == 1 && list[0] == "" {
		return nil
	}
	return list
}

// run makes the exchange of a step, once, and returns what came of it; nil if it has none.
// paused says that a message was still held back at its end.
func (s *step) run(c *comparer) (x *plugintest.Stream, paused bool, err error) {
	p, r := c.p, s.Request
	if r == nil {
		c.calls(s.Calls)
		return nil, false, nil
	}
	body, trailers := pieces(r.Body), pairs(r.Trailers)
	x, err = p.TryOpen(plugintest.Request{
		Method: r.Method, Scheme: r.Scheme, Authority: r.Authority, Path: r.Path, Protocol: r.Protocol,
		Client: r.Client, ClientIP: r.ClientIP, Fields: pairs(r.Headers),
		Body: first(body), Trailers: trailersAtOnce(body, trailers), More: len(body) > 1,
	})
	if err != nil {
		return nil, false, fmt.Errorf("request: %w", err)
	}
	if len(body) > 1 {
		sendRest(body[1:], trailers, x.Send, x.SendTrailers)
	}
	rest := s.Calls
	if !x.Upstream().Ended { // those that the plugin waits for with the request
		rest = c.calls(rest)
	}
	s.waitFor(p, x)
	if x.Upstream().Ended {
		s.respond(x)
		rest = c.calls(rest)
		s.waitFor(p, x)
	}
	for i := range rest {
		c.fail("call", "a call to "+rest[i].Upstream, "(none was made)")
	}
	paused = x.Paused()
	x.Finish()
	return x, paused, nil
}

// respond sends the upstream's answer, piece by piece.
func (s *step) respond(x *plugintest.Stream) {
	r := &s.Response
	body, trailers := pieces(r.Body), pairs(r.Trailers)
	x.Respond(plugintest.Response{
		Status: r.Status, Fields: pairs(r.Headers), Body: first(body),
		Trailers: trailersAtOnce(body, trailers), More: len(body) > 1,
	})
	if len(body) > 1 {
		sendRest(body[1:], trailers, x.RespondData, x.RespondTrailers)
	}
}

func first(body []string) []byte {
	if len(body) == 0 {
		return nil
	}
	return []byte(body[0])
}

// trailersAtOnce returns the trailers if the body is sent in one piece, with them.
func trailersAtOnce(body []string, trailers []abi.Pair) []abi.Pair {
	if len(body) > 1 {
		return nil
	}
	return trailers
}

// sendRest sends the second and later pieces of a body, and its trailers.
func sendRest(body []string, trailers []abi.Pair, data func([]byte, bool), end func(...string)) {
	for i, piece := range body {
		data([]byte(piece), i == len(body)-1 && len(trailers) == 0)
	}
	if len(trailers) > 0 {
		var list []string
		for _, t := range trailers {
			list = append(list, t.Name, t.Value)
		}
		end(list...)
	}
}

// waitFor lets time pass while the plugin holds a message back.
func (s *step) waitFor(p *plugintest.Plugin, x *plugintest.Stream) {
	if s.Wait > 0 && x.Paused() {
		p.Advance(time.Duration(s.Wait))
	}
}
