package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"wproxy/abi"
	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A grpcTestPeer is the plugin's side of a call.
type grpcTestPeer struct {
	mu       sync.Mutex
	queue    [][]byte
	closed   bool
	heads    []string
	messages []string
	take     func(m []byte) bool // of messages; nil: all are taken
	wake     chan struct{}
	held     atomic.Int64
	most     int64
}

func newGRPCTestPeer(messages ...string) *grpcTestPeer {
	p := &grpcTestPeer{wake: make(chan struct{}, 1), most: 64 << 20}
	for _, m := range messages {
		p.queue = append(p.queue, []byte(m))
	}
	return p
}

func (p *grpcTestPeer) Next() (m []byte, ok, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		m, ok, p.queue = p.queue[0], true, p.queue[1:]
	}
	return m, ok, p.closed && len(p.queue) == 0
}

func (p *grpcTestPeer) Wake() <-chan struct{} { return p.wake }

func (p *grpcTestPeer) send(m string, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m != "" {
		p.queue = append(p.queue, []byte(m))
	}
	p.closed = end
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *grpcTestPeer) Head(status int, f *exchange.Fields) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heads = append(p.heads, fmt.Sprint(status, " ", f.Value("x-first")))
	return true
}

func (p *grpcTestPeer) Message(m []byte) bool {
	if p.take != nil {
		return p.take(m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages = append(p.messages, string(m))
	return true
}

func (p *grpcTestPeer) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

func (p *grpcTestPeer) Hold(n int) bool {
	if p.held.Add(int64(n)) > p.most {
		p.held.Add(int64(-n))
		return false
	}
	return true
}
func (p *grpcTestPeer) Free(n int) { p.held.Add(int64(-n)) }

// grpcServer runs a server of HTTP/2 in clear, and returns a function that makes calls
// through the engine.
func grpcServer(t *testing.T, h http.HandlerFunc, keys string) (call func(ctx context.Context, edit func(c *proxy.GRPCCall), p *grpcTestPeer) (*proxy.GRPCEnd, error), addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	t.Cleanup(s.Close)
	addr = s.Listener.Addr().String()
	return grpcUpstream(t, addr, keys), addr
}

func grpcUpstream(t *testing.T, addr, keys string) func(ctx context.Context, edit func(c *proxy.GRPCCall), p *grpcTestPeer) (*proxy.GRPCEnd, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "wproxy.toml")
	if err := os.WriteFile(name, fmt.Appendf(nil, `
[listeners.http]
address = "127.0.0.1:0"
[routes.all]
respond = { body = "hello" }
[upstreams.api]
servers = [%q]
%s
`, addr, keys), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New()
	hst, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := h1.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	p := newParts(zap.NewNop(), m, hst, w, false)
	p.builtins, p.live = &builtinSet{}, &liveNames{}
	p.callouts = newCallouts(p.log, m, false)
	p.callouts.pools, p.callouts.upstreams = p.pools, p.upstreams
	g, err := p.build(t.Context(), f, false)
	if err != nil {
		t.Fatal(err)
	}
	p.callouts.serve(g.callable)
	t.Cleanup(func() {
		g.Release()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context, edit func(c *proxy.GRPCCall), peer *grpcTestPeer) (*proxy.GRPCEnd, error) {
		u, _, letGo, ok := p.callouts.hold("api")
		if !ok {
			t.Fatal("there is no upstream")
		}
		defer letGo()
		c := &proxy.GRPCCall{Upstream: u, Path: "/pkg.Svc/Do", MaxMessage: 1 << 20, Peer: peer}
		if edit != nil {
			edit(c)
		}
		return p.callouts.caller.GRPC(ctx, c)
	}
}

const speaksH2 = `connect.protocol = "h2"`

// frame is a message on the wire.
func frame(m string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))) + m
}

// readFrame reads one message of a request.
func readFrame(r io.Reader) (string, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return "", err
	}
	m := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	_, err := io.ReadFull(r, m)
	return string(m), err
}

// beginGRPC sends the head of an answer.
func beginGRPC(w http.ResponseWriter) {
	w.Header().Set("content-type", "application/grpc+proto")
	w.Header().Set("trailer", "grpc-status, grpc-message")
	w.Header().Set("x-first", "1")
	w.WriteHeader(200)
	_ = http.NewResponseController(w).Flush()
}

func endGRPC(w http.ResponseWriter, code, message string) {
	w.Header().Set("grpc-status", code)
	w.Header().Set("grpc-message", message)
}

