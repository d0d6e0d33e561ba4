package dial_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

func source(client, server string) pool.Source {
	return pool.Source{Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort(server)}
}

// TestSendProxy: the first bytes of a connection say whom it is for, byte by byte as in the
// specification.
func TestSendProxy(t *testing.T) {
	t.Parallel()
	const sig = "\r\n\r\n\x00\r\nQUIT\n"
	heard := make(chan string, 1)
	address := serve(t, func(nc net.Conn) {
		b, _ := io.ReadAll(nc)
		heard <- string(b)
	})
	e, err := upstream.NewEndpoint(address, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		version int
		from    pool.Source
		want    string
	}{
		{"none", dial.NoProxy, source("192.0.2.1:1", "198.51.100.1:443"), ""},
		{"v1", dial.ProxyV1, source("192.0.2.1:56324", "198.51.100.1:443"), "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"},
		{"v1 IPv6", dial.ProxyV1, source("[2001:db8::1]:56324", "[2001:db8::2]:443"), "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"},
		{"v1 of a client that somebody has named", dial.ProxyV1, source("192.0.2.1:0", "[2001:db8::2]:443"), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 0 443\r\n"},
		{"v1 of nobody", dial.ProxyV1, pool.Source{}, "PROXY UNKNOWN\r\n"},
		{"v2", dial.ProxyV2, source("192.0.2.1:56324", "198.51.100.1:443"), sig + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb"},
		{"v2 IPv6", dial.ProxyV2, source("[2001:db8::1]:56324", "[2001:db8::2]:443"), sig + "\x21\x21\x00\x24" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xdc\x04\x01\xbb"},
		{"v2 of nobody", dial.ProxyV2, pool.Source{}, sig + "\x20\x00\x00\x00"},
	} {
		d := dial.New(dial.Options{NewConn: newConn, SendProxy: tt.version})
		nc, err := d.Socket(t.Context(), e, tt.from)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.Close()
		if got := <-heard; got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestSendProxyTLS: the header is in front of TLS, of whatever protocol.
func TestSendProxyTLS(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{server(ca, "127.0.0.1")}}
	names := make(chan string, 1)
	address := serve(t, func(nc net.Conn) {
		r := bufio.NewReader(nc)
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Error(err)
			return
		}
		if r.Buffered() > 0 { // the handshake: it comes behind the header
			nc = &joined{nc, io.MultiReader(io.LimitReader(r, int64(r.Buffered())), nc)}
		}
		c := tls.Server(nc, cfg)
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Error(err)
		}
		names <- h.SourceAddr.String()
		_, _ = io.Copy(io.Discard, c)
	})
	e, err := upstream.NewEndpoint("https://"+address, 1)
	if err != nil {
		t.Fatal(err)
	}
	d := dial.New(dial.Options{
		SendProxy: dial.ProxyV2, TLS: newTLS(t, dial.TLSOptions{CA: caFile(t, ca)}),
		NewConn: func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, nil) },
	})
	c, err := d.DialFor(t.Context(), e, source("192.0.2.1:1", "198.51.100.1:443"))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-names; got != "192.0.2.1:1" {
		t.Errorf("got %s", got)
	}
	_ = c.Close()
}

// joined reads from somewhere else.
type joined struct {
	net.Conn
	r io.Reader
}

func (j *joined) Read(p []byte) (int, error) { return j.r.Read(p) }

// TestSendProxyFails: a header that cannot be sent is a connection that cannot be made.
func TestSendProxyFails(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe() // writes wait for a reader
	defer there.Close()
	e := upstream.NewLocal("x", 1, func(context.Context) (net.Conn, error) { return here, nil })
	d := dial.New(dial.Options{NewConn: newConn, SendProxy: dial.ProxyV1, Total: 50 * time.Millisecond})
	_, err := d.Dial(t.Context(), e)
	var x *exchange.Error
	if !errors.As(err, &x) || x.Status != 504 || x.Reason != "upstream_connect_timeout" || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v", err)
	}
	if _, err := here.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is left open: %v", err)
	}
}
