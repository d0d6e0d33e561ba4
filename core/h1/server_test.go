package h1_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// A talk is a raw client of an h1 server in a bubble.
type talk struct {
	t      *testing.T
	c      net.Conn
	br     *bufio.Reader
	s      *h1.Server
	served chan struct{} // closed when ServeConn has returned
}

func startTalk(t *testing.T, o h1.ServerOptions, h exchange.Handler) *talk {
	t.Helper()
	client, server := exchangetest.Pipe()
	k := &talk{t: t, c: client, br: bufio.NewReader(client), s: h1.NewServer(o, h), served: make(chan struct{})}
	go func() { // ends with the connection
		defer close(k.served)
		k.s.ServeConn(context.Background(), server, nil)
	}()
	t.Cleanup(func() {
		client.Close()
		<-k.served
	})
	return k
}

func (k *talk) send(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k.c, s); err != nil {
		k.t.Fatalf("send: %v", err)
	}
}

// An answered is what came back.
type answered struct {
	StatusCode int
	Close      bool // connection: close
}

// receive reads an answer with its body.
func (k *talk) receive() (answered, string) {
	k.t.Helper()
	_ = k.c.SetReadDeadline(time.Now().Add(time.Hour))
	res, err := http.ReadResponse(k.br, nil)
	if err != nil {
		k.t.Fatalf("receive: %v", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		k.t.Fatalf("receive body: %v", err)
	}
	return answered{res.StatusCode, res.Close}, string(b)
}

// closed waits for the server to close and returns how: io.EOF, or a reset.
func (k *talk) closed() error {
	k.t.Helper()
	_ = k.c.SetReadDeadline(time.Now().Add(time.Hour))
	b, err := k.br.ReadByte()
	if err == nil {
		k.t.Fatalf("got byte %q, want the end", b)
	}
	return err
}

// bubble runs f in a synctest bubble.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// handle serves requests: it reads all of each and answers with what f returns.
func handle(f func(q *exchange.Request, body string) (int, string)) exchange.Handler {
	return func(_ context.Context, c exchange.Client) {
		var r exchangetest.Recorder[*exchange.Request]
		err := c.Feed(&r)
		q, body, _, _ := r.Message()
		status, text := f(q, body)
		if e, ok := errors.AsType[*exchange.Error](err); ok {
			status, text = e.Status, e.Reason
		}
		if c.Head(&exchange.Response{Status: status, Length: int64(len(text))}, text == "") == nil && text != "" {
			_ = c.Data([]byte(text), true)
		}
	}
}

func ok(*exchange.Request, string) (int, string) { return 200, "ok" }

const getA = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"

func TestServerTimes(t *testing.T) {
	bubble(t, "idle from the start", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		start := time.Now()
		if err := k.closed(); !errors.Is(err, io.EOF) || time.Since(start) != h1.DefaultIdle {
			t.Errorf("got %v after %v, want EOF after %v", err, time.Since(start), h1.DefaultIdle)
		}
	})
	bubble(t, "idle after exchanges", func(t *testing.T) {
		// The timer is not moved while the connection is busy; it must be exact all the same.
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		for range 10 {
			time.Sleep(17 * time.Second)
			k.send(getA)
			k.receive()
		}
		start := time.Now()
		if err := k.closed(); !errors.Is(err, io.EOF) || time.Since(start) != h1.DefaultIdle {
			t.Errorf("got %v after %v, want EOF after %v", err, time.Since(start), h1.DefaultIdle)
		}
	})
	bubble(t, "slow head", func(t *testing.T) {
		var refused h1.Refusal
		k := startTalk(t, h1.ServerOptions{Refused: func(r *h1.Refusal) { refused = *r }}, handle(ok))
		time.Sleep(30 * time.Second) // an idle wait is not part of it
		start := time.Now()
		trickled := make(chan struct{})
		go func() { // ends when the server closes
			defer close(trickled)
			for {
				if _, err := io.WriteString(k.c, "G"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		defer func() { <-trickled }()
		res, _ := k.receive()
		if res.StatusCode != 408 || time.Since(start) != h1.DefaultHeaderTime {
			t.Errorf("got %d after %v, want 408 after %v", res.StatusCode, time.Since(start), h1.DefaultHeaderTime)
		}
		if err := k.closed(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
		k.c.Close()
		<-k.served // so that the hook has been called
		if refused.Reason != h1.ReasonHeadTimeout || refused.Status != 408 || !refused.Start.Equal(start) {
			t.Errorf("refusal: got %+v", refused)
		}
	})
	bubble(t, "slow body", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		k.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
		for range 5 { // slow, but never silent for too long
			time.Sleep(29 * time.Second)
			k.send("x")
		}
		start := time.Now()
		res, body := k.receive()
		if res.StatusCode != 408 || body != h1.ReasonReadTimeout || time.Since(start) != h1.DefaultReadTimeout || !res.Close {
			t.Errorf("got %d %s after %v", res.StatusCode, body, time.Since(start))
		}
	})
	bubble(t, "reader too slow", func(t *testing.T) {
		result := make(chan error, 1)
		var took time.Duration
		k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
			_ = c.Head(&exchange.Response{Status: 200, Length: 1 << 20}, false)
			start := time.Now()
			err := c.Data(make([]byte, 1<<20), true)
			took = time.Since(start)
			result <- err
		})
		k.send(getA)
		time.Sleep(10 * time.Second)
		_, _ = io.ReadFull(k.c, make([]byte, 1000)) // progress
		err := <-result
		var e *exchange.Error
		if !errors.As(err, &e) || e.Reason != h1.ReasonWriteTimeout || took < h1.DefaultWriteTimeout || took > 2*h1.DefaultWriteTimeout {
			t.Errorf("got %v after %v", err, took)
		}
		<-k.served
		if _, err := io.ReadAll(k.c); err == nil {
			t.Errorf("a cut answer ends without a reset")
		}
	})
	bubble(t, "tunnel", func(t *testing.T) {
		// One direction that talks keeps the other one open.
		done := make(chan error, 1)
		k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			done <- c.Feed(&exchangetest.Recorder[*exchange.Request]{OnHead: func(*exchange.Request, bool) error {
				go func() { // ends when it has talked enough
					_ = c.Head(&exchange.Response{Status: 101, Upgrade: "x"}, false)
					for range 10 {
						time.Sleep(4 * time.Minute)
						_ = c.Data([]byte("x"), false)
						_ = c.Data(nil, false)
					}
				}()
				return nil
			}})
		})
		start := time.Now()
		k.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		err := <-done
		var e *exchange.Error
		if want := 40*time.Minute + h1.DefaultTunnelIdle; !errors.As(err, &e) || e.Reason != h1.ReasonTunnelIdle || time.Since(start) != want {
			t.Errorf("got %v after %v, want a timeout after %v", err, time.Since(start), want)
		}
	})
}

