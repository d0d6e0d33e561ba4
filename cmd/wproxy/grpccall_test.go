package main

import (
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

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
	"wproxy/host"
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