// What servers answer, and what a call comes to.
func TestGRPCOverTheEngine(t *testing.T) {
	t.Parallel()
	pieces := func(w http.ResponseWriter, parts ...string) {
		for _, p := range parts {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
		}
	}
	answers := map[string]http.HandlerFunc{
		"well": func(w http.ResponseWriter, _ *http.Request) {
			beginGRPC(w)
			pieces(w, frame("one"))
			endGRPC(w, "0", "")
		},
		"pieces": func(w http.ResponseWriter, _ *http.Request) {
			beginGRPC(w)
			pieces(w, "\x00\x00", "\x00\x00\x03o", "ne"+frame("")+frame("two")[:6], "wo")
			endGRPC(w, "0", "")
		},
		"status": func(w http.ResponseWriter, _ *http.Request) { beginGRPC(w); endGRPC(w, "5", "100%25 %E2%98%B9 %zz") },
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-type", "application/grpc")
			w.Header().Set("grpc-status", "16")
			w.Header().Set("grpc-message", "who")
		},
		"none":    func(w http.ResponseWriter, _ *http.Request) { beginGRPC(w); pieces(w, frame("x")) },
		"unknown": func(w http.ResponseWriter, _ *http.Request) { beginGRPC(w); endGRPC(w, "99", "odd") },
		"html": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-type", "text/html")
			pieces(w, "<html>")
		},
		"unauthorized": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"body503":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); pieces(w, strings.Repeat("x", 100)) },
		"http404":      func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			beginGRPC(w)
			pieces(w, frame("one")[:6])
			endGRPC(w, "0", "")
		},
		"giant": func(w http.ResponseWriter, _ *http.Request) {
			beginGRPC(w)
			pieces(w, "\x00\xff\xff\xff\xff")
			endGRPC(w, "0", "")
		},
		"zipped": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("grpc-encoding", "gzip")
			beginGRPC(w)
			pieces(w, "\x01\x00\x00\x00\x01x")
			endGRPC(w, "0", "")
		},
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			beginGRPC(w)
			pieces(w, frame("one"))
			panic(http.ErrAbortHandler)
		},
		"hang":   func(w http.ResponseWriter, r *http.Request) { beginGRPC(w); <-r.Context().Done() },
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	seen := make(chan *http.Request, 100)
	call, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		m, err := readFrame(r.Body)
		if _, more := r.Body.Read(make([]byte, 1)); err != nil || !errors.Is(more, io.EOF) {
			t.Errorf("%s: %v, %v", r.URL.Path, err, more)
		}
		if m == "seen" {
			seen <- r
		}
		answers[strings.TrimPrefix(r.URL.Path, "/s/")](w, r)
	}, speaksH2)
	for _, tt := range []struct {
		method   string
		code     int
		text     string
		messages []string
		heads    string
		answered bool
		failure  bool
	}{
		{"well", 0, "", []string{"one"}, "200 1", true, false},
		{"pieces", 0, "", []string{"one", "", "two"}, "200 1", true, false},
		{"status", 5, "100% ☹ %zz", nil, "200 1", true, false},
		{"trailers", 16, "who", nil, "", true, false},
		{"none", 2, "the answer has no grpc-status", []string{"x"}, "200 1", true, false},
		{"unknown", 2, "odd", nil, "200 1", true, false},
		{"html", 2, `the answer is not gRPC: its content-type is "text/html"`, nil, "200 ", false, false},
		{"unauthorized", 16, "HTTP status 401", nil, "401 ", true, false},
		{"body503", 14, "HTTP status 503", nil, "503 ", true, false},
		{"http404", 12, "HTTP status 404", nil, "404 ", true, false},
		{"cut", 13, "the answer ends within a message", nil, "200 1", true, false},
		{"giant", 8, "a message is larger than can be received", nil, "200 1", false, false},
		{"zipped", 13, "a message is compressed, which nobody has asked for", nil, "200 1", false, false},
		{"reset", 13, "upstream_reset", nil, "200 1", false, true},
		{"hang", 4, "timeout", nil, "200 1", false, true},
		{"silent", 4, "timeout", nil, "", false, true},
	} {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			p := newGRPCTestPeer("question")
			p.closed = true
			end, err := call(t.Context(), func(c *proxy.GRPCCall) {
				c.Path, c.Deadline = "/s/"+tt.method, time.Now().Add(10*time.Second)
				if tt.code == 4 {
					c.Deadline = time.Now().Add(200 * time.Millisecond)
				}
			}, p)
			if err != nil {
				t.Fatal(err)
			}
			if tt.method == "reset" { // it overtakes what is on its way, be it the head
				if end.Code != 13 && end.Code != 14 || end.Message != tt.text || end.Failure == nil {
					t.Errorf("end %+v", end)
				}
				return
			}
			if end.Code != tt.code || end.Message != tt.text || end.Answered != tt.answered || (end.Failure != nil) != tt.failure {
				t.Errorf("end %+v", end)
			}
			if !slices.Equal(p.messages, tt.messages) || strings.Join(p.heads, ",") != tt.heads {
				t.Errorf("messages %q, heads %q", p.messages, p.heads)
			}
		})
	}
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		p := newGRPCTestPeer("seen")
		p.closed = true
		if _, err := call(t.Context(), func(c *proxy.GRPCCall) {
			c.Path, c.Authority, c.Deadline = "/s/well", "auth.test", time.Now().Add(time.Minute)
			c.Metadata = &exchange.Fields{}
			for _, f := range [][2]string{{"x-a", "1"}, {"x-a", "2"}, {"k-bin", "AA"}, {"grpc-timeout", "1H"}, {"content-type", "text/x"}, {"te", "gzip"}, {"connection", "x"}} {
				c.Metadata.Add(f[0], f[1])
			}
		}, p); err != nil {
			t.Fatal(err)
		}
		r := <-seen
		if r.Method != "POST" || r.Host != "auth.test" || r.Header.Get("content-type") != "application/grpc" || r.Header.Get("te") != "trailers" ||
			!slices.Equal(r.Header["X-A"], []string{"1", "2"}) || r.Header.Get("k-bin") != "AA" || r.Header.Get("user-agent") != "wproxy" {
			t.Errorf("request %s %s %v", r.Method, r.Host, r.Header)
		}
		if v := r.Header["Grpc-Timeout"]; len(v) != 1 || !strings.HasSuffix(v[0], "u") && !strings.HasSuffix(v[0], "n") {
			t.Errorf("grpc-timeout %q", v)
		}
	})
}

