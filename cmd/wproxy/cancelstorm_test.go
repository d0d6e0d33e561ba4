package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/cmd/wproxy/internal/strict"
)

// A calmOrigin serves HTTP/2 in clear and defends itself against rapid resets: a connection
// with more than calmResets of them is ended with ENHANCE_YOUR_CALM, and all that is on it.
// It never answers /slow, /long not before long is closed, and anything else at once.
type calmOrigin struct {
	long  chan struct{}
	slow  atomic.Int64 // requests for /slow
	calm  atomic.Int64 // connections that it has ended
	total atomic.Int64 // connections
	open  atomic.Int64 // those that are there
	most  atomic.Int64 // resets of a connection
}

// calmResets is what Netty takes in 30 s, which this test does not last.
const calmResets = 200

func startCalmOrigin(t *testing.T) (o *calmOrigin, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o = &calmOrigin{long: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			o.total.Add(1)
			o.open.Add(1)
			wg.Go(func() {
				defer o.open.Add(-1)
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(patience)) // nothing hangs here
				o.serve(nc, &wg)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return o, l.Addr().String()
}

func (o *calmOrigin) serve(nc net.Conn, wg *sync.WaitGroup) {
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var mu sync.Mutex // for writing
	answer := func(stream uint32) {
		mu.Lock()
		defer mu.Unlock()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true}) // 200
	}
	_ = fr.WriteSettings()
	over := make(chan struct{})
	defer close(over)
	resets := int64(0)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				mu.Lock()
				_ = fr.WriteSettingsAck()
				mu.Unlock()
			}
		case *http2.MetaHeadersFrame:
			switch f.PseudoValue("path") {
			case "/slow":
				o.slow.Add(1)
			case "/long":
				wg.Go(func() {
					select {
					case <-o.long:
						answer(f.StreamID)
					case <-over:
					}
				})
			default:
				answer(f.StreamID)
			}
		case *http2.RSTStreamFrame:
			resets++
			for m := o.most.Load(); m < resets && !o.most.CompareAndSwap(m, resets); m = o.most.Load() {
			}
			if resets > calmResets {
				o.calm.Add(1)
				mu.Lock()
				_ = fr.WriteGoAway(f.StreamID, http2.ErrCodeEnhanceYourCalm, nil)
				mu.Unlock()
				return
			}
		}
	}
}

// A canceller opens streams on a connection of its own to the instance, and gives them up.
type canceller struct {
	nc   net.Conn
	fr   *http2.Framer
	next uint32
}

func (in *instance) canceller(t *testing.T) *canceller {
	t.Helper()
	nc := in.connect(t)
	c := &canceller{nc: nc, fr: http2.NewFramer(nc, nc), next: 1}
	_, err := io.WriteString(nc, http2.ClientPreface)
	if err == nil {
		err = c.fr.WriteSettings()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with the connection
	return c
}

// cancel opens n streams, and gives them up when all have come to the origin.
func (c *canceller) cancel(t *testing.T, o *calmOrigin, n int) {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a.test"}, {":path", "/slow"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}) // into a buffer
	}
	before, first := o.slow.Load(), c.next
	for range n {
		if err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		c.next += 2
	}
	strict.Eventually(t, "at the origin", func() bool { return o.slow.Load() >= before+int64(n) })
	for id := first; id < c.next; id += 2 {
		if err := c.fr.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCancelStorm: clients that open streams and give them up by the thousand make no server
// take wproxy for an attacker, which would end the connection that all clients share.
func TestCancelStorm(t *testing.T) {
	o, address := startCalmOrigin(t)
	in := startInstance(t, `version = 1
[listeners.http]
address = "@ADDR"
protocols = ["h1", "h2c"]
[routes.all]
upstream = "calm"
retry    = { attempts = 0 }
[upstreams.calm]
servers = ["`+address+`"]
connect = { protocol = "h2" }
[admin]
address = "@ADMIN"
[log.access]
to = "@ACCESS"
`)
	victim := in.dial(t) // on the first connection, in the middle of the storm
	_ = victim.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(victim, "GET /long HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	strict.Eventually(t, "the victim's connection", func() bool { return o.open.Load() == 1 })
	const clients, batch = 17, 90 // two batches are just what a connection to wproxy may reset
	for range clients {
		c := in.canceller(t)
		for range 2 {
			c.cancel(t, o, batch)
			if resp := in.get(t, "a.test", "/other"); resp == nil || resp.Status != 200 {
				t.Fatalf("another client: %+v", resp)
			}
		}
		_ = c.nc.Close()
	}
	close(o.long)
	if resp, err := victim.r.ReadResponse("GET"); err != nil || resp.Status != 200 {
		t.Errorf("who shared the first connection: %+v, %v", resp, err)
	}
	if n := o.calm.Load(); n > 0 {
		t.Errorf("the origin has ended %d connections for their resets", n)
	}
	if !raceDetector { // whose pace leaves more connections with few resets each, which rest then
		if n := o.total.Load(); n > clients*2*batch/30 {
			t.Errorf("%d connections for %d cancelled requests", n, clients*2*batch)
		}
		strict.Within(t, 20*time.Second, "back at one connection", func() bool { return o.open.Load() <= 1 })
	}
	t.Logf("%d connections, at most %d resets on one", o.total.Load(), o.most.Load())
}
