package wasmfilter_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// A tick that looks at a body while its feeder reads the next bytes into the same
// memory sees bytes of one chunk.
func TestBodyOutsideOfItsCallback(t *testing.T) {
	p := newPlugin("p", script{onReqBody: cont}, fakeOptions{})
	x := &filter.Exchange{Context: context.Background(), Request: &exchange.Request{Length: -1}, Engine: noEngine{}}
	f, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	sink := f.Request(requestEnd{})
	if err := sink.Head(x.Request, false); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			p.vm.Lock()
			for _, c := range p.open {
				b := body(c, abi.BufferRequestBody)
				if b != "<none>" && b != "" && strings.Count(b, b[:1]) != len(b) {
					t.Errorf("bytes of two chunks: %q", b)
				}
			}
			p.vm.Unlock()
		}
	})
	chunk := make([]byte, 64)
	for i := range 5000 {
		for j := range chunk {
			chunk[j] = byte(i)
		}
		if err := sink.Data(chunk, false); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	f.Close(nil)
}

// Once an exchange is given up its head and body are the engine's alone: a tick that
// edits them then has no effect, and is no data race.
func TestEditsAfterGivingUp(t *testing.T) {
	tests := []struct {
		name string
		x    func(x *filter.Exchange)
		tick func(c *call) // ends the pause; nil: time does
	}{
		{"the pause was too long", func(x *filter.Exchange) { x.Deadline = time.Now().Add(25 * time.Millisecond) }, nil},
		{"the client has gone", func(x *filter.Exchange) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			x.Context = ctx
		}, nil},
		{"a reset", func(*filter.Exchange) {}, func(c *call) { c.Close(abi.StreamRequest) }},
		{"a local reply", func(*filter.Exchange) {}, func(c *call) { c.Reply(host.Reply{Status: 403}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			called := make(chan struct{})
			p := newPlugin("p", script{
				onReqHeaders: func(*call, int, bool) abi.Action { close(called); return abi.Pause },
				onLog: func(c *call) {
					if m := c.Map(abi.MapRequestHeaders); !m.Add("evil", "x") {
						t.Error("an edit in on_log was refused: a status kills some guests")
					}
				},
			}, fakeOptions{})
			x := &filter.Exchange{Context: context.Background(), Request: &exchange.Request{}, Engine: noEngine{}}
			x.Request.Fields.Add("accept", "x")
			tt.x(x)
			f, err := p.New(x)
			if err != nil {
				t.Fatal(err)
			}
			sink := f.Request(requestEnd{})
			var wg sync.WaitGroup
			if tt.tick != nil {
				wg.Go(func() {
					<-called
					p.vm.Lock()
					defer p.vm.Unlock()
					tt.tick(p.open[0])
				})
			}
			if err := sink.Head(x.Request, true); err == nil {
				t.Error("the exchange was not given up")
			}
			wg.Wait()
			wg.Go(func() {
				p.vm.Lock()
				defer p.vm.Unlock()
				m := p.open[0].Map(abi.MapRequestHeaders)
				m.Set("accept", "application/json")
				m.Add("evil", "x")
			})
			if got := x.Request.Fields.Value("accept"); got != "x" { // as for an error page
				t.Errorf("accept: %q", got)
			}
			wg.Wait()
			f.Close(nil)
			if x.Request.Fields.Has("evil") {
				t.Error("an edit of a message that was given up has had an effect")
			}
		})
	}
}