// A stream in both directions, with pauses, that the server ends while ours is open.
func TestGRPCEngineStream(t *testing.T) {
	t.Parallel()
	call, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		beginGRPC(w)
		for {
			m, err := readFrame(r.Body)
			switch {
			case errors.Is(err, io.EOF):
				endGRPC(w, "0", "bye")
				return
			case err != nil:
				return
			case m == "end":
				endGRPC(w, "3", "enough")
				return
			}
			_, _ = io.WriteString(w, frame("re: "+m))
			_ = http.NewResponseController(w).Flush()
		}
	}, speaksH2)
	for _, last := range []string{"end", ""} {
		p := newGRPCTestPeer()
		ended := make(chan *proxy.GRPCEnd, 1)
		go func() {
			end, err := call(t.Context(), nil, p)
			if err != nil {
				t.Error(err)
			}
			ended <- end
		}()
		for i := range 20 {
			p.send(fmt.Sprint(i), false)
			for j := 0; len(p.got()) <= i && j < 2000; j++ {
				time.Sleep(time.Millisecond)
			}
		}
		if got := p.got(); len(got) != 20 || got[19] != "re: 19" {
			t.Fatalf("got %q", got)
		}
		p.send(last, last == "")
		select {
		case end := <-ended:
			if last == "end" && (end.Code != 3 || end.Message != "enough") || last == "" && (end.Code != 0 || end.Message != "bye") {
				t.Errorf("end %+v", end)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not end")
		}
	}
}

// A server that floods has to wait for the plugin: what it is ahead is bounded by the windows
// of HTTP/2. One that sends a message and never its end holds what has come. A cancel ends each.
func TestGRPCHostileUpstream(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	gone := make(chan struct{}, 10)
	call, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { gone <- struct{}{} }()
		_ = http.NewResponseController(w).EnableFullDuplex()
		beginGRPC(w)
		piece := []byte(strings.Repeat(frame(strings.Repeat("x", 1000)), 30))
		if r.URL.Path == "/s/endless" {
			piece = append([]byte("\x00\x00\x10\x00\x00"), make([]byte, 1<<20-1)...) // all but the last byte
		}
		for {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
			if r.URL.Path == "/s/endless" {
				<-r.Context().Done()
				return
			}
		}
	}, speaksH2)
	t.Run("flood", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newGRPCTestPeer()
		hold := make(chan struct{})
		p.take = func([]byte) bool { <-hold; return true }
		ended := make(chan error, 1)
		go func() { _, err := call(ctx, func(c *proxy.GRPCCall) { c.Path = "/s/flood" }, p); ended <- err }()
		last := int64(-1)
		for range 100 { // until it stands still
			time.Sleep(20 * time.Millisecond)
			now := sent.Load()
			if now == last && now > 0 {
				break
			}
			last = now
		}
		if n := sent.Load(); n == 0 || n > 16<<20 {
			t.Errorf("the server could send %d bytes to a plugin that takes none", n)
		}
		if n := p.held.Load(); n > 1<<20 {
			t.Errorf("%d bytes are held", n)
		}
		cancel()
		close(hold)
		wantCanceled(t, ended, gone)
	})
	t.Run("endless", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newGRPCTestPeer()
		ended := make(chan error, 1)
		go func() { _, err := call(ctx, func(c *proxy.GRPCCall) { c.Path = "/s/endless" }, p); ended <- err }()
		for j := 0; p.held.Load() < 1<<20-1 && j < 10_000; j++ {
			time.Sleep(time.Millisecond)
		}
		if n := p.held.Load(); n < 1<<20-1 || n > 1<<20+1000 {
			t.Errorf("%d bytes are held", n)
		}
		cancel()
		wantCanceled(t, ended, gone)
		if n := p.held.Load(); n > 1000 {
			t.Errorf("%d bytes are held at the end", n)
		}
	})
}

