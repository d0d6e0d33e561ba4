package h2_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// connShare is that of limits.go.
const connShare = 128 << 10

// TestBudget: many connections that each hold all they can are held to the budget together,
// with the reason that says so, and a client that asks for little is served meanwhile. When
// they are gone, nothing of the budget is taken.
func TestBudget(t *testing.T) {
	const conns, limit = 12, 2 << 20
	post := func(x *rig, id uint32, length int) {
		_ = x.open(id, false, x.request("POST"))
		for n := length; n > 0; n -= 16 << 10 {
			_ = x.fr.WriteData(id, false, make([]byte, min(n, 16<<10)))
		}
	}
	large := func(x *rig, id uint32) {
		p := append(x.request("GET"), 0, 1, 'x', 0x7f, 0xe1, 0xd3, 0x03)
		p = append(p, bytes.Repeat([]byte{'x'}, 60_000)...)
		_ = x.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: p[:16<<10]})
		for p = p[16<<10:]; len(p) > 0; {
			n := min(len(p), 16<<10)
			_ = x.fr.WriteContinuation(id, n == len(p), p[:n])
			p = p[n:]
		}
	}
	for _, tt := range []struct {
		name string
		code http2.ErrCode
		do   func(x *rig, id uint32)
	}{
		{"bodies", http2.ErrCodeEnhanceYourCalm, func(x *rig, id uint32) { post(x, id, 1<<16-1) }},
		{"bodies of a byte", http2.ErrCodeEnhanceYourCalm, func(x *rig, id uint32) { post(x, id, 1) }},
		{"heads", http2.ErrCodeRefusedStream, large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := make(chan struct{})
				budget := h2.NewBudget(limit)
				r := newRig(t, h2.ServerOptions{Budget: budget}, func(ctx context.Context, c exchange.Client) {
					var q request
					if c.Feed(&holdSink{&q, end}) == nil {
						_ = c.Head(&exchange.Response{Status: 204}, true)
					}
				})
				before := heap()
				all := make([]*rig, conns)
				for i := range all {
					x := &rig{T: t, nc: r.connect(), resets: map[http2.ErrCode]int{}}
					x.fr, x.enc = http2.NewFramer(x.nc, nil), hpack.NewEncoder(&x.block)
					x.begin(false)
					go x.count()
					for s := range h2.DefaultMaxStreams {
						tt.do(x, uint32(2*s+1))
					}
					all[i] = x
				}
				synctest.Wait()
				if used := budget.Used(); used > limit || used < limit/2 {
					t.Errorf("%d bytes of the budget are taken", used)
				}
				// On top of it are each connection's own share, and what its pipes and 128
				// goroutines hold.
				if held := heap() - before; held > limit+conns*(connShare+1<<20) {
					t.Errorf("%d bytes are held", held)
				}
				resets := 0
				for _, x := range all {
					x.mu.Lock()
					resets += x.resets[tt.code]
					x.mu.Unlock()
				}
				if resets == 0 {
					t.Errorf("no stream was reset with %v", tt.code)
				}
				if tt.code == http2.ErrCodeRefusedStream {
					r.mu.Lock()
					if len(r.refused) == 0 || r.refused[0].Reason != h2.ReasonMemory {
						t.Errorf("refused: %+v", r.refused)
					}
					r.mu.Unlock()
				}
				// Somebody else.
				c := dialTest(t, r.connect())
				s := c.get("/polite")
				close(end)
				if status, _, err := s.answer(); status != 204 || err != nil {
					t.Errorf("another client: got %d, %v", status, err)
				}
				c.close()
				for _, x := range all {
					_ = x.nc.Close()
				}
				r.serving.Wait()
				if used := budget.Used(); used != 0 {
					t.Errorf("%d bytes of the budget are taken when nobody is there", used)
				}
			})
		})
	}
}

// A holdSink does not return from its first call before end.
type holdSink struct {
	*request
	end chan struct{}
}

func (s *holdSink) Head(r *exchange.Request, end bool) error {
	if r.Target != "/polite" {
		<-s.end
	}
	return s.request.Head(r, end)
}

// count reads what the server sends until the connection ends.
func (r *rig) count() {
	fr := http2.NewFramer(io.Discard, r.nc)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if f, ok := f.(*http2.RSTStreamFrame); ok {
			r.mu.Lock()
			r.resets[f.ErrCode]++
			r.mu.Unlock()
		}
	}
}

// TestBudgetGrowth: windows grow out of the budget, and not without.
func TestBudgetGrowth(t *testing.T) {
	for limit, want := range map[int64]bool{h2.DefaultBudget: true, 0: false} {
		synctest.Test(t, func(t *testing.T) {
			budget := h2.NewBudget(limit)
			r := newRig(t, h2.ServerOptions{Budget: budget}, hello)
			r.begin(true)
			_ = r.open(1, false, r.request("POST"))
			for range 20 {
				_ = r.fr.WriteData(1, false, make([]byte, 16<<10))
				synctest.Wait()
			}
			if used := budget.Used(); used > 0 != want {
				t.Errorf("with %d: %d bytes are taken", limit, used)
			}
			_ = r.fr.WriteData(1, true, nil)
			synctest.Wait()
			if used := budget.Used(); used != 0 || r.served.Load() != 1 {
				t.Errorf("with %d: %d bytes are taken behind the end of %d exchanges", limit, used, r.served.Load())
			}
			_ = r.nc.Close()
		})
	}
}
