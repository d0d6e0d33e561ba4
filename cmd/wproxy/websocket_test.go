package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"wproxy/cmd/wproxy/internal/strict"
)

// wsLimit is the largest message that the upstream of these tests takes, in bytes.
const wsLimit = 32 << 20

// A wsOrigin is an upstream with WebSockets that sends each message back.
type wsOrigin struct {
	*httptest.Server
	open atomic.Int64 // WebSockets

	mu        sync.Mutex
	ends      []error // why they have ended; guarded by mu
	handshake http.Header
}

func newWSOrigin(t *testing.T) *wsOrigin {
	t.Helper()
	o := &wsOrigin{}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

// serve is one WebSocket.
func (o *wsOrigin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.handshake = r.Header.Clone()
	o.mu.Unlock()
	w.Header().Set("X-Origin", "1")
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"chat.v2", "chat.v1"}, InsecureSkipVerify: true,
		CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1,
	})
	if err != nil {
		return // it has answered
	}
	o.open.Add(1)
	defer o.open.Add(-1)
	defer c.CloseNow()
	c.SetReadLimit(wsLimit)
	err = wsEcho(r.Context(), c)
	o.mu.Lock()
	o.ends = append(o.ends, err)
	o.mu.Unlock()
}

// wsEcho sends each message back whole, as one. Text must be text (RFC 6455 8.1), and some
// of it is a command.
func wsEcho(ctx context.Context, c *websocket.Conn) error {
	for {
		kind, p, err := c.Read(ctx)
		if err != nil {
			return err
		}
		switch s := string(p); {
		case kind == websocket.MessageText && !utf8.Valid(p):
			return c.Close(websocket.StatusInvalidFramePayloadData, "not UTF-8")
		case s == "close":
			return c.Close(4321, "as you wish")
		case s == "vanish":
			return c.CloseNow()
		case s == "ping":
			if err := c.Ping(ctx); err != nil { // nobody reads the answer meanwhile: see pinged
				return err
			}
		}
		if err := c.Write(ctx, kind, p); err != nil {
			return err
		}
	}
}

// closedWith waits until a WebSocket has ended with a code, -1 for none.
func (o *wsOrigin) closedWith(t *testing.T, code websocket.StatusCode) {
	t.Helper()
	strict.Eventually(t, fmt.Sprintf("ended with %d at the upstream", code), func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return slices.ContainsFunc(o.ends, func(err error) bool { return websocket.CloseStatus(err) == code })
	})
}

// wsConfig is hostileConfig with this upstream.
func (o *wsOrigin) config() string {
	return strings.ReplaceAll(hostileConfig, "@ORIGIN", o.Listener.Addr().String())
}

// secure is the configuration with TLS from clients. More is appended to it.
func (o *wsOrigin) secure(certs *pairCerts, more string) string {
	tls := fmt.Sprintf("address = \"@ADDR\"\ntls.certs = [{ cert = %q, key = %q }]\n", certs.cert, certs.key)
	return strings.Replace(o.config(), "address = \"@ADDR\"\n", tls, 1) + more
}

// wsContext bounds a test.
func wsContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// wsDial opens a WebSocket through the instance, and returns it with the fields of the 101.
func wsDial(ctx context.Context, t testing.TB, in *instance, o *websocket.DialOptions) (*websocket.Conn, http.Header) {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.Host = "a.test"
	c, resp, err := websocket.Dial(ctx, "ws://"+in.addr+"/chat", o) //nolint:bodyclose // the WebSocket closes it
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(wsLimit)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c, resp.Header
}

// wsRound sends a message and wants it back.
func wsRound(ctx context.Context, c *websocket.Conn, kind websocket.MessageType, p []byte) error {
	if err := c.Write(ctx, kind, p); err != nil {
		return err
	}
	got, back, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if got != kind || !bytes.Equal(back, p) {
		return fmt.Errorf("sent %d bytes of kind %v, got %d of %v", len(p), kind, len(back), got)
	}
	return nil
}