func wantCanceled(t *testing.T, ended chan error, gone chan struct{}) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server is not told")
	}
}

// Upstreams that are not there, or do not speak HTTP/2.
func TestGRPCUnavailable(t *testing.T) {
	t.Parallel()
	_, addr := grpcServer(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }, speaksH2)
	for _, tt := range []struct{ name, addr, keys, reason string }{
		{"refused", "127.0.0.1:1", speaksH2, "upstream_refused"},
		{"only HTTP/1.1", addr, `connect.protocol = "h1"`, "upstream_not_http2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			call := grpcUpstream(t, tt.addr, tt.keys)
			end, err := call(t.Context(), nil, newGRPCTestPeer())
			if err != nil || end.Code != 14 || end.Failure == nil || end.Message != tt.reason {
				t.Errorf("end %+v, %v", end, err)
			}
		})
	}
}

// A stream that rests hears that its connection is gone, without sending anything.
func TestGRPCRestingStreamEnds(t *testing.T) {
	t.Parallel()
	var server atomic.Pointer[httptest.Server]
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pkg.Svc/Do" {
			go server.Load().CloseClientConnections()
			<-r.Context().Done()
		}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Store(s)
	s.Start()
	t.Cleanup(s.Close)
	call := grpcUpstream(t, s.Listener.Addr().String(), speaksH2)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	end, err := call(ctx, nil, newGRPCTestPeer())
	if err != nil || end.Code != 14 {
		t.Errorf("end %+v, %v", end, err)
	}
}

// A service keeps a stream open while its upstream is replaced again and again: each time the
// old one ends, with a status that says why, and the new upstream gets the next one. One that
// a reload leaves as it is keeps its stream.
func TestGRPCStreamOverReloads(t *testing.T) {
	var opened, ended atomic.Int64
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		defer ended.Add(1)
		beginGRPC(w)
		opened.Add(1)
		<-r.Context().Done()
	}))
	origin.Config.Protocols = new(http.Protocols)
	origin.Config.Protocols.SetUnencryptedHTTP2(true)
	origin.Start()
	t.Cleanup(origin.Close) // after the proxy, whose stream it would wait for
	g := wasmtest.NewGuest()
	id := g.Slot(4)
	stream := wasmtest.Seq(wasmtest.Call(g.Env(abi.ImportGRPCStream, "iiiiiiiii>i"),
		g.Str("api"), g.Str("pkg.Svc"), g.Str("Watch"), g.Str(""), wasmtest.I32(id)), wasmtest.Drop())
	g.Func(abi.ExportOnConfigure, "ii>i", stream, wasmtest.I32(1))
	g.Func(abi.ExportOnGRPCClose, "iii", wasmtest.Call(g.Env(abi.ImportLog, "iii>i"), wasmtest.I32(3), g.Str("the stream was closed")), wasmtest.Drop(), stream)
	guest := writeGuest(t, g.Bytes())
	toml := func(idle int, body string) string {
		return fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[routes.all]
respond = { body = %q }
[plugins.watch]
wasm = %q
kind = "service"
grant = ["log", "call:api"]
[upstreams.api]
servers = [%q]
connect.protocol = "h2"
pool = { idle = %d }
`, body, guest, origin.Listener.Addr().String(), idle)
	}
	in := startInstance(t, toml(1, "a"))
	reload := func(toml string) {
		t.Helper()
		in.write(t, toml)
		var out bytes.Buffer
		if code := run(t.Context(), []string{"reload", "-c", in.file}, &out, &out); code != exitOK {
			t.Fatalf("reload: %s", out.String())
		}
	}
	strict.Eventually(t, "a stream is open", func() bool { return opened.Load() == 1 })
	reload(toml(1, "b"))
	time.Sleep(50 * time.Millisecond)
	if opened.Load() != 1 || ended.Load() != 0 {
		t.Errorf("%d opened and %d ended after a reload that leaves the upstream alone", opened.Load(), ended.Load())
	}
	for n := int64(1); n <= 5; n++ {
		reload(toml(int(n)+1, "b"))
		strict.Eventually(t, "the stream moves", func() bool { return opened.Load() == n+1 && ended.Load() == n })
	}
	if got := in.outcomesOf(t, "watch"); got[host.CallReset] != 5 || len(got) != 1 {
		t.Errorf("outcomes %v", got)
	}
}
