package h2_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

// A rig is a server with one raw connection to it, in a bubble.
type rig struct {
	*testing.T
	s        *h2.Server
	nc       net.Conn
	fr       *http2.Framer
	block    bytes.Buffer
	enc      *hpack.Encoder
	serving  sync.WaitGroup
	handlers atomic.Int64 // that run
	most     atomic.Int64 // that ran at a time
	served   atomic.Int64
	wild     bool // not in a bubble

	mu sync.Mutex
	// Guarded by mu.
	refused []h2.Refusal
	codes   []http2.ErrCode // of GOAWAY
	last    []uint32        // last streams, of GOAWAY
	resets  map[http2.ErrCode]int
	closed  bool // by the server
}

// newRig serves h, reading what the server sends, until the test ends.
func newRig(t *testing.T, o h2.ServerOptions, h exchange.Handler) *rig {
	t.Helper()
	r := &rig{T: t, resets: map[http2.ErrCode]int{}}
	o.Refused = func(x *h2.Refusal) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused = append(r.refused, *x)
	}
	r.s = h2.NewServer(o, func(ctx context.Context, c exchange.Client) {
		n := r.handlers.Add(1)
		r.most.Store(max(r.most.Load(), n))
		h(ctx, c)
		r.handlers.Add(-1)
		r.served.Add(1)
	})
	r.nc = r.connect()
	r.fr = http2.NewFramer(r.nc, nil)
	r.fr.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.block)
	return r
}

// connect returns the client's end of a new connection.
func (r *rig) connect() net.Conn {
	client, server := exchangetest.Pipe()
	r.serving.Go(func() { r.s.ServeConn(r.Context(), server, nil, nil) })
	r.Cleanup(func() {
		_ = client.Close()
		r.serving.Wait()
	})
	return client
}

// begin greets the server, and reads what it sends if read is set.
func (r *rig) begin(read bool) {
	_, _ = io.WriteString(r.nc, http2.ClientPreface)
	_ = r.fr.WriteSettings()
	if read {
		r.read()
	}
}

// read reads until the connection ends.
func (r *rig) read() {
	r.serving.Go(func() {
		fr := http2.NewFramer(nil, r.nc)
		for {
			f, err := fr.ReadFrame()
			r.mu.Lock()
			if err != nil {
				r.closed = true
				r.mu.Unlock()
				_ = r.nc.Close()
				return
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				r.codes = append(r.codes, f.ErrCode)
				r.last = append(r.last, f.LastStreamID)
			case *http2.RSTStreamFrame:
				r.resets[f.ErrCode]++
			}
			r.mu.Unlock()
		}
	})
}

// head returns a field block.
func (r *rig) head(fields ...string) []byte {
	r.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return r.block.Bytes()
}

func (r *rig) request(method string) []byte {
	return r.head(":method", method, ":scheme", "http", ":authority", "x", ":path", "/")
}

// open writes a request head.
func (r *rig) open(id uint32, end bool, block []byte) error {
	return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: block})
}

// settle waits until the server has done what it was told.
func (r *rig) settle() {
	if !r.wild {
		synctest.Wait()
	}
}

// want checks how the connection has ended.
func (r *rig) want(code http2.ErrCode, reason string) {
	r.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.codes); n == 0 || r.codes[n-1] != code {
		r.Errorf("GOAWAY: got %v, want %v", r.codes, code)
	}
	if n := len(r.refused); reason != "" && (n == 0 || r.refused[n-1].Reason != reason) {
		r.Errorf("refused: got %+v, want reason %s", r.refused, reason)
	}
	if !r.closed {
		r.Errorf("the connection is still open")
	}
}

// polite checks that another client is served.
func (r *rig) polite() {
	r.Helper()
	c := dialTest(r.T, r.connect())
	defer c.close()
	s := c.get("/polite")
	if status, _, err := s.answer(); status != 200 || err != nil {
		r.Errorf("another client: got %d, %v", status, err)
	}
}

