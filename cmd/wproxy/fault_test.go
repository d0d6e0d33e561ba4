package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// bigBody is the size in bytes of the bodies that must stream through with
// flat memory.
const bigBody = 64 << 20

// maxGrowth is how many bytes the heap of client, proxy and origin together
// may grow while a big body passes: far less than the body.
const maxGrowth = 16 << 20

// A blockReader yields n bytes.
type blockReader struct{ n int64 }

// Read implements io.Reader.
func (r *blockReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	k := min(int64(len(p)), r.n)
	r.n -= k
	return int(k), nil
}

// A goOrigin is an origin on net/http, for what is big, slow or many.
type goOrigin struct {
	*httptest.Server
	active   atomic.Int64 // handlers at work
	written  atomic.Int64 // bytes of the answer to /down under way
	expected sync.Map     // see expect
}

// expect returns a field for a request, and a channel that is closed when a request
// with it has reached its handler.
func (o *goOrigin) expect(id string) (field string, arrived <-chan struct{}) {
	c := make(chan struct{})
	o.expected.Store(id, c)
	return "X-Expected: " + id + "\r\n", c
}

// awaited closes the channel of expect.
func (o *goOrigin) awaited(r *http.Request) {
	if c, ok := o.expected.LoadAndDelete(r.Header.Get("X-Expected")); ok {
		close(c.(chan struct{})) //nolint:forcetypeassert // expect's
	}
}

// wait waits for what cannot take long.
func wait(t *testing.T, what string, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(wireTimeout):
		t.Errorf("after %v: still not %s", wireTimeout, what)
	}
}

func newGoOrigin(t *testing.T) *goOrigin {
	t.Helper()
	o := &goOrigin{}
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/up", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			_, _ = fmt.Fprint(w, n)
		}
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		}
		o.written.Store(0)
		buf := make([]byte, 32<<10)
		for n > 0 {
			k, err := w.Write(buf[:min(n, int64(len(buf)))])
			o.written.Add(int64(k))
			if n -= int64(k); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.active.Add(1)
		defer o.active.Add(-1)
		o.awaited(r)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// start runs an instance in front of the origin. more is appended to the route.
func (o *goOrigin) start(t *testing.T, more string) *instance {
	t.Helper()
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", o.Listener.Addr().String())
	return startInstance(t, strings.Replace(toml, "[routes.denied]", more+"\n[routes.denied]", 1))
}

// heapGrowth runs f and returns by how many bytes the heap in use was larger,
// at most, than before.
func heapGrowth(f func()) int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := int64(m.HeapInuse), int64(0)
	done, sampled := make(chan struct{}), make(chan struct{})
	go func() { // ends when f has returned
		defer close(sampled)
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, int64(m.HeapInuse)-before)
			}
		}
	}()
	f()
	close(done)
	<-sampled
	return most
}

func TestBigBodies(t *testing.T) {
	origin := newGoOrigin(t)
	in := origin.start(t, "")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for _, length := range []bool{true, false} {
		name := "chunked"
		if length {
			name = "length"
		}
		t.Run("up/"+name, func(t *testing.T) {
			growth := heapGrowth(func() {
				req, err := http.NewRequest("POST", "http://"+in.addr+"/up", &blockReader{bigBody})
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "a.test"
				if req.ContentLength = -1; length {
					req.ContentLength = bigBody
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); string(body) != strconv.Itoa(bigBody) {
					t.Errorf("the origin has received %s bytes (%v), want %d", body, err, bigBody)
				}
			})
			if growth > maxGrowth {
				t.Errorf("the heap grew by %d MiB", growth>>20)
			}
		})
		t.Run("down/"+name, func(t *testing.T) {
			target := fmt.Sprintf("http://%s/down?n=%d", in.addr, bigBody)
			if length {
				target += "&length"
			}
			growth := heapGrowth(func() {
				req, err := http.NewRequest("GET", target, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "a.test"
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if n, err := io.Copy(io.Discard, resp.Body); n != bigBody || err != nil {
					t.Errorf("got %d bytes, %v; want %d", n, err, bigBody)
				}
			})
			if growth > maxGrowth {
				t.Errorf("the heap grew by %d MiB", growth>>20)
			}
		})
	}
}

// TestSlowReader: who does not read stops its own upstream and nobody else.
func TestSlowReader(t *testing.T) {
	origin := newGoOrigin(t)
	in := origin.start(t, "")
	w := in.dial(t)
	if err := w.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(w, "GET /down?n=%d&length HTTP/1.1\r\nHost: a.test\r\n\r\n", bigBody); err != nil {
		t.Fatal(err)
	}
	// Stopped: nothing more is written for a while.
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
}

// aborts is how many clients go away in the middle.
const aborts = 200

// TestClientsGoAway: neither goroutines nor connections stay behind clients
// that leave in a download, an upload, or while the origin thinks. That no
// goroutine stays is checked by startInstance.
func TestClientsGoAway(t *testing.T) {
	origin := newGoOrigin(t)
	in := origin.start(t, "")
	in.get(t, "a.test", "/ok")
	before := runtime.NumGoroutine()
	for name, request := range map[string]struct{ line, rest string }{ // the field of expect is in between
		"download": {"GET /down?n=1000000000 HTTP/1.1\r\n", "Host: a.test\r\n\r\n"},
		"upload":   {"POST /up HTTP/1.1\r\n", "Host: a.test\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 10_000)},
		"chunked":  {"POST /up HTTP/1.1\r\n", "Host: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n" + strings.Repeat("x", 10_000) + "\r\n"},
		"waiting":  {"GET /hang HTTP/1.1\r\n", "Host: a.test\r\n\r\n"},
		"head":     {"GET /ok HTTP/1.1\r\n", "Ho"},
		"idle":     {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			slots := make(chan struct{}, 20)
			for i := range aborts {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					c, err := net.Dial("tcp", in.addr)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					field, arrived := "", (<-chan struct{})(nil)
					if strings.HasSuffix(request.line, "\n") {
						field, arrived = origin.expect(fmt.Sprint(name, i))
					}
					_, _ = io.WriteString(c, request.line+field+request.rest)
					switch {
					case name == "download":
						_, _ = io.ReadFull(c, make([]byte, 20_000))
					case i%2 == 0 && name != "head" && name != "idle": // the others go on their way there
						wait(t, "at the origin", arrived)
					}
					if i%4 < 2 {
						_ = c.(*net.TCPConn).SetLinger(0) // a reset instead of a FIN
					}
				})
			}
			wg.Wait()
			strict.Eventually(t, "without requests to the origin", func() bool { return origin.active.Load() == 0 })
			strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
		})
	}
	if got := in.get(t, "a.test", "/ok"); string(got.Body) != "ok" {
		t.Errorf("a healthy request got %d %q", got.Status, got.Body)
	}
	origin.CloseClientConnections() // what is pooled, with its goroutines at the origin
	strict.Eventually(t, "back at the goroutines from before", func() bool { return runtime.NumGoroutine() <= before })
}

