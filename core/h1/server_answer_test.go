package h1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestNoLineBreaks: a field with a line break cannot be written.
func TestNoLineBreaks(t *testing.T) {
	for _, f := range []exchange.Field{
		{Name: "x", Value: "a\r\nset-cookie: b"}, {Name: "x", Value: "a\nb"}, {Name: "x", Value: "a\rb"}, {Name: "x", Value: "a\x00b"}, {Name: "x\r\ny", Value: "z"},
	} {
		bubble(t, f.Value, func(t *testing.T) {
			k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
				res := &exchange.Response{Status: 200}
				res.Fields.Add(f.Name, f.Value)
				err := c.Head(res, true)
				var e *exchange.Error
				if !errors.As(err, &e) || e.Reason != h1.ReasonBadField {
					t.Errorf("got %v", err)
				}
			})
			k.send(getA)
			if b, err := io.ReadAll(k.c); err == nil || len(b) > 0 {
				t.Errorf("got %q, %v; want nothing and a reset", b, err)
			}
		})
	}
}

// TestCutAnswerIsReset: where the end of the answer is the end of the connection,
// only a reset tells that it was cut.
func TestCutAnswerIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startTalk(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
			_ = c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false)
			_ = c.Data([]byte("part"), false)
			_ = c.Data(nil, false)
			// and returns
		})
		k.send("GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(k.c); err == nil {
			t.Errorf("got %q and a clean end, want a reset", b)
		}
	})
}

// TestRefusal: what the hook gets to know.
func TestRefusal(t *testing.T) {
	for _, tt := range []struct{ send, method, target, host, reason string }{
		{"GET /x HTTP/1.1\r\n\r\n", "GET", "/x", "", "missing_host"},
		{"GET /x HTTP/1.1\r\nHost: A b\r\n\r\n", "GET", "/x", "A b", "bad_host"},
		{"GET /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "GET", "/x", "", "bad_field"},
		{"GET /x HTTP/3.0\r\n\r\n", "GET", "/x", "", "unsupported_version"},
		{"GET /x HTTP/1.1\nHost: a\n\n", "GET", "/x", "", "bare_lf"},
		{"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/\x01", "a", "bad_target"},
		{"GET /" + strings.Repeat("x", 1000) + "# HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/" + strings.Repeat("x", 255), "a", "bad_target"},
		{"\x16\x03\x01\n", "", "", "", "bare_lf"},
	} {
		bubble(t, tt.reason, func(t *testing.T) {
			var got h1.Refusal
			k := startTalk(t, h1.ServerOptions{Refused: func(r *h1.Refusal) { got = *r }}, handle(ok))
			k.send(tt.send)
			res, _ := k.receive()
			k.c.Close()
			<-k.served
			if got.Reason != tt.reason || got.Method != tt.method || got.Target != tt.target || got.Host != tt.host || got.Status != res.StatusCode || got.Conn == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// countWrites counts the writes of a connection.
type countWrites struct {
	net.Conn
	n int
}

func (c *countWrites) Write(p []byte) (int, error) { c.n++; return c.Conn.Write(p) }

// TestCoalescing: a head and the first bytes behind it leave in one write.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := exchangetest.Pipe()
		counted := &countWrites{Conn: server}
		s := h1.NewServer(h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(new(exchangetest.Recorder[*exchange.Request]))
			_ = c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false)
			for range 10 {
				_ = c.Data([]byte("0123456789"), false)
			}
			_ = c.Data(nil, true)
		})
		_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		s.ServeConn(context.Background(), counted, nil)
		client.Close()
		if counted.n != 1 {
			t.Errorf("got %d writes, want 1", counted.n)
		}
	})
}
