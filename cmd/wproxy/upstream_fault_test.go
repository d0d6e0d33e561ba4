package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/certs/certstest"

	"go.uber.org/zap"
)

// upstreamKinds are the ways to speak to an upstream beside HTTP/1.1 in clear.
var upstreamKinds = []struct {
	name       string
	tls, http2 bool
}{
	{"h1 over TLS", true, false},
	{"h2c", false, true},
	{"h2 over TLS", true, true},
}

// startOver serves what o does over another protocol, and runs an instance in front.
func (o *goOrigin) startOver(t *testing.T, overTLS, overHTTP2 bool) *instance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: o.Config.Handler, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute, ErrorLog: zap.NewStdLog(zap.NewNop())}
	s.Protocols.SetHTTP1(!overHTTP2)
	s.Protocols.SetHTTP2(overHTTP2 && overTLS)
	s.Protocols.SetUnencryptedHTTP2(overHTTP2 && !overTLS)
	more := ""
	if overHTTP2 {
		more = "\nconnect = { protocol = \"h2\" }"
	}
	serve := s.Serve
	if overTLS {
		ca := certstest.New(t, "CA")
		file, _ := ca.Write(t, t.TempDir(), "ca")
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.Server("127.0.0.1").TLS}}
		more += "\ntls = { ca = \"" + file + "\" }"
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = serve(l) }) // ends with s
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return startInstance(t, strings.ReplaceAll(hostileConfig, "[\"@ORIGIN\"]", "[\""+l.Addr().String()+"\"]"+more))
}