// TestWebSocket: messages of all sizes, close codes both ways, subprotocols, compression
// and pings pass.
func TestWebSocket(t *testing.T) {
	o := newWSOrigin(t)
	in := startInstance(t, o.config())
	ctx := wsContext(t)

	t.Run("messages", func(t *testing.T) {
		c, header := wsDial(ctx, t, in, nil)
		if header.Get("X-Origin") != "1" || header.Get("Sec-WebSocket-Accept") == "" {
			t.Errorf("the upstream's fields are not there: %v", header)
		}
		for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20} {
			for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
				if err := wsRound(ctx, c, kind, bytes.Repeat([]byte("x"), n)); err != nil {
					t.Fatalf("%v of %d bytes: %v", kind, n, err)
				}
			}
		}
		if err := c.Close(4000, "that was all"); err != nil {
			t.Errorf("close: %v", err)
		}
		o.closedWith(t, 4000)
	})
	t.Run("fragments", func(t *testing.T) {
		c, _ := wsDial(ctx, t, in, nil)
		w, err := c.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			t.Fatal(err)
		}
		var sent []byte
		for i := range 100 {
			part := bytes.Repeat([]byte{byte(i)}, 10_000)
			sent = append(sent, part...)
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(sent))
		}
	})
	t.Run("close from the upstream", func(t *testing.T) {
		c, _ := wsDial(ctx, t, in, nil)
		if err := c.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
			t.Fatal(err)
		}
		var closed websocket.CloseError
		if _, _, err := c.Read(ctx); !errors.As(err, &closed) || closed.Code != 4321 || closed.Reason != "as you wish" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("subprotocol", func(t *testing.T) {
		c, _ := wsDial(ctx, t, in, &websocket.DialOptions{Subprotocols: []string{"other", "chat.v1", "chat.v2"}})
		if got := c.Subprotocol(); got != "chat.v1" && got != "chat.v2" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("compression", func(t *testing.T) {
		for _, mode := range []websocket.CompressionMode{websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover} {
			c, header := wsDial(ctx, t, in, &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
			if got := header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate") {
				t.Fatalf("got extensions %q", got)
			}
			for range 10 {
				if err := wsRound(ctx, c, websocket.MessageText, bytes.Repeat([]byte("Hello, world! "), 10_000)); err != nil {
					t.Fatal(err)
				}
			}
			_ = c.CloseNow()
		}
	})
	t.Run("pings", func(t *testing.T) {
		c, _ := wsDial(ctx, t, in, nil)
		read := c.CloseRead(ctx)
		for range 10 {
			if err := c.Ping(read); err != nil {
				t.Fatal(err)
			}
		}
	})
	strict.Eventually(t, "without WebSockets", func() bool { return o.open.Load() == 0 && in.sum(t, "wproxy_tunnels") == 0 })
}

// TestWebSocketTLS: the same over TLS, with reloads meanwhile, and until wproxy ends.
func TestWebSocketTLS(t *testing.T) {
	o := newWSOrigin(t)
	certs := newPairCerts(t)
	in := startInstance(t, o.secure(certs, "[server]\ndrain = \"1s\"\n"))
	ctx := wsContext(t)
	dial := func() *websocket.Conn {
		t.Helper()
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: certs.pool, ServerName: "a.test"},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", in.addr)
			},
		}
		c, _, err := websocket.Dial(ctx, "wss://a.test/chat", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}) //nolint:bodyclose // as above
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(wsLimit)
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	stays, c := dial(), dial()
	for _, n := range []int{0, 125, 65536, 16 << 20} {
		if err := wsRound(ctx, c, websocket.MessageBinary, bytes.Repeat([]byte("x"), n)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if err := c.Close(4000, "that was all"); err != nil {
		t.Errorf("close: %v", err)
	}
	o.closedWith(t, 4000)
	c = dial()
	if err := c.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4321 {
		t.Errorf("got %v, want the upstream's close frame", err)
	}
	_ = c.CloseNow()
	for i := range 5 {
		in.reload(t)
		if err := wsRound(ctx, stays, websocket.MessageText, fmt.Append(nil, "reload ", i)); err != nil {
			t.Fatal(err)
		}
	}
	c = dial()
	_ = c.CloseNow() // a client that goes without a word
	strict.Eventually(t, "down to one tunnel", func() bool { return o.open.Load() == 1 && in.sum(t, "wproxy_tunnels") == 1 })
	if code := run(context.Background(), []string{"stop", "-c", in.file}, io.Discard, io.Discard); code != exitOK {
		t.Fatalf("stop: exit code %d", code)
	}
	if _, _, err := stays.Read(ctx); err == nil {
		t.Error("the tunnel has survived the end")
	}
	lines := in.accessLines(t)
	if last := lines[len(lines)-1]; !strings.Contains(last, `"reason":"drain"`) || !strings.Contains(last, `"status":101`) {
		t.Errorf("the last line of the access log: %s", last)
	}
}

// TestWebSocketCases: every case of the list has the same result through wproxy as at the
// upstream itself, byte for byte, with TLS from clients and without.
func TestWebSocketCases(t *testing.T) {
	certs := newPairCerts(t)
	t.Run("plain", func(t *testing.T) {
		o := newWSOrigin(t)
		in := startInstance(t, o.config())
		playAll(t, o, func() (net.Conn, error) { return net.Dial("tcp", in.addr) })
	})
	t.Run("TLS", func(t *testing.T) {
		o := newWSOrigin(t)
		in := startInstance(t, o.secure(certs, ""))
		playAll(t, o, func() (net.Conn, error) {
			return tls.Dial("tcp", in.addr, &tls.Config{RootCAs: certs.pool, ServerName: "a.test"})
		})
	})
}

// playAll plays all cases, at the upstream and through a connection of dial's.
func playAll(t *testing.T, o *wsOrigin, dial func() (net.Conn, error)) {
	t.Helper()
	direct := func() (net.Conn, error) { return net.Dial("tcp", o.Listener.Addr().String()) }
	work := make(chan wsCase)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // ends with the list
			for c := range work {
				want, wantHead, err := playWS(direct, c)
				if err != nil {
					t.Errorf("%s: at the upstream: %v", c.name, err)
				}
				got, gotHead, err := playWS(dial, c)
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: got %d bytes that end with %.60q, want %d that end with %.60q",
						c.name, len(got), got[max(len(got)-50, 0):], len(want), want[max(len(want)-50, 0):])
				}
				if gotHead != wantHead {
					t.Errorf("%s: the answer to the handshake has %q, want %q", c.name, gotHead, wantHead)
				}
			}
		})
	}
	cases := wsCases(!testing.Short() && !raceDetector)
	for _, c := range cases {
		work <- c
	}
	close(work)
	wg.Wait()
	t.Logf("%d cases", len(cases))
	if len(cases) < 330 {
		t.Errorf("%d cases; the list is not whole", len(cases))
	}
}