func TestContinue(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
	bubble(t, "invited", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(func(q *exchange.Request, body string) (int, string) { return 200, body }))
		k.send(head)
		if res, _ := k.receive(); res.StatusCode != 100 {
			t.Fatalf("got %d, want 100", res.StatusCode)
		}
		k.send("hi")
		if res, body := k.receive(); res.StatusCode != 200 || body != "hi" || res.Close {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
	})
	bubble(t, "body came uninvited", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(func(q *exchange.Request, body string) (int, string) { return 200, body }))
		k.send(head + "hi")
		if res, body := k.receive(); res.StatusCode != 200 || body != "hi" {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
	})
	bubble(t, "answered instead", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(&exchangetest.Recorder[*exchange.Request]{OnHead: func(*exchange.Request, bool) error {
				if err := c.Head(&exchange.Response{Status: 401}, true); err != nil {
					t.Error(err)
				}
				return exchange.ErrAnswered
			}})
		})
		k.send(head)
		// Nobody can know whether the next bytes are the body or a request.
		if res, _ := k.receive(); res.StatusCode != 401 || !res.Close {
			t.Errorf("got %d, close %v; want 401 and close", res.StatusCode, res.Close)
		}
		k.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
		if err := k.closed(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
}

// TestDrainBody: the rest of a request that was answered early is read, up to a
// limit, and never taken for a request.
func TestDrainBody(t *testing.T) {
	early := func(_ context.Context, c exchange.Client) {
		_ = c.Feed(&exchangetest.Recorder[*exchange.Request]{OnHead: func(*exchange.Request, bool) error {
			_ = c.Head(&exchange.Response{Status: 413}, true)
			return exchange.ErrAnswered
		}})
	}
	bubble(t, "small", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, early)
		for range 3 {
			k.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n")
			k.send("0\r\nx: y\r\n\r\n")
			if res, _ := k.receive(); res.StatusCode != 413 || res.Close {
				t.Errorf("got %d, close %v", res.StatusCode, res.Close)
			}
		}
	})
	bubble(t, "large", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{DrainBytes: 1000}, early)
		k.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(getA, 2000))
		if res, _ := k.receive(); res.StatusCode != 413 {
			t.Errorf("got %d", res.StatusCode)
		}
		if err := k.closed(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
	bubble(t, "slow", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, early)
		k.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
		start := time.Now()
		k.receive()
		if err := k.closed(); !errors.Is(err, io.EOF) || time.Since(start) != h1.DefaultDrainTime {
			t.Errorf("got %v after %v, want EOF after %v", err, time.Since(start), h1.DefaultDrainTime)
		}
	})
}