// TestBodiesOverProtocols: bodies of any size pass in both directions with flat memory.
func TestBodiesOverProtocols(t *testing.T) {
	for _, k := range upstreamKinds {
		t.Run(k.name, func(t *testing.T) {
			in := newGoOrigin(t).startOver(t, k.tls, k.http2)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
			do := func(method, target string, body io.Reader, length int64) (int64, string) {
				req, err := http.NewRequest(method, "http://"+in.addr+target, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Host, req.ContentLength = "a.test", length
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				var text strings.Builder
				n, err := io.Copy(io.MultiWriter(io.Discard, &limited{&text, 100}), resp.Body)
				if err != nil {
					t.Errorf("%s %s: %v", method, target, err)
				}
				return n, text.String()
			}
			for _, length := range []int64{bigBody, -1} {
				growth := heapGrowth(func() {
					if _, got := do("POST", "/up", &blockReader{bigBody}, length); got != strconv.Itoa(bigBody) {
						t.Errorf("the origin has received %q bytes, want %d", got, bigBody)
					}
				})
				if growth > maxGrowth {
					t.Errorf("up: the heap grew by %d MiB", growth>>20)
				}
			}
			for _, more := range []string{"", "&length"} {
				growth := heapGrowth(func() {
					if n, _ := do("GET", fmt.Sprintf("/down?n=%d%s", bigBody, more), nil, 0); n != bigBody {
						t.Errorf("got %d bytes, want %d", n, bigBody)
					}
				})
				if growth > maxGrowth {
					t.Errorf("down: the heap grew by %d MiB", growth>>20)
				}
			}
		})
	}
}

// limited keeps the first n bytes.
type limited struct {
	w io.Writer
	n int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	k := min(len(p), l.n)
	l.n -= k
	_, err := l.w.Write(p[:k])
	return len(p), err
}

// TestSlowReaderOverProtocols: who does not read stops its own request and nobody else's,
// although they may share the connection to the upstream.
func TestSlowReaderOverProtocols(t *testing.T) {
	for _, k := range upstreamKinds {
		t.Run(k.name, func(t *testing.T) {
			origin := newGoOrigin(t)
			in := origin.startOver(t, k.tls, k.http2)
			w := in.dial(t)
			if err := w.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(w, "GET /down?n=%d&length HTTP/1.1\r\nHost: a.test\r\n\r\n", bigBody); err != nil {
				t.Fatal(err)
			}
			last := int64(-1)
			strict.Eventually(t, "stopped", func() bool {
				now := origin.written.Load()
				stopped := now == last && now > 0
				last = now
				time.Sleep(50 * time.Millisecond)
				return stopped
			})
			if last >= bigBody/2 {
				t.Errorf("the origin has written %d MiB to a client that reads nothing", last>>20)
			}
			begin := time.Now()
			for range 50 {
				if got := in.get(t, "a.test", "/ok"); string(got.Body) != "ok" {
					t.Fatalf("another client got %d %q", got.Status, got.Body)
				}
			}
			if took := time.Since(begin); took > prompt {
				t.Errorf("50 requests of another client took %v", took)
			}
			if err := w.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Length != bigBody {
				t.Errorf("once it reads it gets %d bytes, %v; want %d", resp.Length, err, bigBody)
			}
		})
	}
}

// TestClientsGoAwayOverProtocols: what clients leave behind ends at the origin too, and
// with HTTP/2 the connection stays good for others.
func TestClientsGoAwayOverProtocols(t *testing.T) {
	for _, k := range upstreamKinds {
		t.Run(k.name, func(t *testing.T) {
			origin := newGoOrigin(t)
			in := origin.startOver(t, k.tls, k.http2)
			in.get(t, "a.test", "/ok")
			before := runtime.NumGoroutine()
			for name, request := range map[string]string{
				"download": "GET /down?n=1000000000 HTTP/1.1\r\nHost: a.test\r\n\r\n",
				"upload":   "POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 10_000),
				"waiting":  "GET /hang HTTP/1.1\r\nHost: a.test\r\n\r\n",
			} {
				var wg sync.WaitGroup
				slots := make(chan struct{}, 20)
				for i := range 60 {
					slots <- struct{}{}
					wg.Go(func() {
						defer func() { <-slots }()
						c, err := net.Dial("tcp", in.addr)
						if err != nil {
							t.Error(err)
							return
						}
						defer c.Close()
						_, _ = io.WriteString(c, request)
						if name == "download" {
							_, _ = io.ReadFull(c, make([]byte, 20_000))
						} else if i%2 == 0 {
							time.Sleep(20 * time.Millisecond) // it is at the origin, as a rule
						}
						if i%4 < 2 {
							_ = c.(*net.TCPConn).SetLinger(0) // a reset instead of a FIN
						}
					})
				}
				wg.Wait()
				strict.Eventually(t, name+": without requests to the origin", func() bool { return origin.active.Load() == 0 })
			}
			if got := in.get(t, "a.test", "/ok"); string(got.Body) != "ok" {
				t.Errorf("a healthy request got %d %q", got.Status, got.Body)
			}
			if k.http2 { // a few connections to the origin, each with its goroutines: one is left after so many cancels
				strict.Within(t, 20*time.Second, "back at the goroutines from before", func() bool { return runtime.NumGoroutine() <= before+5+8*3 })
			}
		})
	}
}

// TestRefusedStreamIsSentAgain: a request that the upstream has not looked at is sent again
// whatever its method, body and all.
func TestRefusedStreamIsSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(fr *http2.Framer, id uint32){
		"REFUSED_STREAM": func(fr *http2.Framer, id uint32) { _ = fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"GOAWAY":         func(fr *http2.Framer, id uint32) { _ = fr.WriteGoAway(id-2, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newRefuser(t, refuse)
			in := startInstance(t, strings.ReplaceAll(hostileConfig, "[\"@ORIGIN\"]", "[\""+o.address+"\"]\nconnect = { protocol = \"h2\" }"))
			in.get(t, "a.test", "/first") // a connection that has served: the second try is not about a new server
			w := in.dial(t)
			// The body comes a moment later than the head, which is on its way by then.
			for _, part := range []string{"POST /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhel", "lo"} {
				if _, err := io.WriteString(w, part); err != nil {
					t.Fatal(err)
				}
				time.Sleep(50 * time.Millisecond)
			}
			resp, err := w.r.ReadResponse("POST")
			if err != nil || resp.Status != 200 || string(resp.Body) != "hello" {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
}

// A refuser is an HTTP/2 server that refuses the first POST, and answers others with
// their body.
type refuser struct{ address string }

func newRefuser(t *testing.T, refuse func(fr *http2.Framer, id uint32)) *refuser {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var once sync.Once
	serve := func(nc net.Conn) {
		defer nc.Close()
		_, _ = io.ReadFull(nc, make([]byte, len(http2.ClientPreface)))
		fr := http2.NewFramer(nc, nc)
		_ = fr.WriteSettings()
		var body []byte
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				if f.StreamEnded() { // GET
					_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
				}
			case *http2.DataFrame:
				refused := false
				once.Do(func() {
					refuse(fr, f.StreamID)
					refused = true
				})
				body = append(body, f.Data()...)
				if refused {
					body = nil
				} else if f.StreamEnded() {
					_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true})
					_ = fr.WriteData(f.StreamID, true, body)
					body = nil
				}
			}
		}
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(nc) }) // ends when the proxy closes the connection
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return &refuser{l.Addr().String()}
}
