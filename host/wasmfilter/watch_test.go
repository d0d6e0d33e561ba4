package wasmfilter_test

import (
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// watchGuest has a watch of one circuit, for which 503 is a failure. It makes the record when it
// is asked about a request, counts each answer that it is shown as a success, says on it that it
// was called, and then does what more is. It has a standing edit besides, and asks for a
// gate in vain.
func watchGuest(more func(m *wt.Module) []wt.Instr) []byte {
	w := abi.WatchRecord{Metric: 1, Slots: 10, Width: 1e9, Key: []abi.GatePart{{Text: "key"}}}
	w.Statuses.Add(503)
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	set := m.Env(abi.ImportSetSharedData, "iiiii>i")
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	out, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	args := string(abi.AppendWatch(nil, &w))
	gate := string(abi.AppendGate(nil, &abi.GateRecord{Interval: 1, Burst: 1, Cost: 1}))
	standing := string(abi.AppendStandingEdits(nil, abi.EditsAlways, []abi.FieldEdit{{Name: "x-standing", Value: "set"}}))
	record := abi.NewAddRecord(w.Slots, w.Width)
	record.SetCount(0, 1)
	record.SetStreak(-1)
	counted := append(record, "key\x07\x00\x00\x00\x00\x00\x00\x00"...)
	at := m.Data(counted)
	m.Func("proxy_on_configure", "ii>i",
		wt.Call(define, wt.I32(0), m.Str("passed"), out), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignWatch), m.Str(args), out, size), wt.Drop(),
		wt.If(wt.Eq(wt.Call(foreign, m.Str(abi.ForeignGate), m.Str(gate), out, size), wt.I32(0)), wt.Unreachable()),
		wt.Call(foreign, m.Str(abi.ForeignStandingEdits), m.Str(standing), out, size), wt.Drop(), wt.I32(1))
	m.Headers("request",
		wt.Call(set, m.Str("key"), m.Str("\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00"), wt.I32(0)), wt.Drop(),
		wt.I32(0))
	answer := []wt.Instr{
		wt.Call(foreign, m.Str(abi.ForeignAddCounter), wt.I32(at), wt.I32(int32(len(counted))), out, size), wt.Drop(),
		wt.Call(add, wt.I32(2), m.Str("x-guest"), m.Str("was here")), wt.Drop(),
	}
	if more != nil {
		answer = append(answer, more(m)...)
	}
	m.Headers("response", append(answer, wt.I32(0))...)
	m.Func("proxy_on_request_body", "iii>i", wt.I32(0))
	m.Func("proxy_on_request_trailers", "ii>i", wt.I32(0))
	m.Func("proxy_on_response_body", "iii>i", wt.I32(0))
	m.Func("proxy_on_log", "i")
	return m.Bytes()
}

var watchOptions = plugintest.Options{Grants: []string{host.GrantCounters, host.GrantMetrics, host.GrantSharedData}}

// calls returns how often callbacks were made.
func calls(p *plugintest.Plugin) (n struct{ req, reqBody, reqTrailers, resp, respBody, log uint64 }) {
	w := p.Stats().Work
	n.req, n.reqBody, n.reqTrailers = w[host.CallRequestHeaders].Calls, w[host.CallRequestBody].Calls, w[host.CallRequestTrailers].Calls
	n.resp, n.respBody, n.log = w[host.CallResponseHeaders].Calls, w[host.CallResponseBody].Calls, w[host.CallLog].Calls
	return n
}

// TestWatch: a request that is let through is not the guest's; if its answer is, the guest hears
// of that and of all that follows, but of nothing before.
func TestWatch(t *testing.T) {
	plugintest.Run(t, watchGuest(nil), watchOptions, func(t *testing.T, p *plugintest.Plugin) {
		post := plugintest.Request{Method: "POST", Body: []byte("question"), Trailers: plugintest.Fields("a", "b")}
		want := calls(p)
		for i, step := range []struct {
			status                                   int
			untried                                  bool
			failure                                  string
			req, reqBody, reqTrailers, resp, respEnd uint64
		}{
			{200, false, "", 1, 1, 1, 1, 1}, // there is no record yet
			{200, false, "", 0, 0, 0, 0, 0},
			{503, false, "", 0, 0, 0, 1, 1},
			{200, false, "reset", 0, 0, 0, 1, 1},
			{503, true, "", 0, 0, 0, 0, 0},
			{200, false, "", 0, 0, 0, 0, 0},
		} {
			s := p.Do(post, plugintest.Response{
				Status: step.status, Untried: step.untried, Failure: step.failure,
				Body: []byte("answer"), Trailers: plugintest.Fields("c", "d"),
			})
			c, u := s.Client(), s.Upstream()
			if string(u.Body) != "question" || len(u.Trailers) != 1 || string(c.Body) != "answer" || len(c.Trailers) != 1 {
				t.Errorf("request %d: a message has not come whole: %+v, %+v", i, u, c)
			}
			guest := ""
			if step.resp > 0 {
				guest = "was here"
			}
			if c.Status != step.status || line(c, "x-guest") != guest || line(c, "x-standing") != "set" {
				t.Errorf("request %d: got %d %v, want the guest's %q", i, c.Status, c.Fields, guest)
			}
			want.req, want.reqBody, want.reqTrailers = want.req+step.req, want.reqBody+step.reqBody, want.reqTrailers+step.reqTrailers
			want.resp, want.log = want.resp+step.resp, want.log+step.resp
			got := calls(p)
			if (got.respBody > want.respBody) != (step.respEnd > 0) {
				t.Errorf("request %d: the body of the answer is shown: %t", i, got.respBody > want.respBody)
			}
			want.respBody = got.respBody
			if got != want {
				t.Errorf("request %d: calls %+v, want %+v", i, got, want)
			}
		}
		if n, _ := p.Metric("passed"); n != 5 {
			t.Errorf("counted %d, want 5", n)
		}
	})
}

