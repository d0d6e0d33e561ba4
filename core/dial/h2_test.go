package dial_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// goServer serves HTTP/2 over TLS, and HTTP/1.1 if it is to, with net/http. It counts
// connections.
func goServer(t *testing.T, h1Too bool) (address string, o dial.Options, conns *atomic.Int64, s *http.Server) {
	t.Helper()
	ca := newCA(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int64)
	s = &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{server(ca, "127.0.0.1")}},
		Protocols: new(http.Protocols),
		ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				conns.Add(1)
			}
		},
	}
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetHTTP1(h1Too)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	o = dial.Options{
		TLS:      newTLS(t, dial.TLSOptions{CA: caFile(t, ca)}),
		NewConn:  func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, nil) },
		NewHTTP2: func(nc net.Conn) pool.Conn { return h2.NewClientConn(nc, nil) },
	}
	return l.Addr().String(), o, conns, s
}

// exchangeOn sends a request over a connection of the pool, and returns its body.
func exchangeOn(t *testing.T, p *pool.Pool, e *upstream.Endpoint, r pool.Request) (string, error) {
	t.Helper()
	r.Endpoint = e
	c, _, err := p.Get(t.Context(), r)
	if err != nil {
		return "", err
	}
	defer p.Put(e, c)
	res, err := roundTrip(t, c)
	_, data, _, _ := res.Message()
	return data, err
}

// TestOneConnection: a hundred requests at once, of which each would make a connection of
// HTTP/1.1, share one of HTTP/2; an upgrade gets one of HTTP/1.1.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	address, o, conns, s := goServer(t, true)
	e, err := upstream.NewEndpoint("https://"+address, 1)
	if err != nil {
		t.Fatal(err)
	}
	po := pool.Options{Dial: dial.New(o).Dial, Multiplex: pool.Maybe}
	o.Protocol = dial.HTTP1
	po.DialUpgrade = dial.New(o).Dial
	p := pool.New(po)
	defer p.Close()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if body, err := exchangeOn(t, p, e, pool.Request{}); err != nil || body != "HTTP/2.0" {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if st := p.Stats(); st.Open != 1 || st.Idle != 1 {
		t.Errorf("got %+v", st)
	}
	if body, err := exchangeOn(t, p, e, pool.Request{Upgrade: true}); err != nil || body != "HTTP/1.1" {
		t.Errorf("for an upgrade: got %q, %v", body, err)
	}

	// The server goes: it says so, and the pool makes no use of the connection any more.
	_ = s.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := exchangeOn(t, p, e, pool.Request{})
		var x *exchange.Error
		if errors.As(err, &x) && x.Op == "dial" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pool has not noticed that the server is gone: %v", err)
		}
	}
}

// TestNoHTTP2: a server that does not speak HTTP/2 although it was to, or does not speak.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	o := dial.Options{
		Protocol: dial.HTTP2, Total: 200 * time.Millisecond,
		NewConn:  func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, nil) },
		NewHTTP2: func(nc net.Conn) pool.Conn { return h2.NewClientConn(nc, nil) },
	}
	for _, tt := range []struct {
		name   string
		says   string
		close  bool
		status int
		reason string
	}{
		{"HTTP/1.1", "HTTP/1.1 400 Bad Request\r\n\r\n", false, 502, "upstream_no_http2"},
		{"HTTP/1.1 and closes", "HTTP/1.1 400 Bad Request\r\n\r\n", true, 502, "upstream_no_http2"},
		{"a few bytes", "HTTP", true, 502, "upstream_no_http2"},
		{"closes", "", true, 502, "upstream_closed"},
		{"resets", "reset", true, 502, "upstream_closed"},
		{"silent", "", false, 504, "upstream_no_http2"},
	} {
		address := serve(t, func(nc net.Conn) {
			if tt.says == "reset" {
				_, _ = nc.Read(make([]byte, 1))
				_ = nc.(*net.TCPConn).SetLinger(0)
				return
			}
			_, _ = nc.Read(make([]byte, 100))
			_, _ = io.WriteString(nc, tt.says)
			if !tt.close {
				_, _ = io.Copy(io.Discard, nc)
			}
		})
		e, err := upstream.NewEndpoint(address, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dial.New(o).Dial(t.Context(), e)
		t.Log(tt.name, err)
		wantTLSError(t, err, tt.status, tt.reason)
	}
}

// TestHTTP2Alert: a TLS 1.3 server that does not like the certificate that it is shown,
// or misses one, says so behind the handshake. That is no server without HTTP/2.
func TestHTTP2Alert(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cfg := &tls.Config{
		Certificates: []tls.Certificate{server(ca, "127.0.0.1")}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	address := serve(t, func(nc net.Conn) {
		if tls.Server(nc, cfg).HandshakeContext(t.Context()) == nil {
			t.Error("the server wants no certificate")
		}
		_, _ = io.Copy(io.Discard, nc) // a reset would outrun the alert
	})
	for _, p := range []dial.Protocol{dial.Auto, dial.HTTP2} {
		o := dial.Options{
			Protocol: p, TLS: newTLS(t, dial.TLSOptions{CA: caFile(t, ca), MinVersion: tls.VersionTLS13}),
			NewConn:  func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, nil) },
			NewHTTP2: func(nc net.Conn) pool.Conn { return h2.NewClientConn(nc, nil) },
		}
		e, err := upstream.NewEndpoint("https://"+address, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dial.New(o).Dial(t.Context(), e)
		wantTLSError(t, err, 502, "upstream_tls_alert")
	}
}
