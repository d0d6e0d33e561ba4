package health_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/health"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// dialTo returns a dialer whose connections end in answer, over memory, with the codec
// of HTTP/1.1.
func dialTo(answer func(c net.Conn, r *http.Request)) pool.DialFunc {
	return func(context.Context, *upstream.Endpoint) (pool.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			r, err := http.ReadRequest(bufio.NewReader(theirs))
			if err == nil {
				answer(theirs, r)
			}
		}()
		return h1.NewClientConn(ours, &h1.ClientOptions{}), nil
	}
}

func httpCheck() *health.Check {
	return &health.Check{
		Method: "GET", Path: "/healthz?deep=1", Every: time.Second, Timeout: time.Second,
		Expect: []health.StatusRange{{First: 200, Last: 299}, {First: 401, Last: 401}}, Thresholds: health.Thresholds{Up: 1, Down: 1},
	}
}

func testEndpoint(t *testing.T) *upstream.Endpoint {
	t.Helper()
	e, err := upstream.NewEndpoint("app.internal:8080", 1)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestHTTPCheck(t *testing.T) {
	t.Parallel()
	say := func(text string) func(net.Conn, *http.Request) {
		return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")) }
	}
	tests := []struct {
		name   string
		answer func(net.Conn, *http.Request)
		edit   func(*health.Check)
		want   string // reason; "": good
	}{
		{"200", say("HTTP/1.1 200 OK\ncontent-length: 2\n\nok"), nil, ""},
		{"no body", say("HTTP/1.1 204 No Content\n\n"), nil, ""},
		{"an expected status", say("HTTP/1.1 401 Unauthorized\ncontent-length: 0\n\n"), nil, ""},
		{"503", say("HTTP/1.1 503 Service Unavailable\ncontent-length: 0\n\n"), nil, "status 503"},
		{"a redirect is no success", say("HTTP/1.1 302 Found\nlocation: /login\ncontent-length: 0\n\n"), nil, "status 302"},
		{"a redirect that is expected", say("HTTP/1.1 302 Found\nlocation: /login\ncontent-length: 0\n\n"), func(c *health.Check) {
			c.Expect = []health.StatusRange{{First: 302, Last: 302}}
		}, ""},
		{"100 before it", say("HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK\ncontent-length: 0\n\n"), nil, ""},
		{"no HTTP", say("220 mail.example.com ESMTP\n"), nil, "bad_status_line"},
		{"closes", func(net.Conn, *http.Request) {}, nil, "closed"},
		{"half a body", say("HTTP/1.1 200 OK\ncontent-length: 9\n\nok"), nil, "truncated"},
		{"silent", func(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) }, nil, "timeout"},
		{"drips", func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
			for range 100 {
				time.Sleep(100 * time.Millisecond) // of the test's clock
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
		}, nil, "timeout"},
		{"the body has it", say("HTTP/1.1 200 OK\ncontent-length: 11\n\nstate: good"), func(c *health.Check) { c.Contains = "good" }, ""},
		{"the body has not", say("HTTP/1.1 200 OK\ncontent-length: 10\n\nstate: bad"), func(c *health.Check) { c.Contains = "good" }, "unexpected body"},
		{"the body matches", say("HTTP/1.1 200 OK\ncontent-length: 7\n\nload 12"), func(c *health.Check) { c.Match = regexp.MustCompile(`load \d\d$`) }, ""},
		{"the body does not", say("HTTP/1.1 200 OK\ncontent-length: 8\n\nload 123"), func(c *health.Check) { c.Match = regexp.MustCompile(`load \d\d$`) }, "unexpected body"},
		{"a long body", say("HTTP/1.1 200 OK\n\ngood" + strings.Repeat("x", 1<<20)), func(c *health.Check) { c.Contains = "good" }, ""},
		{"a long body that is not looked at", say("HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 1<<20)), nil, ""},
		{"an endless body that is not looked at", func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			piece := strings.Repeat("x", 16<<10)
			for range 10_000 {
				time.Sleep(time.Millisecond) // of the test's clock
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}, nil, ""},
		{"HEAD", say("HTTP/1.1 200 OK\ncontent-length: 5000\n\n"), func(c *health.Check) { c.Method = "HEAD" }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := httpCheck()
				if tt.edit != nil {
					tt.edit(c)
				}
				start := time.Now()
				r := c.Run(t.Context(), dialTo(tt.answer), testEndpoint(t))
				if r.OK != (tt.want == "") || r.Reason != tt.want {
					t.Errorf("got %+v, want reason %q", r, tt.want)
				}
				if took := time.Since(start); took > c.Timeout {
					t.Errorf("took %v", took)
				}
				time.Sleep(time.Second) // of the test's clock: the server notices that nobody reads
			})
		})
	}
}

func TestHTTPCheckRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got string
		answer := func(c net.Conn, r *http.Request) {
			got = fmt.Sprintln(r.Method, r.RequestURI, r.Host, r.Header.Get("User-Agent"), r.Header["X-Key"], r.ContentLength)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
		}
		c := httpCheck()
		c.Fields = []exchange.Field{{Name: "x-key", Value: "v"}}
		if r := c.Run(t.Context(), dialTo(answer), testEndpoint(t)); !r.OK {
			t.Fatal(r.Reason)
		}
		if want := "GET /healthz?deep=1 app.internal:8080 wproxy-health [v] 0\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c.Host, c.Method = "www.example.com", "HEAD"
		if r := c.Run(t.Context(), dialTo(answer), testEndpoint(t)); !r.OK {
			t.Fatal(r.Reason)
		}
		if want := "HEAD /healthz?deep=1 www.example.com wproxy-health [v] 0\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// grpcServer is an upstream's stream that answers as the test says: no codec of ours
// speaks HTTP/2 to upstreams yet.
type grpcServer struct {
	exchange.Upstream
	status  int
	message string // hex, with its frame
	trailer []exchange.Field
	inHead  bool // trailers-only

	head *exchange.Request
	body []byte
}

func (s *grpcServer) Reserve() bool                                   { return true }
func (s *grpcServer) Open(context.Context) (exchange.Upstream, error) { return s, nil }
func (s *grpcServer) Reused() bool                                    { return false }
func (s *grpcServer) Idle() bool                                      { return true }
func (s *grpcServer) Close() error                                    { return nil }
func (s *grpcServer) Reset(exchange.Code)                             {}
func (s *grpcServer) Head(h *exchange.Request, _ bool) error          { s.head = h; return nil }
func (s *grpcServer) Data(p []byte, _ bool) error                     { s.body = append(s.body, p...); return nil }

func (s *grpcServer) Feed(dst exchange.Sink[*exchange.Response]) error {
	h := &exchange.Response{Status: s.status}
	var trailer exchange.Fields
	for _, f := range s.trailer {
		if s.inHead {
			h.Fields.Add(f.Name, f.Value)
		} else {
			trailer.Add(f.Name, f.Value)
		}
	}
	if s.inHead {
		return dst.Head(h, true)
	}
	b, err := hex.DecodeString(s.message)
	if err != nil {
		return err
	}
	if err := dst.Head(h, false); err != nil {
		return err
	}
	for i := range b { // byte by byte
		if err := dst.Data(b[i:i+1], false); err != nil {
			return err
		}
	}
	return dst.Trailer(&trailer)
}

func TestGRPCCheck(t *testing.T) {
	t.Parallel()
	ok := []exchange.Field{{Name: "grpc-status", Value: "0"}}
	tests := []struct {
		name string
		s    grpcServer
		want string
	}{
		{"serving", grpcServer{status: 200, message: "00000000020801", trailer: ok}, ""},
		{"with an unknown field", grpcServer{status: 200, message: "0000000009" + "1a03616263" + "0801" + "1005", trailer: ok}, ""},
		{"not serving", grpcServer{status: 200, message: "00000000020802", trailer: ok}, "NOT_SERVING"},
		{"empty is unknown", grpcServer{status: 200, message: "0000000000", trailer: ok}, "UNKNOWN"},
		{"no message", grpcServer{status: 200, trailer: ok}, "bad grpc message"},
		{"cut", grpcServer{status: 200, message: "000000000208", trailer: ok}, "bad grpc message"},
		{"compressed", grpcServer{status: 200, message: "01000000020801", trailer: ok}, "bad grpc message"},
		{"unimplemented", grpcServer{status: 200, trailer: []exchange.Field{{Name: "grpc-status", Value: "12"}}, inHead: true}, "no grpc health service"},
		{"not found", grpcServer{status: 200, trailer: []exchange.Field{{Name: "grpc-status", Value: "5"}}, inHead: true}, "grpc-status 5"},
		{"no trailer", grpcServer{status: 200, message: "00000000020801"}, "grpc-status "},
		{"404", grpcServer{status: 404}, "status 404"},
	}
	for _, tt := range tests {
		c := &health.Check{Protocol: health.GRPC, Service: "shop", Timeout: 1500 * time.Millisecond}
		s := tt.s
		r := c.Run(t.Context(), func(context.Context, *upstream.Endpoint) (pool.Conn, error) { return &s, nil }, testEndpoint(t))
		if r.OK != (tt.want == "") || r.Reason != tt.want {
			t.Errorf("%s: got %+v, want reason %q", tt.name, r, tt.want)
		}
		if s.head.Method != "POST" || s.head.Target != "/grpc.health.v1.Health/Check" || s.head.Authority != "app.internal:8080" ||
			s.head.Fields.Value("content-type") != "application/grpc" || s.head.Fields.Value("te") != "trailers" ||
			s.head.Fields.Value("grpc-timeout") != "1500m" {
			t.Errorf("%s: head %+v", tt.name, s.head)
		}
		if got := hex.EncodeToString(s.body); got != "0000000006"+"0a0473686f70" {
			t.Errorf("%s: request %s", tt.name, got)
		}
	}
}
