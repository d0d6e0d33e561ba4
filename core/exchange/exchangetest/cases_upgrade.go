package exchangetest

import (
	"sync"

	"wproxy/core/exchange"
)

func upgradeRequest() *exchange.Request {
	r := get("/chat")
	r.Upgrade = "websocket"
	r.Fields.Add("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw==")
	return r
}

// testUpgrade: bytes both ways after 101, and half-close.
func testUpgrade(h *harness) {
	done := make(chan struct{})
	h.serve(func(c exchange.Client) {
		defer close(done)
		r := request{
			OnHead: func(q *exchange.Request, end bool) error {
				if q.Upgrade != "websocket" || end {
					h.Errorf("request: got upgrade %q, end %v", q.Upgrade, end)
				}
				go func() { // ends with the write
					h.noError("write 101", c.Head(&exchange.Response{Status: 101, Upgrade: "websocket"}, false))
				}()
				return nil
			},
			OnData: func(p []byte, end bool) error {
				if len(p) > 0 {
					h.noError("echo", c.Data(append([]byte("echo "), p...), false))
					h.noError("flush", c.Data(nil, false))
				}
				if end { // the client has said goodbye, we have not
					h.noError("goodbye", c.Data([]byte("bye"), true))
				}
				return nil
			},
		}
		h.noError("Feed", c.Feed(&r))
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(upgradeRequest(), false))
	h.noError("flush", s.Data(nil, false))
	switched, echoed := make(chan struct{}), make(chan struct{})
	var r response
	r.OnHead = func(q *exchange.Response, end bool) error {
		if q.Status != 101 || q.Upgrade != "websocket" || end {
			h.Errorf("answer: got %d, upgrade %q, end %v", q.Status, q.Upgrade, end)
		}
		close(switched)
		return nil
	}
	r.OnData = func(p []byte, _ bool) error {
		if string(p) == "echo hello" {
			close(echoed)
		}
		return nil
	}
	fed := h.do(func() error { return s.Feed(&r) })
	h.closed("101", switched)
	h.noError("write", s.Data([]byte("hello"), false))
	h.noError("flush", s.Data(nil, false))
	h.closed("echo", echoed)
	h.noError("end", s.Data(nil, true))
	h.noError("Feed", h.wait("end of the tunnel", fed))
	if _, data, _, ended := r.Message(); data != "echo hellobye" || !ended {
		h.Errorf("tunnel: got %q, ended %v", data, ended)
	}
	h.closed("handler", done)
	release(s)
}

// testUpgradeRefused: the answer is an ordinary one, and the next bytes are the
// next request.
func testUpgradeRefused(h *harness) {
	h.serve(func(c exchange.Client) {
		var answered sync.WaitGroup
		r := request{OnHead: func(q *exchange.Request, _ bool) error {
			if q.Upgrade == "" {
				return c.Head(&exchange.Response{Status: 200}, true)
			}
			answered.Go(func() { // ends with the write
				h.noError("write 403", c.Head(&exchange.Response{Status: 403, Length: 2}, false))
				h.noError("write body", c.Data([]byte("no"), true))
			})
			return nil
		}}
		h.noError("Feed", c.Feed(&r))
		answered.Wait() // nothing may be written when the Handler has returned
		if _, data, _, ended := r.Message(); data != "" || !ended {
			h.Errorf("request: got data %q, ended %v", data, ended)
		}
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(upgradeRequest(), false))
	h.noError("flush", s.Data(nil, false))
	answered := make(chan struct{})
	r := response{OnHead: func(*exchange.Response, bool) error { close(answered); return nil }}
	fed := h.do(func() error { return s.Feed(&r) })
	h.closed("answer", answered)
	_ = s.Data(nil, true) // ErrAnswered if the answer's end was faster
	h.noError("Feed", h.wait("answer", fed))
	h.want(&r, 403, "no")
	release(s)
	h.want(h.exchange(Message[*exchange.Request]{Head: get("/")}), 200, "")
}

// testUpgradeUnasked: a 101 that nobody asked for is a bad answer.
func testUpgradeUnasked(h *harness) {
	h.serve(func(c exchange.Client) {
		_ = c.Feed(new(request))
		_ = c.Head(&exchange.Response{Status: 101, Upgrade: "websocket"}, false)
		_ = c.Data([]byte("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), true)
	})
	s := h.pair.Open(h.T)
	h.noError("write head", s.Head(get("/"), true))
	var r response
	_ = h.codecError("Feed", h.wait("answer", h.do(func() error { return s.Feed(&r) })))
	if res, _, _, _ := r.Message(); res != nil {
		h.Errorf("a 101 that nobody asked for was passed on")
	}
	release(s)
}
