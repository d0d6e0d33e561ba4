//go:build !race && !invariants

package h2_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

// discard is a sink that keeps nothing.
type discard struct{}

func (discard) Head(*exchange.Request, bool) error { return nil }
func (discard) Data([]byte, bool) error            { return nil }
func (discard) Trailer(*exchange.Fields) error     { return nil }

// static returns a Handler that answers with the same 1 KiB again and again.
func static() exchange.Handler {
	body := make([]byte, 1024)
	return func(_ context.Context, c exchange.Client) {
		h := heads.Get().(*exchange.Response)
		defer heads.Put(h)
		if c.Feed(discard{}) == nil && c.Head(h, false) == nil {
			_ = c.Data(body, true)
		}
	}
}

var heads = sync.Pool{New: func() any {
	h := &exchange.Response{Status: 200, Length: 1024}
	h.Fields.Add("content-type", "text/plain")
	h.Fields.Add("content-length", "1024")
	h.Fields.Add("server", "origin")
	return h
}}

// A driver sends the same request again and again and reads the answers, without
// allocating.
type driver struct {
	tb    testing.TB
	nc    net.Conn
	id    uint32
	frame []byte // HEADERS, and DATA if there is a body
	data  int    // where the DATA frame begins; 0: there is none
	buf   []byte
	sent  int // bytes of DATA of answers since the window was opened
}

func newDriver(tb testing.TB, nc net.Conn, body int) *driver {
	tb.Helper()
	d := &driver{tb: tb, nc: nc, id: 1, buf: make([]byte, 64<<10)}
	fr := http2.NewFramer(nc, nil)
	_, _ = io.WriteString(nc, http2.ClientPreface)
	_ = fr.WriteSettings()
	_ = fr.WriteWindowUpdate(0, 1<<30)
	// The first request puts what differs from the static table into the dynamic one,
	// as clients do.
	first := []byte{0x82, 0x86, 0x84, 0x41, 9}
	first = append(first, "a.example"...)
	first = append(first, 0x7a, 4, 't', 'e', 's', 't') // user-agent
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: first})
	d.read()
	method, flags := byte(0x82), byte(0x5)
	if body > 0 {
		method, flags = 0x83, 0x4
	}
	d.frame = []byte{0, 0, 5, 1, flags, 0, 0, 0, 0, method, 0x86, 0x84, 0x80 | 63, 0x80 | 62}
	if body > 0 {
		d.data = len(d.frame)
		d.frame = append(d.frame, 0, byte(body>>8), byte(body), 0, 1, 0, 0, 0, 0)
		d.frame = append(d.frame, make([]byte, body)...)
	}
	return d
}

// exchange does one.
func (d *driver) exchange() {
	d.id += 2
	binary.BigEndian.PutUint32(d.frame[5:], d.id)
	if d.data > 0 {
		binary.BigEndian.PutUint32(d.frame[d.data+5:], d.id)
	}
	if _, err := d.nc.Write(d.frame); err != nil {
		d.tb.Fatal(err)
	}
	d.read()
}

// read reads up to the end of the answer.
func (d *driver) read() {
	n := 0
	for {
		m, err := d.nc.Read(d.buf[n:])
		if err != nil {
			d.tb.Fatal(err)
		}
		for n += m; n >= 9; {
			size := 9 + int(d.buf[0])<<16 + int(d.buf[1])<<8 + int(d.buf[2])
			if n < size {
				break
			}
			end := d.buf[3] <= 1 && d.buf[4]&1 != 0 && binary.BigEndian.Uint32(d.buf[5:]) == d.id
			copy(d.buf, d.buf[size:n])
			if n -= size; end {
				if n > 0 {
					d.tb.Fatalf("%d bytes behind the end", n)
				}
				return
			}
		}
	}
}

// serveOne serves one connection until the test ends, and returns its other end.
func serveOne(tb testing.TB, h exchange.Handler, connect func(tb testing.TB) (client, server net.Conn)) net.Conn {
	tb.Helper()
	client, server := connect(tb)
	s := h2.NewServer(h2.ServerOptions{}, h)
	var serving sync.WaitGroup
	serving.Go(func() { s.ServeConn(context.Background(), server, nil, nil) })
	tb.Cleanup(func() {
		_ = client.Close()
		serving.Wait()
	})
	return client
}

// TestAllocs states what a request costs in steady state.
func TestAllocs(t *testing.T) {
	for _, tt := range []struct {
		name string
		body int
		max  float64
	}{
		{"GET", 0, 1},              // the Framer's HEADERS frame
		{"POST of 1 KiB", 1000, 1}, // the same
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, serveOne(t, static(), tcpPair), tt.body)
			for range 100 {
				d.exchange()
			}
			if n := testing.AllocsPerRun(1000, d.exchange); n > tt.max {
				t.Errorf("got %v allocations, want %v", n, tt.max)
			}
		})
	}
}

// TestIdle states what a connection costs that rests after a request: mostly the stack
// of its goroutine.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 200
		measure := func() uint64 {
			runtime.GC()
			runtime.GC() // the first leaves pools half full
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapInuse + m.StackInuse
		}
		s := h2.NewServer(h2.ServerOptions{}, static())
		var serving sync.WaitGroup
		var all []net.Conn
		before := measure()
		for range conns {
			client, server := exchangetest.Pipe()
			serving.Go(func() { s.ServeConn(context.Background(), server, nil, nil) })
			newDriver(t, client, 0)
			all = append(all, client)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if each := (measure() - before) / conns; each > 20<<10 {
			t.Errorf("got %d bytes with both ends of the pipe, want at most 20 KiB", each)
		}
		for _, c := range all {
			_ = c.Close()
		}
		serving.Wait()
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, body := range []int{0, 1000} {
		b.Run(map[bool]string{true: "GET", false: "POST"}[body == 0], func(b *testing.B) {
			d := newDriver(b, serveOne(b, static(), tcpPair), body)
			b.ReportAllocs()
			for b.Loop() {
				d.exchange()
			}
		})
	}
}
