//go:build linux

package h1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// TestHeldRequest: who holds a request back that is not complete learns what
// has become of the client, although nobody reads.
func TestHeldRequest(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	long := strings.Repeat("x", 20_000) // more than is read with the head
	fin := (*net.TCPConn).CloseWrite
	abort := func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }
	stay := func(*net.TCPConn) error { return nil }
	const nothing = exchange.Code(255)
	for _, tt := range []struct {
		name, send string
		leave      func(*net.TCPConn) error
		inData     bool // hold the first data instead of the head
		want       exchange.Code
	}{
		{"FIN and no body", post + "Content-Length: 5\r\n\r\n", fin, false, exchange.CodeIncomplete},
		{"FIN in the body", post + "Content-Length: 5\r\n\r\nhel", fin, false, exchange.CodeIncomplete},
		{"FIN in a long body", post + "Content-Length: 30000\r\n\r\n" + long, fin, false, exchange.CodeIncomplete},
		{"FIN in a long body, data held", post + "Content-Length: 30000\r\n\r\n" + long, fin, true, exchange.CodeIncomplete},
		{"FIN before chunks", post + "Transfer-Encoding: chunked\r\n\r\n", fin, false, exchange.CodeIncomplete},
		{"FIN between chunks, data held", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", fin, true, exchange.CodeIncomplete},
		{"FIN behind the body", post + "Content-Length: 5\r\n\r\nhello", fin, false, exchange.CodeCancel},
		{"FIN behind a long body", post + "Content-Length: 20000\r\n\r\n" + long, fin, false, exchange.CodeCancel},
		{"FIN behind a long body, data held", post + "Content-Length: 20000\r\n\r\n" + long, fin, true, exchange.CodeCancel},
		{"reset in the body", post + "Content-Length: 5\r\n\r\nhel", abort, false, exchange.CodeCancel},
		{"reset before chunks", post + "Transfer-Encoding: chunked\r\n\r\n", abort, false, exchange.CodeCancel},
		{"no FIN", post + "Content-Length: 5\r\n\r\nhel", stay, false, nothing},
		{"FIN behind the next request", post + "Content-Length: 5\r\n\r\nhello" + "GET / HTTP/1.1\r\nHost: a\r\n\r\n", fin, false, nothing},
		{"FIN behind the next request, long", post + "Content-Length: 20000\r\n\r\n" + long + "GET / HTTP/1.1\r\nHost: a\r\n\r\n", fin, false, nothing},
	} {
		for _, early := range []bool{false, true} { // the FIN is there before the request is held
			t.Run(tt.name+map[bool]string{true: ", early"}[early], func(t *testing.T) {
				w := newWatcher(t)
				told, held, left, result := make(reset, 10), make(chan struct{}), make(chan struct{}), make(chan exchange.Code, 1)
				errHeld := errors.New("held") // ends the message
				wait := func() error {
					close(held)
					patience := patience
					if tt.want == nothing {
						patience = 50 * time.Millisecond
					}
					select {
					case code := <-told:
						result <- code
					case <-time.After(patience):
						result <- nothing
					}
					return errHeld
				}
				c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(_ context.Context, c exchange.Client) {
					c.(exchange.GoneNotifier).ResetWhenGone(told)
					rec := exchangetest.Recorder[*exchange.Request]{}
					if tt.inData {
						rec.OnData = func([]byte, bool) error { return wait() }
					} else {
						rec.OnHead = func(*exchange.Request, bool) error { return wait() }
					}
					if early {
						<-left
					}
					if err := c.Feed(&rec); !errors.Is(err, errHeld) {
						t.Errorf("Feed: %v", err)
					}
					c.(exchange.GoneNotifier).ResetWhenGone(nil)
				})
				if _, err := io.WriteString(c, tt.send); err != nil {
					t.Fatal(err)
				}
				if !early {
					<-held
				}
				time.Sleep(5 * time.Millisecond) // over loopback all of it has arrived by then
				if err := tt.leave(c); err != nil {
					t.Fatal(err)
				}
				if early {
					time.Sleep(10 * time.Millisecond) // and the FIN
					close(left)
				}
				if got := <-result; got != tt.want {
					t.Errorf("told %v, want %v", got, tt.want)
				}
			})
		}
	}
}

// TestHeldUpload: whether the client is gone is never decided wrongly while the
// reader is at work: all of a body arrives, however slowly it is taken, as long as
// the client stays.
func TestHeldUpload(t *testing.T) {
	w := newWatcher(t)
	const size = 200_000
	for _, framing := range []string{"length", "chunked"} {
		t.Run(framing, func(t *testing.T) {
			got := make(chan int, 1)
			c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(_ context.Context, c exchange.Client) {
				told := make(reset, 10)
				c.(exchange.GoneNotifier).ResetWhenGone(told)
				n := 0
				rec := exchangetest.Recorder[*exchange.Request]{OnData: func(p []byte, end bool) error {
					n += len(p)
					if !end {
						time.Sleep(100 * time.Microsecond)
					}
					return nil
				}}
				if err := c.Feed(&rec); err != nil {
					t.Errorf("Feed: %v", err)
				}
				if len(told) > 0 {
					t.Errorf("told %v", <-told)
				}
				got <- n
			})
			head, piece, end := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", strings.Repeat("x", 1000), ""
			if framing == "chunked" {
				head, piece, end = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "3e8\r\n"+piece+"\r\n", "0\r\n\r\n"
			}
			go func() { // ends with its writes
				_, _ = io.WriteString(c, head)
				for range size / 1000 {
					_, _ = io.WriteString(c, piece)
				}
				_, _ = io.WriteString(c, end)
			}()
			if n := <-got; n != size {
				t.Errorf("got %d bytes, want %d", n, size)
			}
		})
	}
}
