package exchangetest

import (
	"errors"
	"strings"

	"wproxy/core/exchange"
)

// cases are the behaviours that every codec has.
var cases = []testCase{
	{name: "no body", run: testNoBody},
	{name: "length", run: testLength},
	{name: "unknown length", run: testUnknownLength},
	{name: "trailer", run: testTrailer},
	{name: "fields", run: testFields},
	{name: "one after the other", run: testSequence},
	{name: "huge head", run: testHugeHead},
	{name: "HEAD", run: testHEAD},
	{name: "no content", run: testNoContent},
	{name: "interim", run: testInterim},
	{name: "flush", run: testFlush},
	{name: "both at once", run: testDuplex},
	{name: "backpressure of a slow reader", run: testBackpressure},
	{name: "sink's error", run: testSinkError},
	{name: "early answer", run: testEarlyAnswer},
	{name: "too little data", run: testTooLittle},
	{name: "too much data", run: testTooMuch},
	{name: "reset by the client", run: testClientReset},
	{name: "reset by the server", run: testServerReset},
	{name: "reset of an answer without length", run: testServerResetUnknown},
	{name: "handler without answer", run: testNoAnswer},
	{name: "deadline", run: testDeadline},
	{name: "upgrade", upgrade: true, run: testUpgrade},
	{name: "upgrade refused", upgrade: true, run: testUpgradeRefused},
	{name: "upgrade nobody asked for", upgrade: true, run: testUpgradeUnasked},
}

func testNoBody(h *harness) {
	h.echo()
	r := h.exchange(Message[*exchange.Request]{Head: get("/a/b?c=d")})
	res := h.want(r, 200, "")
	if got := res.Fields.Value("x-target"); got != "/a/b?c=d" {
		h.Errorf("target: got %q, want %q", got, "/a/b?c=d")
	}
	if res.Length != 0 {
		h.Errorf("Length: got %d, want 0", res.Length)
	}
}

func testLength(h *harness) {
	h.echo()
	for _, n := range []int{1, 1000, 40_000, 1 << 20} {
		body := pattern(n)
		r := h.exchange(Message[*exchange.Request]{Head: newRequest("POST", "/", int64(n)), Data: []string{body[:n/3], body[n/3:]}})
		if res := h.want(r, 200, body); res.Length != int64(n) {
			h.Errorf("Length: got %d, want %d", res.Length, n)
		}
	}
}

func testUnknownLength(h *harness) {
	h.echo()
	for _, n := range []int{1, 1000, 40_000, 1 << 20} {
		body := pattern(n)
		r := h.exchange(Message[*exchange.Request]{
			Head: newRequest("POST", "/", exchange.LengthUnknown),
			Data: []string{body[:n/2], "", body[n/2:]},
		})
		if res := h.want(r, 200, body); res.Length != exchange.LengthUnknown {
			h.Errorf("Length: got %d, want unknown", res.Length)
		}
	}
}

func testTrailer(h *harness) {
	h.echo()
	var t exchange.Fields
	t.Add("x-sum", "123")
	t.Add("x-sum", "456")
	t.Add("grpc-status", "0")
	r := h.exchange(Message[*exchange.Request]{
		Head: newRequest("POST", "/", exchange.LengthUnknown), Data: []string{"body"}, Trailer: &t,
	})
	res := h.want(r, 200, "body")
	_, _, got, _ := r.Message()
	if got == nil || got.Len() != 3 || got.At(0) != t.At(0) || got.At(1) != t.At(1) || got.At(2) != t.At(2) {
		h.Errorf("trailer: got %v, want %v", got, t)
	}
	if res.Fields.Has("x-sum") {
		h.Errorf("the trailer was merged into the head")
	}
}

func testFields(h *harness) {
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		req, _, _, _ := r.Message()
		res := &exchange.Response{Status: 200, Fields: req.Fields}
		h.noError("write head", c.Head(res, true))
	})
	req := get("/")
	list := []exchange.Field{
		{Name: "accept", Value: "a"},
		{Name: "trailer", Value: "x-sum"}, // end to end (RFC 9110 7.6.1)
		{Name: "set-cookie", Value: "a=1; Path=/"},
		{Name: "x-empty", Value: ""},
		{Name: "accept", Value: "b"},
		{Name: "set-cookie", Value: "b=\"2, 3\""},
		{Name: "x-latin", Value: "caf\xe9"},
		{Name: "x-inner", Value: "a \t b"},
	}
	for _, f := range list {
		req.Fields.Add(f.Name, f.Value)
	}
	r := h.exchange(Message[*exchange.Request]{Head: req})
	res := h.want(r, 200, "")
	var got []exchange.Field
	for _, f := range res.Fields.List() {
		if f.Name != "date" && f.Name != "content-length" {
			got = append(got, f)
		}
	}
	if len(got) != len(list) {
		h.Fatalf("fields: got %v, want %v", got, list)
	}
	for i := range got {
		if got[i] != list[i] {
			h.Errorf("field %d: got %v, want %v", i, got[i], list[i])
		}
	}
}

