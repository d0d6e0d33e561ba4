package wasmfilter_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// collector keeps the body of a message and checks the contract of sinks.
type collector[H exchange.Head] struct {
	mu     sync.Mutex
	inside bool
	t      *testing.T
	head   bool
	ended  bool
	body   []byte
}

// enter reports a call that overlaps another.
func (c *collector[H]) enter(head, end bool) {
	c.mu.Lock()
	if c.inside || c.ended || c.head == head {
		c.t.Errorf("call out of order: overlaps %v, after the end %v, head %v twice or late", c.inside, c.ended, head)
	}
	c.inside, c.head = true, true
	c.mu.Unlock()
	if rand.IntN(4) == 0 {
		time.Sleep(time.Microsecond) // a slow wire
	}
	c.mu.Lock()
	c.inside, c.ended = false, end
	c.mu.Unlock()
}

func (c *collector[H]) Head(_ H, end bool) error { c.enter(true, end); return nil }

func (c *collector[H]) Data(p []byte, end bool) error {
	c.body = append(c.body, p...)
	c.enter(false, end)
	return nil
}

func (c *collector[H]) Trailer(*exchange.Fields) error { c.enter(false, true); return nil }

// Whatever a guest holds back, and whenever ticks let go of it or look at it, each
// byte arrives once and in order, and no two calls overlap.
func TestHammer(t *testing.T) {
	actions := []abi.Action{abi.Continue, abi.Continue, abi.Pause, abi.BodyStopIterationAndWatermark}
	act := func(*call, int, bool) abi.Action { return actions[rand.IntN(len(actions))] }
	trailers := func(*call, int) abi.Action { return abi.Action(rand.IntN(2)) }
	headers := func(*call, int, bool) abi.Action { return abi.Action(rand.IntN(2)) }
	mk := func(hold bool) *plugin {
		return newPlugin("p", script{
			onReqHeaders: headers, onReqBody: act, onReqTrailers: trailers,
			onRespHeaders: headers, onRespBody: act, onRespTrailers: trailers,
		}, fakeOptions{hold: hold})
	}
	plugins := []*plugin{mk(false), mk(true)}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	var ticks, streams sync.WaitGroup
	for _, p := range plugins {
		ticks.Go(func() { // ends with done
			for {
				select {
				case <-done:
					return
				case <-time.After(20 * time.Microsecond):
				}
				p.vm.Lock()
				for _, c := range p.open {
					if b := c.Buffer(abi.BufferRequestBody); b != nil {
						b.Replace(0, 0, nil)
					}
					if m := c.Map(abi.MapResponseHeaders); m != nil {
						m.Get(":status")
					}
					c.Resume(abi.StreamType(rand.IntN(2)))
				}
				p.vm.Unlock()
			}
		})
	}
	for range 4 {
		streams.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				hammerOne(t, plugins)
			}
		})
	}
	streams.Wait()
	close(done)
	ticks.Wait()
}

// hammerOne pushes one exchange through all plugins, both directions at once.
func hammerOne(t *testing.T, plugins []*plugin) {
	t.Helper()
	x := newExchange(t)
	x.Request.Length = exchange.LengthUnknown
	up := &collector[*exchange.Request]{t: t}
	down := &collector[*exchange.Response]{t: t}
	var req exchange.Sink[*exchange.Request] = up
	var resp exchange.Sink[*exchange.Response] = down
	filters := make([]filter.Filter, len(plugins))
	for i := len(plugins) - 1; i >= 0; i-- {
		g, err := plugins[i].New(x)
		if err != nil {
			t.Error(err)
			return
		}
		filters[i] = g
		req = g.Request(req)
	}
	for _, g := range filters {
		resp = g.Response(resp)
	}
	want := make([]byte, rand.IntN(200))
	for i := range want {
		want[i] = byte(i)
	}
	x.SetRequestRun()
	if err := req.Head(x.Request, false); err != nil {
		t.Errorf("request head: %v", err)
	}
	var both sync.WaitGroup
	both.Go(func() { feedBody(t, req, want) })
	both.Go(func() {
		h := &exchange.Response{Status: 200, Length: exchange.LengthUnknown}
		if err := resp.Head(h, false); err != nil {
			t.Errorf("response head: %v", err)
		}
		feedBody(t, resp, want)
	})
	both.Wait()
	for _, g := range filters {
		g.Close(nil)
	}
	if !bytes.Equal(up.body, want) || !up.ended {
		t.Errorf("request: got % x (ended %v), want % x", up.body, up.ended, want)
	}
	if !bytes.Equal(down.body, want) || !down.ended {
		t.Errorf("response: got % x (ended %v), want % x", down.body, down.ended, want)
	}
}

// feedBody pushes body in pieces from a buffer that is used again, flushes between,
// and ends with or without trailers.
func feedBody[H exchange.Head](t *testing.T, to exchange.Sink[H], body []byte) {
	t.Helper()
	buf := make([]byte, 64)
	for len(body) > 0 {
		n := copy(buf[:1+rand.IntN(len(buf))], body)
		body = body[n:]
		if err := to.Data(buf[:n], false); err != nil {
			t.Errorf("data: %v", err)
			return
		}
		clear(buf)
		if err := to.Data(nil, false); err != nil {
			t.Errorf("flush: %v", err)
			return
		}
	}
	var err error
	if rand.IntN(2) == 0 {
		err = to.Data(nil, true)
	} else {
		err = to.Trailer(&exchange.Fields{})
	}
	if err != nil {
		t.Errorf("end: %v", err)
	}
}