func TestMaxBody(t *testing.T) {
	for _, tt := range []struct{ name, send string }{
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n"},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startTalk(t, h1.ServerOptions{MaxBody: 10}, handle(ok))
			k.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789")
			k.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n")
			for range 2 {
				if res, _ := k.receive(); res.StatusCode != 200 {
					t.Errorf("at the limit: got %d", res.StatusCode)
				}
			}
			k.send(tt.send)
			if res, _ := k.receive(); res.StatusCode != 413 || !res.Close {
				t.Errorf("beyond the limit: got %d, close %v", res.StatusCode, res.Close)
			}
		})
	}
}

func TestDrainServer(t *testing.T) {
	bubble(t, "idle", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		k.send(getA)
		k.receive()
		synctest.Wait()
		k.s.Drain()
		synctest.Wait()
		select {
		case <-k.served:
		default:
			t.Errorf("an idle connection was not closed at once")
		}
	})
	bubble(t, "busy", func(t *testing.T) {
		release := make(chan struct{})
		k := startTalk(t, h1.ServerOptions{}, handle(func(*exchange.Request, string) (int, string) { <-release; return 200, "ok" }))
		k.send(getA + getA)
		synctest.Wait()
		k.s.Drain()
		close(release)
		if res, body := k.receive(); res.StatusCode != 200 || body != "ok" || !res.Close {
			t.Errorf("got %d %q, close %v", res.StatusCode, body, res.Close)
		}
		if err := k.closed(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
	bubble(t, "late", func(t *testing.T) {
		client, server := exchangetest.Pipe()
		defer client.Close()
		s := h1.NewServer(h1.ServerOptions{}, handle(ok))
		s.Drain()
		go s.ServeConn(context.Background(), server, nil) // ends after one exchange
		_, _ = io.WriteString(client, getA)
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 || !res.Close {
			t.Errorf("got %d, close %v", res.StatusCode, res.Close)
		}
	})
}

// TestLeaveServer: who rests is served once more and told to leave; whoever has begun is, too.
func TestLeaveServer(t *testing.T) {
	leaves := func(t *testing.T, k *talk) {
		t.Helper()
		if res, body := k.receive(); res.StatusCode != 200 || body != "ok" || !res.Close {
			t.Errorf("got %d %q, close %v", res.StatusCode, body, res.Close)
		}
		if err := k.closed(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	}
	bubble(t, "idle", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{Idle: time.Minute}, handle(ok))
		k.send(getA)
		k.receive()
		synctest.Wait()
		k.s.Leave()
		time.Sleep(59 * time.Second)
		k.send(getA)
		leaves(t, k)
	})
	bubble(t, "new", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		k.s.Leave()
		k.send(getA)
		leaves(t, k)
	})
	bubble(t, "idle for too long", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{Idle: time.Minute}, handle(ok))
		k.send(getA)
		k.receive()
		k.s.Leave()
		start := time.Now()
		if err := k.closed(); !errors.Is(err, io.EOF) || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v, want EOF after a minute", err, time.Since(start))
		}
	})
	bubble(t, "until Drain", func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, handle(ok))
		k.send(getA)
		k.receive()
		k.s.Leave()
		synctest.Wait()
		k.s.Drain()
		synctest.Wait()
		select {
		case <-k.served:
		default:
			t.Error("an idle connection was not closed at once")
		}
	})
	bubble(t, "after an answer that said nothing of it", func(t *testing.T) {
		release := make(chan struct{})
		k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(&exchangetest.Recorder[*exchange.Request]{})
			_ = c.Head(&exchange.Response{Status: 200, Length: 2}, false)
			_ = c.Data(nil, false) // written
			<-release
			_ = c.Data([]byte("ok"), true)
		})
		k.send(getA)
		synctest.Wait()
		k.s.Leave()
		close(release)
		if res, _ := k.receive(); res.Close {
			t.Error("it says so after all")
		}
		k.send(getA)
		leaves(t, k)
	})
}
