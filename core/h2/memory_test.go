package h2_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// heap returns the bytes that are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep through the first
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemory measures what the worst clients make a connection hold: the mean of many. The
// client's end is in it, with 8 KiB, and the largest part of what was under way in the pipe, up
// to 64 KiB.
func TestMemory(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conns int
		rest  time.Duration // before it is measured
		most  int64         // bytes of a connection
		do    func(r *rig)
	}{
		{"greeted", 100, 0, 64 << 10, func(*rig) {}},
		{"at rest", 100, 10 * time.Second, 16 << 10, func(r *rig) {
			_ = r.open(1, true, r.request("GET"))
		}},
		{"at rest after a block of many frames", 100, 10 * time.Second, 96 << 10, func(r *rig) {
			// A value of 120,000 bytes, which is too large.
			p := append(r.request("GET"), 0, 1, 'x', 0x7f, 0xc1, 0xa8, 0x07)
			p = append(p, bytes.Repeat([]byte{'x'}, 120_000)...)
			_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: p[:16<<10]})
			for p = p[16<<10:]; len(p) > 0; {
				n := min(len(p), 16<<10)
				_ = r.fr.WriteContinuation(1, n == len(p), p[:n])
				p = p[n:]
			}
		}},
		{"full windows", 5, 0, 11 << 20, func(r *rig) {
			for i := range h2.DefaultMaxStreams {
				_ = r.open(uint32(2*i+1), false, r.request("POST"))
				for n := 1<<16 - 1; n > 0; n -= 16 << 10 {
					_ = r.fr.WriteData(uint32(2*i+1), false, make([]byte, min(n, 16<<10)))
				}
			}
		}},
		{"full windows, in tiny frames", 5, 0, 11 << 20, func(r *rig) {
			for i := range h2.DefaultMaxStreams {
				_ = r.open(uint32(2*i+1), false, r.request("POST"))
				for range 300 {
					_ = r.fr.WriteDataPadded(uint32(2*i+1), false, make([]byte, 16), make([]byte, 100))
				}
			}
		}},
		{"large heads", 5, 0, 128 * (80 << 10), func(r *rig) {
			for i := range h2.DefaultMaxStreams {
				p := append(r.request("POST"), 0, 1, 'x', 0x7f, 0xe1, 0xd3, 0x03)
				p = append(p, bytes.Repeat([]byte{'x'}, 60_000)...)
				_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: p[:16<<10]})
				for p = p[16<<10:]; len(p) > 0; {
					n := min(len(p), 16<<10)
					_ = r.fr.WriteContinuation(uint32(2*i+1), n == len(p), p[:n])
					p = p[n:]
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := make(chan struct{})
				r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
					if tt.rest > 0 {
						hello(ctx, c)
						return
					}
					<-end
				})
				defer close(end)
				r.begin(true)
				before := heap()
				for range tt.conns {
					x := &rig{T: t, nc: r.connect()}
					x.fr = http2.NewFramer(x.nc, nil)
					x.enc = hpack.NewEncoder(&x.block)
					go func() { _, _ = io.Copy(io.Discard, x.nc) }() // ends with the connection
					_, _ = io.WriteString(x.nc, http2.ClientPreface)
					_ = x.fr.WriteSettings()
					tt.do(x)
				}
				synctest.Wait()
				time.Sleep(tt.rest)
				synctest.Wait()
				per := (heap() - before) / int64(tt.conns)
				t.Logf("%d bytes per connection", per)
				if per > tt.most {
					t.Errorf("a connection holds %d bytes, want at most %d", per, tt.most)
				}
			})
		})
	}
}