// TestPipelining: many requests in one write are answered in order.
func TestPipelining(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	var b strings.Builder
	var want []string
	for i := range 50 {
		if i%3 == 0 {
			fmt.Fprintf(&b, "POST /%d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", i)
			want = append(want, fmt.Sprintf("POST /%d abc", i))
			continue
		}
		fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n", i)
		want = append(want, fmt.Sprintf("GET /%d", i))
	}
	for _, halfClose := range []bool{false, true} {
		w := in.dial(t)
		go w.send(b.String(), halfClose, false) // ends when all is sent: the answers are read here
		var got []string
		for range want {
			resp, err := w.r.ReadResponse("GET")
			if err != nil {
				t.Fatalf("half-close %v: after %d answers: %v", halfClose, len(got), err)
			}
			got = append(got, string(resp.Body))
		}
		if !slices.Equal(got, want) {
			t.Errorf("half-close %v: got %q", halfClose, got)
		}
		if halfClose {
			w.wantClosed(t, "after the last answer")
		}
		_ = w.Close()
	}
	if _, partial, violations := origin.Take(); len(partial)+len(violations) > 0 {
		t.Errorf("the origin has seen %v, %q", partial, violations)
	}
}

// TestUpstreamFaults: what an upstream does wrong before it answers has a
// status of its own, within the route's time.
func TestUpstreamFaults(t *testing.T) {
	// faulty starts a server that does f with each connection.
	faulty := func(f func(c *net.TCPConn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		t.Cleanup(wg.Wait)
		t.Cleanup(func() { _ = l.Close() })
		wg.Go(func() { // ends when the listener is closed
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { // f ends when the proxy closes the connection
					defer c.Close()
					f(c.(*net.TCPConn))
				})
			}
		})
		return l.Addr().String()
	}
	oneRead := func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)) }
	for _, f := range []struct{ name, address, want string }{
		{"down", freeAddress(t), "502|503"},
		{"closes at once", faulty(func(*net.TCPConn) {}), "502"},
		{"closes after the request", faulty(oneRead), "502"},
		{"resets at once", faulty(func(c *net.TCPConn) { _ = c.SetLinger(0) }), "502"},
		{"resets after the request", faulty(func(c *net.TCPConn) { oneRead(c); _ = c.SetLinger(0) }), "502"},
		{"says nothing", faulty(func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }), "504"},
		{"stops in the head", faulty(func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A")
			_, _ = io.Copy(io.Discard, c)
		}), "504"},
		{"drips", faulty(func(c *net.TCPConn) {
			for _, b := range []byte("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}), "504"},
	} {
		t.Run(f.name, func(t *testing.T) {
			toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", f.address)
			timeout := "1m" // which is not to be waited for
			if f.want == "504" {
				timeout = "700ms"
			}
			in := startInstance(t, strings.Replace(toml, "[routes.denied]", "timeout = \""+timeout+"\"\n[routes.denied]", 1))
			for _, method := range []string{"GET", "POST"} {
				begin := time.Now()
				w := in.dial(t)
				if _, err := fmt.Fprintf(w, "%s / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", method); err != nil {
					t.Fatal(err)
				}
				resp, err := w.r.ReadResponse(method)
				if err != nil || !slices.Contains(strings.Split(f.want, "|"), strconv.Itoa(resp.Status)) {
					t.Errorf("%s: got %d, %v; want %s", method, resp.Status, err, f.want)
				}
				if took := time.Since(begin); took > prompt {
					t.Errorf("%s: it took %v", method, took)
				}
				_ = w.Close()
			}
			strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
		})
	}
}