// TestWatchBody: the answer is shown to the guest while the request's body is on its way, which goes
// on past it.
func TestWatchBody(t *testing.T) {
	plugintest.Run(t, watchGuest(nil), watchOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(plugintest.Request{}, plugintest.Response{})
		before := calls(p)
		s := p.Open(plugintest.Request{Method: "POST", Body: []byte("one"), More: true})
		s.Respond(plugintest.Response{Status: 503, Body: []byte("a"), More: true})
		s.Send([]byte("two"), false)
		s.RespondData([]byte("b"), true)
		s.SendTrailers("a", "b")
		s.Finish()
		if u, c := s.Upstream(), s.Client(); string(u.Body) != "onetwo" || len(u.Trailers) != 1 || string(c.Body) != "ab" || line(c, "x-guest") != "was here" {
			t.Errorf("got %+v, %+v", u, c)
		}
		if after := calls(p); after.reqBody != before.reqBody || after.reqTrailers != before.reqTrailers || after.respBody < before.respBody+2 {
			t.Errorf("calls %+v, before %+v", after, before)
		}
	})
}

// TestWatchReply: the guest may do with an answer that it is shown what it may do with others.
func TestWatchReply(t *testing.T) {
	guest := watchGuest(func(m *wt.Module) []wt.Instr {
		reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
		return []wt.Instr{
			wt.Call(reply, wt.I32(418), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(-1)), wt.Drop(),
		}
	})
	plugintest.Run(t, guest, watchOptions, func(t *testing.T, p *plugintest.Plugin) {
		post := plugintest.Request{Method: "POST", Body: []byte("question")}
		for i, want := range []int{418, 200, 418, 200} {
			up := plugintest.Response{Body: []byte("answer")}
			if i == 2 {
				up.Status = 503
			}
			if c := p.Do(post, up).Client(); c.Status != want {
				t.Errorf("request %d: got %d, want %d", i, c.Status, want)
			}
		}
	})
}

// TestWatchTraps: a guest that fails at an answer fails the exchange, as on_error has it, and the
// next is as new.
func TestWatchTraps(t *testing.T) {
	guest := watchGuest(func(m *wt.Module) []wt.Instr {
		status, size := m.Slot(4), m.Slot(4)
		get := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
		trap := wt.Eq(wt.Call(get, wt.I32(2), m.Str("x-trap"), wt.I32(status), wt.I32(size)), wt.I32(0))
		return []wt.Instr{wt.If(trap, wt.Unreachable())}
	})
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 500} {
		o := watchOptions
		o.OnError = onError
		plugintest.Run(t, guest, o, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(plugintest.Request{}, plugintest.Response{})
			trap := plugintest.Response{Status: 500, Failure: "reset", Fields: plugintest.Fields("x-trap", "1")}
			if c := p.Do(plugintest.Request{}, trap).Client(); c.Status != want {
				t.Errorf("got %d, want %d", c.Status, want)
			}
			p.Advance(time.Minute)
			before := calls(p)
			for range 2 {
				if c := p.Do(plugintest.Request{}, plugintest.Response{}).Client(); c.Status != 200 || line(c, "x-standing") != "set" {
					t.Errorf("the next: got %d %v", c.Status, c.Fields)
				}
			}
			if calls(p) != before {
				t.Error("the next is the guest's")
			}
		})
	}
}

// TestWatchTooLarge: an answer that has no room for the standing edits is given up.
func TestWatchTooLarge(t *testing.T) {
	plugintest.Run(t, watchGuest(nil), watchOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(plugintest.Request{}, plugintest.Response{})
		for _, status := range []int{200, 503} {
			huge := plugintest.Response{Status: status, Fields: plugintest.Fields("x", strings.Repeat("x", wasmfilter.MaxHeadBytes-8))}
			s := p.Do(plugintest.Request{}, huge)
			if c := s.Client(); c.Status != 502 || s.Reason() != "response_headers_too_large:plugin" {
				t.Errorf("%d: got %d, reason %q", status, c.Status, s.Reason())
			}
			if c := p.Do(plugintest.Request{}, plugintest.Response{}).Client(); c.Status != 200 || line(c, "x-standing") != "set" {
				t.Errorf("the next: got %d %v", c.Status, c.Fields)
			}
		}
	})
}
