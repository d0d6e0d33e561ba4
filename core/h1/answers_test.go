package h1_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestAnswers: what an answer looks like on the wire.
func TestAnswers(t *testing.T) {
	fields := func(list ...string) (f exchange.Fields) {
		for i := 0; i < len(list); i += 2 {
			f.Add(list[i], list[i+1])
		}
		return f
	}
	var sum exchange.Fields
	sum.Add("x-sum", "1")
	sum.Add("content-length", "9")                         // forbidden in a trailer
	const date = "date: Sat, 01 Jan 2000 00:00:00 GMT\r\n" // where bubbles start
	unknown := int64(exchange.LengthUnknown)
	type message = exchangetest.Message[*exchange.Response]
	for _, tt := range []struct {
		name, request string
		answer        message
		want          string
	}{
		{
			"length", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: 2}, Data: []string{"hi"}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 2\r\n\r\nhi",
		},
		{
			"date is kept", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Fields: fields("date", "x")}},
			"HTTP/1.1 200 OK\r\ndate: x\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"framing is the codec's business", "GET / HTTP/1.1",
			message{
				Head: &exchange.Response{Status: 200, Length: 1, Fields: fields("content-length", "7", "transfer-encoding", "x",
					"connection", "close", "keep-alive", "x", "upgrade", "h2c", "x-a", "b")}, Data: []string{"x"},
			},
			"HTTP/1.1 200 OK\r\nx-a: b\r\n" + date + "content-length: 1\r\n\r\nx",
		},
		{
			"unknown length", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: unknown}, Data: []string{"hi", strings.Repeat("x", 5000), "ho"}},
			"HTTP/1.1 200 OK\r\n" + date + "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1388\r\n" + strings.Repeat("x", 5000) + "\r\n2\r\nho\r\n0\r\n\r\n",
		},
		{
			"trailer", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: unknown}, Data: []string{"hi"}, Trailer: &sum},
			"HTTP/1.1 200 OK\r\n" + date + "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		{
			"trailer without place", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: 2}, Data: []string{"hi"}, Trailer: &sum},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 2\r\n\r\nhi",
		},
		{
			"unknown length to HTTP/1.0", "GET / HTTP/1.0",
			message{Head: &exchange.Response{Status: 200, Length: unknown}, Data: []string{"hi"}, Trailer: &sum},
			"HTTP/1.1 200 OK\r\n" + date + "connection: close\r\n\r\nhi",
		},
		{
			"HTTP/1.0", "GET / HTTP/1.0",
			message{Head: &exchange.Response{Status: 200, Length: 2}, Data: []string{"hi"}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 2\r\nconnection: close\r\n\r\nhi",
		},
		{
			"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive",
			message{Head: &exchange.Response{Status: 200, Length: 2}, Data: []string{"hi"}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 2\r\nconnection: keep-alive\r\n\r\nhi",
		},
		{"no 1xx to HTTP/1.0", "GET / HTTP/1.0", message{
			Interim: []*exchange.Response{{Status: 103}}, Head: &exchange.Response{Status: 204},
		}, "HTTP/1.1 204 No Content\r\n" + date + "connection: close\r\n\r\n"},
		{"1xx", "GET / HTTP/1.1", message{
			Interim: []*exchange.Response{{Status: 103, Fields: fields("link", "x")}}, Head: &exchange.Response{Status: 204},
		}, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		{
			"HEAD", "HEAD / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: 7}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 7\r\n\r\n",
		},
		{
			"HEAD with data", "HEAD / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: 7}, Data: []string{"1234567"}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 7\r\n\r\n",
		},
		{
			"HEAD of unknown length", "HEAD / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: unknown}},
			"HTTP/1.1 200 OK\r\n" + date + "\r\n",
		},
		{
			"304", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 304, Length: 7}},
			"HTTP/1.1 304 Not Modified\r\n" + date + "content-length: 7\r\n\r\n",
		},
		{
			"204", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 204, Length: 7}},
			"HTTP/1.1 204 No Content\r\n" + date + "\r\n",
		},
		{
			"unknown status", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 599}},
			"HTTP/1.1 599 \r\n" + date + "content-length: 0\r\n\r\n",
		},
		{
			"close", "GET / HTTP/1.1\r\nConnection: close",
			message{Head: &exchange.Response{Status: 200}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 0\r\nconnection: close\r\n\r\n",
		},
		{
			"nothing, of unknown length", "GET / HTTP/1.1",
			message{Head: &exchange.Response{Status: 200, Length: unknown}},
			"HTTP/1.1 200 OK\r\n" + date + "content-length: 0\r\n\r\n",
		},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
				if err := tt.answer.Push(c); err != nil {
					t.Error(err)
				}
			})
			k.send(tt.request + "\r\nHost: a\r\n\r\n")
			synctest.Wait()
			_ = k.c.(interface{ CloseWrite() error }).CloseWrite()
			b, err := io.ReadAll(k.c)
			if got := string(b); got != tt.want || err != nil {
				t.Errorf("got %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

// TestUpgradeAnswers: whatever becomes of the answer to a request that asks for
// an upgrade, its feeder goes on.
func TestUpgradeAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(c exchange.Client) error
		want   string // first line that the client sees; "": none
		fed    bool   // Feed succeeds
	}{
		{"refused without a body", func(c exchange.Client) error {
			return c.Head(&exchange.Response{Status: 403}, true)
		}, "HTTP/1.1 403 Forbidden", true},
		{"refused with a body", func(c exchange.Client) error { return answer200(c) }, "HTTP/1.1 200 OK", true},
		{"an answer that cannot be written", func(c exchange.Client) error {
			r := &exchange.Response{Status: 101, Upgrade: "x"}
			r.Fields.Add("x-a", "a\nb")
			if err := c.Head(r, false); err == nil {
				return errors.New("a line break was written")
			}
			return nil
		}, "", true},
		{"reset", func(c exchange.Client) error { c.Reset(exchange.CodeInternal); return nil }, "", false},
		{"an answer after a reset", func(c exchange.Client) error {
			c.Reset(exchange.CodeInternal)
			if err := c.Head(&exchange.Response{Status: 101, Upgrade: "x"}, false); err == nil {
				return errors.New("written after Reset")
			}
			return nil
		}, "", false},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				answered := make(chan error, 1)
				rec := exchangetest.Recorder[*exchange.Request]{OnHead: func(*exchange.Request, bool) error {
					go func() { // ends with the answer
						time.Sleep(time.Second)
						answered <- tt.answer(c)
					}()
					return nil
				}}
				if err := c.Feed(&rec); (err == nil) != tt.fed {
					t.Errorf("Feed: %v", err)
				}
				if err := <-answered; err != nil {
					t.Error(err)
				}
			})
			k.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			line, _ := k.br.ReadString('\n')
			if got := strings.TrimRight(line, "\r\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestRetract: an answer can be taken back as long as it waits in the buffer.
func TestRetract(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(c exchange.Client) error
		want  bool
	}{
		{"nothing begun", func(exchange.Client) error { return nil }, false},
		{"head", func(c exchange.Client) error {
			return c.Head(&exchange.Response{Status: 200, Length: 10}, false)
		}, true},
		{"head and some bytes", func(c exchange.Client) error {
			return errors.Join(c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false), c.Data([]byte("x"), false))
		}, true},
		{"a head that closes behind one of 1xx", func(c exchange.Client) error {
			return errors.Join(c.Head(&exchange.Response{Status: 103}, false), c.Head(&exchange.Response{Status: 200, Length: 10}, false))
		}, true},
		{"more than is held", func(c exchange.Client) error {
			return errors.Join(c.Head(&exchange.Response{Status: 200, Length: 1 << 20}, false), c.Data(make([]byte, 32<<10), false))
		}, false},
		{"flushed", func(c exchange.Client) error {
			return errors.Join(c.Head(&exchange.Response{Status: 200, Length: 10}, false), c.Data(nil, false))
		}, false},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				if err := errors.Join(c.Feed(new(exchangetest.Recorder[*exchange.Request])), tt.begin(c)); err != nil {
					t.Error(err)
				}
				if got := c.(exchange.Retractor).Retract(); got != tt.want {
					t.Errorf("got %v", got)
				} else if got {
					if err := c.Head(&exchange.Response{Status: 502}, true); err != nil {
						t.Error(err)
					}
				}
				if c.(exchange.Retractor).Retract() {
					t.Error("taken back twice, or after the end")
				}
			})
			if !tt.want {
				k.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				_, _ = io.Copy(io.Discard, k.br) // until it is cut
				return
			}
			for range 2 { // it is as good as new afterwards
				k.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				var got string
				for !strings.HasPrefix(got, "HTTP/1.1 502") {
					line, err := k.br.ReadString('\n')
					if err != nil || strings.HasPrefix(line, "HTTP/1.1 200") {
						t.Fatalf("got %q, %v", line, err)
					}
					got = line
				}
				for got != "\r\n" {
					got, _ = k.br.ReadString('\n')
				}
			}
		})
	}
}

func answer200(c exchange.Client) error {
	if err := c.Head(&exchange.Response{Status: 200, Length: 2}, false); err != nil {
		return err
	}
	return c.Data([]byte("no"), true)
}
