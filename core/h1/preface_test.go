package h1_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestPreface checks that a client that begins with HTTP/2 is handed over with all that it
// has sent, and that one that comes to it later, or to a server without HTTP/2, is refused.
func TestPreface(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	answer := func(_ context.Context, c exchange.Client) {
		if c.Feed(new(exchangetest.Recorder[*exchange.Request])) == nil {
			_ = c.Head(&exchange.Response{Status: 200}, true)
		}
	}
	for _, tt := range []struct {
		name   string
		send   []string
		with   bool
		status int // that ends it; 0: it is handed over
	}{
		{"all at once", []string{preface + "\x00\x00\x00\x04"}, true, 0},
		{"bit by bit", strings.Split(preface, ""), true, 0},
		{"behind an empty line", []string{"\r\n" + preface}, true, 0},
		{"without HTTP/2", []string{preface}, false, 505},
		{"behind a request", []string{request, preface}, true, 505},
		{"with a field", []string{"PRI * HTTP/2.0\r\nhost: x\r\n\r\nSM\r\n\r\n"}, true, 505},
		{"another target", []string{"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"}, true, 505},
		{"another version", []string{"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"}, true, 505},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			handed := make(chan string, 1)
			o := h1.ServerOptions{}
			if tt.with {
				o.HTTP2 = func(_ context.Context, nc net.Conn, facts *exchange.Conn, early []byte) {
					if facts == nil {
						t.Error("no facts")
					}
					rest := make([]byte, max(len(preface)-len(early), 0))
					_, _ = io.ReadFull(nc, rest)
					handed <- string(early) + string(rest)
					_, _ = io.WriteString(nc, "hello")
					_ = nc.Close()
				}
			}
			k := startTalk(t, o, answer)
			for i, s := range tt.send {
				k.send(s)
				if s == request && i == 0 {
					k.receive()
				}
			}
			if tt.status != 0 {
				if a, _ := k.receive(); a.StatusCode != tt.status {
					t.Errorf("got %d", a.StatusCode)
				}
				return
			}
			want := strings.TrimPrefix(strings.Join(tt.send, ""), "\r\n")
			if got := <-handed; got != want {
				t.Errorf("handed over with %q, want %q", got, want)
			}
			if b, err := io.ReadAll(k.br); string(b) != "hello" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}
