//go:build !race && !invariants

package h2_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// A loop is the end of a connection to an upstream that answers each request at once,
// from the goroutine that writes, and allocates nothing.
type loop struct {
	net.Conn // nil: nothing else is called

	mu     sync.Mutex
	ready  sync.Cond
	out    []byte // what there is to read; guarded by mu
	head   bool   // the preface has been seen; guarded by mu
	closed bool   // guarded by mu
}

func (l *loop) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	if !l.head {
		l.head = true
		p = p[len(http2.ClientPreface):]
		l.out = append(l.out, 0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0)
	}
	for len(p) >= 9 {
		length := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		if http2.FrameType(p[3]) == http2.FrameHeaders && p[4]&byte(http2.FlagHeadersEndStream) != 0 {
			id := binary.BigEndian.Uint32(p[5:])
			l.out = append(l.out, 0, 0, 1, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders))
			l.out = append(binary.BigEndian.AppendUint32(l.out, id), 0x88) // :status 200
			l.out = append(l.out, 0, 0, 2, byte(http2.FrameData), byte(http2.FlagDataEndStream))
			l.out = append(binary.BigEndian.AppendUint32(l.out, id), 'o', 'k')
		}
		p = p[9+length:]
	}
	l.ready.Signal()
	return n, nil
}

func (l *loop) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.out) == 0 {
		if l.closed {
			return 0, io.EOF
		}
		l.ready.Wait()
	}
	n := copy(p, l.out)
	l.out = append(l.out[:0], l.out[n:]...)
	return n, nil
}

func (l *loop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ready.Broadcast()
	return nil
}

func (l *loop) SetReadDeadline(time.Time) error  { return nil }
func (l *loop) SetWriteDeadline(time.Time) error { return nil }

// nothing is a sink that allocates nothing.
type nothing struct{}

func (nothing) Head(*exchange.Response, bool) error { return nil }
func (nothing) Data([]byte, bool) error             { return nil }
func (nothing) Trailer(*exchange.Fields) error      { return nil }

func TestClientAllocations(t *testing.T) {
	l := new(loop)
	l.ready.L = &l.mu
	c := h2.NewClientConn(l, nil)
	defer func() {
		_ = c.Close()
		_ = l.Close()
	}()
	req := newRequest("GET", "/a/b?c", 0)
	req.Fields.Add("accept", "text/html")
	req.Fields.Add("x-request-id", "0123456789abcdef")
	var sink exchange.Sink[*exchange.Response] = nothing{}
	once := func() {
		if !c.Reserve() {
			t.Error("no slot")
		}
		s, err := c.Open(t.Context())
		if err != nil {
			t.Error(err)
		}
		if err := s.Head(req, true); err != nil {
			t.Error(err)
		}
		if err := s.Feed(sink); err != nil {
			t.Error(err)
		}
		release(s)
	}
	for range 100 {
		once()
	}
	if n := testing.AllocsPerRun(1000, once); n > clientAllocs {
		t.Errorf("%v allocations for an exchange, want at most %d", n, clientAllocs)
	}
}

// clientAllocs is what an exchange costs, beside the strings of its fields: x/net's Framer
// makes a frame of each HEADERS.
const clientAllocs = 1