func testSequence(h *harness) {
	h.echo()
	for i := range 20 {
		body := pattern(i * 100)
		m := Message[*exchange.Request]{Head: newRequest("POST", "/"+strings.Repeat("x", i), int64(len(body))), Data: []string{body}}
		if i == 0 {
			m.Data = nil
		}
		r := h.exchange(m)
		res := h.want(r, 200, body)
		if got, want := res.Fields.Value("x-target"), m.Head.Target; got != want {
			h.Errorf("exchange %d: answer to %q, want to %q", i, got, want)
		}
	}
}

func testHugeHead(h *harness) {
	h.echo()
	fits := get("/")
	fits.Fields.Add("x-big", pattern(30<<10))
	h.want(h.exchange(Message[*exchange.Request]{Head: fits}), 200, "")

	// Too much: the server refuses, or resets; it must not be served.
	s := h.pair.Open(h.T)
	huge := get("/")
	for range 40 {
		huge.Fields.Add("x-big", pattern(30<<10))
	}
	pushed := h.do(func() error { return s.Head(huge, true) })
	var r response
	_ = h.wait("request", pushed) // may fail: the server closes
	err := h.wait("answer", h.do(func() error { return s.Feed(&r) }))
	if res, _, _, _ := r.Message(); err == nil && res.Status != 431 && res.Status != 414 {
		h.Errorf("a head of 1.2 MB was answered with %d", res.Status)
	}
	s.Reset(exchange.CodeCancel)
	release(s)
	h.want(h.exchange(Message[*exchange.Request]{Head: get("/")}), 200, "")
}

func testHEAD(h *harness) {
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: 1234}, true))
	})
	for range 2 { // the second one shows that nothing was left over
		r := h.exchange(Message[*exchange.Request]{Head: newRequest("HEAD", "/", 0)})
		if res := h.want(r, 200, ""); res.Length != 1234 {
			h.Errorf("Length: got %d, want 1234", res.Length)
		}
	}
}

func testNoContent(h *harness) {
	status := []int{204, 304, 204}
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		s := status[0]
		status = status[1:]
		h.noError("write head", c.Head(&exchange.Response{Status: s, Length: exchange.LengthUnknown}, true))
	})
	for _, s := range []int{204, 304, 204} {
		h.want(h.exchange(Message[*exchange.Request]{Head: get("/")}), s, "")
	}
}

func testInterim(h *harness) {
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		for _, link := range []string{"</a.css>", "</b.css>"} {
			hint := &exchange.Response{Status: 103}
			hint.Fields.Add("link", link)
			h.noError("write 103", c.Head(hint, false))
		}
		h.noError("flush", c.Data(nil, false))
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: 2}, false))
		h.noError("write body", c.Data([]byte("ok"), true))
	})
	r := h.exchange(Message[*exchange.Request]{Head: get("/")})
	res := h.want(r, 200, "ok")
	hints := r.Interim()
	if len(hints) != 2 || hints[0].Status != 103 || hints[0].Fields.Value("link") != "</a.css>" || hints[1].Fields.Value("link") != "</b.css>" {
		h.Errorf("1xx heads: got %v", hints)
	}
	if res.Fields.Has("link") {
		h.Errorf("a field of a 1xx head is in the final one")
	}
}

func testFlush(h *harness) {
	seen := make(chan struct{})
	h.serve(func(c exchange.Client) {
		var r request
		if c.Feed(&r) != nil {
			return
		}
		h.noError("write head", c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false))
		h.noError("write body", c.Data([]byte("first"), false))
		h.noError("flush", c.Data(nil, false))
		h.closed("flushed data", seen) // the reader has it although the end has not been written
		h.noError("write body", c.Data([]byte(" second"), true))
	})
	s := h.pair.Open(h.T)
	h.noError("write request", s.Head(get("/"), true))
	r := response{OnData: func(p []byte, _ bool) error {
		if string(p) == "first" {
			close(seen)
		}
		return nil
	}}
	h.noError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	h.want(&r, 200, "first second")
	release(s)
}

func testDuplex(h *harness) {
	h.serve(func(c exchange.Client) {
		head := false
		r := request{OnData: func(p []byte, end bool) error {
			if !head {
				head = true
				if err := c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
					return err
				}
			}
			return c.Data(p, end)
		}}
		h.noError("Feed", c.Feed(&r))
	})
	s := h.pair.Open(h.T)
	got := make(chan string, 100)
	r := response{OnData: func(p []byte, _ bool) error {
		if len(p) > 0 {
			got <- string(p)
		}
		return nil
	}}
	h.noError("write head", s.Head(newRequest("POST", "/", exchange.LengthUnknown), false))
	fed := h.do(func() error { return s.Feed(&r) })
	for _, w := range []string{"ping", "pong", "end"} {
		h.noError("write", s.Data([]byte(w), false))
		h.noError("flush", s.Data(nil, false))
		wait := h.do(func() error {
			if g := <-got; g != w {
				return errors.New("got " + g + ", want " + w)
			}
			return nil
		})
		h.noError("echo", h.wait("echo of "+w, wait))
	}
	h.noError("end", s.Data(nil, true))
	h.noError("Feed", h.wait("end of the answer", fed))
	h.want(&r, 200, "pingpongend")
	release(s)
}

func testHandlerDone(h *harness, done <-chan struct{}) {
	h.Helper()
	h.closed("handler", done)
}