// floods are what a client may do again and again. Each must end in GOAWAY.
var floods = []struct {
	name   string
	reason string
	most   int // repetitions that it may take
	step   func(r *rig, i int) error
}{
	{"rapid reset", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		_ = r.open(uint32(2*i+1), true, r.request("GET"))
		return r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
	}},
	{"made you reset by a window of nothing", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		_ = r.open(uint32(2*i+1), false, r.request("POST"))
		return r.fr.WriteWindowUpdate(uint32(2*i+1), 0)
	}},
	{"made you reset by a window too large", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		_ = r.open(uint32(2*i+1), false, r.request("POST"))
		return r.fr.WriteWindowUpdate(uint32(2*i+1), 1<<31-1)
	}},
	{"made you reset by a head that is bad", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		return r.open(uint32(2*i+1), true, r.head("x", "y"))
	}},
	{"made you reset by data too much", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		_ = r.open(uint32(2*i+1), false, r.head(":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/", "content-length", "1"))
		return r.fr.WriteData(uint32(2*i+1), true, []byte("xx"))
	}},
	{"data after the end", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, true, r.request("GET"))
		}
		r.settle()
		return r.fr.WriteData(1, true, nil)
	}},
	{"dependency on itself", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, true, r.request("GET"))
		}
		return r.fr.WritePriority(1, http2.PriorityParam{StreamDep: 1})
	}},
	{"empty names", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		return r.open(uint32(2*i+1), true, append(r.request("GET"), bytes.Repeat([]byte{0, 0, 0}, 100)...))
	}},
	{"hpack bomb", h2.ReasonRapidReset, 250, func(r *rig, i int) error {
		b := []byte{0x82, 0x86, 0x84, 0x01, 1, 'x'} // GET http / x, without the dynamic table
		if i == 0 {                                 // a field of 4000 bytes that fills it
			b = append(b, 0x40, 4, 'b', 'o', 'm', 'b', 0x7f, 0xa1, 0x1e)
			b = append(b, bytes.Repeat([]byte{'x'}, 4000)...)
		}
		return r.open(uint32(2*i+1), true, append(b, bytes.Repeat([]byte{0x80 | 62}, 12000)...))
	}},
	{"CONTINUATION", h2.ReasonContinuation, 20, func(r *rig, i int) error {
		if i == 0 {
			return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.request("GET")})
		}
		return r.fr.WriteContinuation(1, false, []byte{0x82})
	}},
	{"empty CONTINUATION", h2.ReasonContinuation, 4, func(r *rig, i int) error {
		if i == 0 {
			return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.request("GET")})
		}
		return r.fr.WriteContinuation(1, false, nil)
	}},
	{"large CONTINUATION", h2.ReasonHeadTooLarge, 12, func(r *rig, i int) error {
		p := append([]byte{0, 1, 'x', 0x7f, 0x80, 0x7d}, bytes.Repeat([]byte{'x'}, 16000)...) // a value of 16127 bytes, nearly
		if i == 0 {
			return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.request("GET")})
		}
		return r.fr.WriteContinuation(1, false, p[:6+15999])
	}},
	{"SETTINGS", h2.ReasonControlFlood, 120, func(r *rig, _ int) error { return r.fr.WriteSettings() }},
	{"acknowledged SETTINGS", h2.ReasonControlFlood, 120, func(r *rig, _ int) error { return r.fr.WriteSettingsAck() }},
	{"PING", h2.ReasonControlFlood, 120, func(r *rig, _ int) error { return r.fr.WritePing(false, [8]byte{}) }},
	{"answers to PING", h2.ReasonControlFlood, 120, func(r *rig, _ int) error { return r.fr.WritePing(true, [8]byte{}) }},
	{"GOAWAY", h2.ReasonControlFlood, 120, func(r *rig, _ int) error { return r.fr.WriteGoAway(0, 0, nil) }},
	{"PRIORITY", h2.ReasonPriorityFlood, 1100, func(r *rig, _ int) error {
		return r.fr.WritePriority(3, http2.PriorityParam{StreamDep: 1})
	}},
	{"WINDOW_UPDATE", h2.ReasonWindowFlood, 1100, func(r *rig, _ int) error { return r.fr.WriteWindowUpdate(0, 1) }},
	{"unknown frames", h2.ReasonUnknownFlood, 120, func(r *rig, _ int) error { return r.fr.WriteRawFrame(0xbe, 0, 0, nil) }},
	{"empty DATA", h2.ReasonEmptyData, 120, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, false, r.request("POST"))
		}
		return r.fr.WriteData(1, false, nil)
	}},
	{"padding without DATA", h2.ReasonEmptyData, 120, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, false, r.request("POST"))
		}
		return r.fr.WriteDataPadded(1, false, nil, make([]byte, 200))
	}},
	{"tiny DATA", h2.ReasonTinyData, 51_000, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, false, r.request("POST"))
		}
		return r.fr.WriteData(1, false, []byte{'x'})
	}},
	{"ends of a refused stream", h2.ReasonStreamClosed, 600, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, false, r.head("x", "y"))
		}
		return r.fr.WriteData(1, true, nil)
	}},
	{"trailers of a refused stream", h2.ReasonStreamClosed, 600, func(r *rig, i int) error {
		if i == 0 {
			_ = r.open(1, false, r.head("x", "y"))
		}
		return r.open(1, true, r.head("x", "y"))
	}},
	{"more streams than allowed", h2.ReasonRapidReset, 128 + 250, func(r *rig, i int) error {
		return r.open(uint32(2*i+1), false, r.request("POST"))
	}},
}

func TestFloods(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, h2.ServerOptions{}, hello)
				r.begin(true)
				i := 0
				for ; i < 2*f.most; i++ {
					if f.step(r, i) != nil {
						break // the server has closed
					}
				}
				r.want(http2.ErrCodeEnhanceYourCalm, f.reason)
				if n := r.most.Load(); n > 2*h2.DefaultMaxStreams {
					t.Errorf("%d exchanges at a time", n)
				}
				r.polite()
			})
		})
	}
}

