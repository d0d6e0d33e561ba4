package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
	"wproxy/core/server"
)

// secure makes a listener of g speak TLS.
func secure(t *testing.T, g *server.Generation, pairs ...certs.Pair) *certs.Store {
	t.Helper()
	s, err := certs.Open(certs.Options{
		Pairs: pairs, Protocols: []string{"h2", "http/1.1"}, Tickets: certs.NewTicketKeys(), Failed: func(err error) { t.Errorf("reading: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	g.Listeners[0].TLS = s
	g.Snapshot.Listeners[0].Secure = s
	return s
}

// get sends one request on c.
func get(c io.ReadWriter, br *bufio.Reader, host string) error {
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(b) != "hello") {
		err = fmt.Errorf("%d %q", resp.StatusCode, b)
	}
	return err
}

// TestRenewUnderLoad: while certificates are renewed and generations come and go, every
// request is answered, on connections that stay and on new ones, and new ones see
// what is new.
func TestRenewUnderLoad(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	pair := ca.Server("a.example")
	cert, key := pair.Write(t, dir, "a")
	m := newMaker()
	g := m.generation(t, "hello", nil, "https=127.0.0.1:0")
	store := secure(t, &g, certs.Pair{Cert: cert, Key: key})
	s := m.start(t, g)
	at := address(t, s, "https")

	cc := &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	done := make(chan struct{})
	var wg sync.WaitGroup
	var requests atomic.Int64
	client := func(keep bool) {
		c, err := tls.Dial("tcp", at, cc)
		if err != nil {
			t.Errorf("connecting: %v", err)
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		for {
			if err := get(c, br, "a.example"); err != nil {
				t.Errorf("after %d requests: %v", requests.Load(), err)
				return
			}
			requests.Add(1)
			select {
			case <-done:
				return
			default:
			}
			if !keep {
				return
			}
		}
	}
	for i := range 4 {
		wg.Go(func() { // ends with done
			for running := true; running; {
				client(i < 2)
				select {
				case <-done:
					running = false
				default:
				}
			}
		})
	}
	wg.Go(func() { clientsH2(t, at, cc, done, &requests) })
	var last certstest.Pair
	for i := range 10 {
		last = ca.Server("a.example", fmt.Sprintf("n%d.example", i))
		if i%2 == 0 { // in either order: a pair that does not fit is not used
			certstest.WriteFile(t, key, last.Key)
			certstest.WriteFile(t, cert, last.Cert)
		} else {
			last.Write(t, dir, "a")
		}
		if err := store.Refresh(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // some requests
	}
	eventually(t, "50 requests", func() bool { return requests.Load() >= 50 })
	close(done)
	wg.Wait()
	c, err := tls.Dial("tcp", at, &tls.Config{RootCAs: ca.Pool(), ServerName: "n9.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.ConnectionState().PeerCertificates[0].Equal(last.TLS.Leaf) {
		t.Error("a new connection does not see what is new")
	}
}

// clientsH2 makes requests in HTTP/2, on a connection that stays and on new ones, until done.
func clientsH2(t *testing.T, at string, cc *tls.Config, done <-chan struct{}, requests *atomic.Int64) {
	cc = cc.Clone()
	cc.NextProtos = []string{"h2"}
	tr := &http.Transport{TLSClientConfig: cc, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	defer tr.CloseIdleConnections()
	for {
		select {
		case <-done:
			return
		default:
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+"/", nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.Host = "a.example"
		resp, err := tr.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("HTTP/2, on a connection that stays: %v, %v", resp, err)
			return
		}
		_ = resp.Body.Close()
		c, err := tls.Dial("tcp", at, cc)
		if err != nil {
			t.Errorf("HTTP/2, connecting: %v", err)
			return
		}
		if err := errors.Join(askH2(c), c.Close()); err != nil {
			t.Errorf("HTTP/2, on a new connection: %v", err)
			return
		}
		requests.Add(2)
	}
}

// TestReloadTLS: a listener that gets TLS, other certificates, or none keeps its socket, and
// connections go on as they began.
func TestReloadTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	pair := ca.Server("a.example")
	cert, key := pair.Write(t, dir, "a")
	m := newMaker()
	g := m.generation(t, "hello", nil, "door=127.0.0.1:0")
	secure(t, &g, certs.Pair{Cert: cert, Key: key})
	s := m.start(t, g)
	at := address(t, s, "door")
	old, err := tls.Dial("tcp", at, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	br := bufio.NewReader(old)
	if err := get(old, br, "a.example"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context(), m.generation(t, "hello", nil, "door="+at)); err != nil {
		t.Fatal(err)
	}
	if err := get(old, br, "a.example"); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	resp, err := http.Get("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestOtherProtocol: where something else than HTTP was negotiated, no request is served.
func TestOtherProtocol(t *testing.T) {
	ca := certstest.New(t, "ca")
	pair := ca.Server("a.example")
	cert, key := pair.Write(t, t.TempDir(), "a")
	m := newMaker()
	g := m.generation(t, "hello", nil, "https=127.0.0.1:0")
	store, err := certs.Open(certs.Options{
		Pairs: []certs.Pair{{Cert: cert, Key: key}}, Protocols: []string{"http/1.1"}, Failed: func(error) {},
		Other:          func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair.TLS, nil },
		OtherProtocols: []string{"acme-tls/1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	g.Listeners[0].TLS = store
	g.Snapshot.Listeners[0].Secure = store
	s := m.start(t, g)
	c, err := tls.Dial("tcp", address(t, s, "https"), &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", NextProtos: []string{"acme-tls/1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if c.ConnectionState().NegotiatedProtocol != "acme-tls/1" {
		t.Fatal("nothing was negotiated")
	}
	if err := get(c, bufio.NewReader(c), "a.example"); err == nil {
		t.Error("a request was served")
	}
}
