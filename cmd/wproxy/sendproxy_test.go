package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// An announced is a connection of an origin that may begin with a PROXY header, which is
// read with its first bytes.
type announced struct {
	net.Conn
	r      *bufio.Reader
	once   sync.Once
	header *proxyproto.Header // nil: there was none
	err    error
}

func (a *announced) Read(p []byte) (int, error) {
	a.once.Do(func() {
		a.header, a.err = proxyproto.Read(a.r)
		if errors.Is(a.err, proxyproto.ErrNoProxyProtocol) {
			a.err = nil
		}
	})
	if a.err != nil {
		return 0, a.err
	}
	return a.r.Read(p)
}

type announcedListener struct{ net.Listener }

func (l announcedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &announced{Conn: nc, r: bufio.NewReader(nc)}, nil
}

// An accountant is an origin that holds each request against what its connection has said.
type accountant struct {
	mu    sync.Mutex
	wrong []string

	mirrored, upgraded, retried atomic.Int64
}

type announcedKey struct{}

func (o *accountant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, _ := r.Context().Value(announcedKey{}).(*announced)
	copied := r.Header.Get("x-wproxy-mirror") != ""
	client, _, _ := strings.Cut(r.Header.Get("x-forwarded-for"), ",")
	version, said := 0, "nobody"
	if h := a.header; h != nil {
		version = int(h.Version)
		if from, _, ok := h.TCPAddrs(); ok && h.Command == proxyproto.PROXY {
			said = from.IP.String()
		}
	}
	want := client
	if copied || r.Header.Get("x-version") == "0" {
		want = "nobody" // a copy is wproxy's own
	}
	if fmt.Sprint(version) != r.Header.Get("x-version") || said != want {
		o.mu.Lock()
		o.wrong = append(o.wrong, fmt.Sprintf("%s %s (a copy: %v) of %s, in version %s, on a connection of %s, in version %d",
			r.Proto, r.URL.Path, copied, client, r.Header.Get("x-version"), said, version))
		o.mu.Unlock()
	}
	switch {
	case copied:
		o.mirrored.Add(1)
	case r.Header.Get("upgrade") != "":
		o.upgraded.Add(1)
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
			_ = c.Close()
		}
	case rand.IntN(5) == 0:
		o.retried.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	case rand.IntN(5) == 0 && r.ProtoMajor == 1:
		o.retried.Add(1)
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
}

func (o *accountant) start(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: o, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, announcedKey{}, c)
		},
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(announcedListener{l}) }) // ends with s
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

const sendProxyConfig = `version = 1
[listeners.http]
address = "@ADDR"
trust_proxy = ["127.0.0.1"]
[routes.h1]
path = "/h1"
upstream = "h1"
retry = { attempts = 3, on = ["connect", "reset", "503"], backoff = "1ms..1ms", budget = "100%" }
[routes.h2]
path = "/h2"
upstream = "h2"
retry = { attempts = 3, on = ["connect", "reset", "503"], backoff = "1ms..1ms", budget = "100%" }
[routes.mirror]
path = "/mirror"
upstream = "h1"
mirror = "h2"
[upstreams.h1]
servers = ["@ORIGIN"]
pool = { per_server = 6, queue = 1000, queue_time = "10s" }
@SEND
[upstreams.h2]
servers = ["@ORIGIN"]
connect = { protocol = "h2" }
@SEND
[admin]
address = "@ADMIN"
[log.access]
to = "@ACCESS"
`

// TestSendProxyIsTied: whatever becomes of requests (retries, upgrades, copies, too few
// connections, a reload that changes what connections begin with), none is sent on a
// connection that was announced for another client.
func TestSendProxyIsTied(t *testing.T) {
	var o accountant
	origin := o.start(t)
	config := func(send string) string {
		return strings.NewReplacer("@ORIGIN", origin, "@SEND", send).Replace(sendProxyConfig)
	}
	sends := []string{`send_proxy = "v1"`, `send_proxy = "v2"`, "", `send_proxy = "v1"`}
	in := startInstance(t, config(sends[0]))
	for phase, send := range sends {
		if phase > 0 {
			in.write(t, config(send))
			in.reload(t)
		}
		version := map[string]string{`send_proxy = "v1"`: "1", `send_proxy = "v2"`: "2", "": "0"}[send]
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { in.beManyClients(t, version, 25) })
		}
		wg.Wait()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, w := range o.wrong {
		if i < 10 {
			t.Error(w)
		}
	}
	if m, u, r := o.mirrored.Load(), o.upgraded.Load(), o.retried.Load(); m == 0 || u == 0 || r == 0 {
		t.Errorf("%d copies, %d upgrades, %d failures: there has to be some of each", m, u, r)
	}
}

// beManyClients sends requests of one client after the other, on one connection: whom they
// are of is what the proxy in front says.
func (in *instance) beManyClients(t *testing.T, version string, requests int) {
	w := in.connect(t)
	defer func() { _ = w.Close() }()
	for i := range requests {
		path := []string{"/h1", "/h2", "/mirror"}[rand.IntN(3)]
		more := ""
		upgrade := path == "/h1" && rand.IntN(4) == 0
		if upgrade {
			more = "Connection: upgrade\r\nUpgrade: x\r\n"
		}
		_, err := fmt.Fprintf(w, "GET %s HTTP/1.1\r\nHost: a.test\r\nX-Version: %s\r\nX-Forwarded-For: 198.51.100.%d\r\n%s\r\n", path, version, rand.IntN(4)+1, more)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := w.r.ReadResponse("GET")
		if err != nil {
			t.Errorf("request %d, %s: %v", i, path, err)
			return
		}
		switch resp.Status {
		case 101:
			_ = w.Close()
			w = in.connect(t)
		case 200, 502, 503:
		default:
			t.Errorf("%s: %d", path, resp.Status)
		}
		if resp.Close {
			_ = w.Close()
			w = in.connect(t)
		}
	}
}