// TestFloodsBegin checks the other side of the limits: what real clients do is far
// from them.
func TestFloodsBegin(t *testing.T) {
	for _, f := range floods {
		if f.most < 100 || f.reason == h2.ReasonRapidReset && strings.HasPrefix(f.name, "more") {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, h2.ServerOptions{}, hello)
				r.begin(true)
				for i := range f.most / 3 {
					if err := f.step(r, i); err != nil {
						t.Fatalf("step %d: %v", i, err)
					}
				}
				synctest.Wait()
				r.mu.Lock()
				defer r.mu.Unlock()
				if len(r.codes) > 0 || r.closed {
					t.Errorf("after %d: GOAWAY %v, closed %v, refused %v", f.most/3, r.codes, r.closed, r.refused)
				}
			})
		})
	}
}

// TestSlow checks each wait, to the second.
func TestSlow(t *testing.T) {
	post := func(r *rig) { _ = r.open(1, false, r.request("POST")) }
	for _, tt := range []struct {
		name   string
		after  time.Duration
		code   http2.ErrCode
		reason string
		begin  func(r *rig)
	}{
		{"no preface", 10 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) { r.read() }},
		{"half a preface", 10 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) {
			_, _ = io.WriteString(r.nc, "PRI * HTTP")
			r.read()
		}},
		{"no settings", 10 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) {
			_, _ = io.WriteString(r.nc, http2.ClientPreface)
			r.read()
		}},
		{"half a frame header", 10 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) {
			r.begin(true)
			_, _ = r.nc.Write([]byte{0, 0, 1})
		}},
		{"half a field block", 10 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) {
			r.begin(true)
			_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.request("GET")})
		}},
		{"half a DATA frame", 30 * time.Second, http2.ErrCodeEnhanceYourCalm, h2.ReasonHeadTimeout, func(r *rig) {
			r.begin(true)
			post(r)
			_, _ = r.nc.Write([]byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 'x'})
		}},
		{"nothing to do", 60 * time.Second, http2.ErrCodeNo, "", func(r *rig) { r.begin(true) }},
		{"nothing to do after a request", 60 * time.Second, http2.ErrCodeNo, "", func(r *rig) {
			r.begin(true)
			_ = r.open(1, true, r.request("GET"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, h2.ServerOptions{}, hello)
				start := time.Now()
				tt.begin(r)
				for range 200 {
					r.mu.Lock()
					closed := r.closed
					r.mu.Unlock()
					if closed {
						break
					}
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if took := time.Since(start).Truncate(time.Second); took != tt.after && took != tt.after+time.Second {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
				r.want(tt.code, tt.reason)
				r.polite()
			})
		})
	}
}

// TestHalfOpenPosts checks that requests whose bodies never come end, and that others on
// the same connection are served meanwhile.
func TestHalfOpenPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Int64
		r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
			var q request
			if err := c.Feed(&q); err == nil {
				_ = c.Head(&exchange.Response{Status: 200, Length: 0}, true)
			} else if strings.Contains(err.Error(), h2.ReasonReadTimeout+" (408)") {
				late.Add(1)
			}
		})
		r.begin(true)
		for i := range 100 {
			_ = r.open(uint32(2*i+1), false, r.request("POST"))
		}
		time.Sleep(29 * time.Second)
		_ = r.open(1001, true, r.request("GET"))
		synctest.Wait()
		if n, m := r.handlers.Load(), r.served.Load(); n != 100 || m != 1 {
			t.Errorf("after 29s: %d exchanges run, %d are over; want 100 and 1", n, m)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := late.Load(); n != 100 {
			t.Errorf("%d exchanges have ended with 408, want 100", n)
		}
	})
}

// TestZeroWindow checks that a client that keeps its window shut holds an exchange for
// no longer than the write timeout, and one that does not read at all the connection.
func TestZeroWindow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(r *rig)
	}{
		{"of streams", func(r *rig) {
			_, _ = io.WriteString(r.nc, http2.ClientPreface)
			_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			r.read()
			for i := range 50 {
				_ = r.open(uint32(2*i+1), true, r.request("GET"))
			}
		}},
		{"of the connection", func(r *rig) {
			_, _ = io.WriteString(r.nc, http2.ClientPreface)
			_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			r.read()
			for i := range 50 {
				_ = r.open(uint32(2*i+1), true, r.request("GET"))
			}
		}},
		{"of the socket", func(r *rig) {
			r.begin(false)
			_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			_ = r.fr.WriteWindowUpdate(0, 1<<30)
			for i := range 50 {
				_ = r.open(uint32(2*i+1), true, r.request("GET"))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := make([]byte, 64<<10)
				r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
					if c.Feed(new(request)) == nil && c.Head(&exchange.Response{Status: 200, Length: 1 << 20}, false) == nil {
						for i := range 16 {
							if c.Data(p, i == 15) != nil {
								break
							}
						}
					}
				})
				tt.begin(r)
				time.Sleep(29 * time.Second)
				synctest.Wait()
				if n := r.handlers.Load(); n < 49 {
					t.Errorf("after 29s %d exchanges run", n)
				}
				time.Sleep(17 * time.Second)
				synctest.Wait()
				if n := r.handlers.Load(); n != 0 {
					t.Errorf("after 46s %d exchanges run", n)
				}
			})
		})
	}
}