// playWS plays a case on a connection and returns all that came after the handshake,
// and those fields of its answer that are about the WebSocket.
func playWS(dial func() (net.Conn, error), c wsCase) (got []byte, head string, err error) {
	conn, err := dial()
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, "", err
	}
	lines := []string{
		"GET /chat HTTP/1.1", "Host: a.test", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	if c.extensions != "" {
		lines = append(lines, "Sec-WebSocket-Extensions: "+c.extensions)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		return nil, "", err
	}
	r := strict.NewReader(conn)
	resp, err := r.ReadResponse("GET")
	if err != nil {
		return nil, "", err
	}
	for _, f := range []string{"upgrade", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol"} {
		head += fmt.Sprintf("%s=%s ", f, resp.Fields.Get(f))
	}
	if resp.Status != 101 {
		return nil, "", fmt.Errorf("got %d to the handshake", resp.Status)
	}
	sends := c.sends
	if !c.open {
		sends = append(slices.Clone(sends), wsCloseFrame(1000, "over"))
	}
	go func() { // ends when all is sent, or the connection is closed
		for _, p := range sends {
			if _, err := conn.Write(p); err != nil {
				return // the other end has had enough
			}
		}
	}()
	got, err = io.ReadAll(r.Buffered())
	if err != nil && !isClosed(err) {
		return got, head, err
	}
	return got, head, nil
}

// accessLines returns the lines of the access log of an instance that was stopped.
func (in *instance) accessLines(t testing.TB) []string {
	t.Helper()
	in.stop(t)
	b, err := os.ReadFile(in.access)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}
