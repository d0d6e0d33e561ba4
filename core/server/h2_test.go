package server_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"wproxy/core/filter"
	"wproxy/core/server"
)

// h2Client returns a client that speaks HTTP/2 without TLS, on one connection.
func h2Client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// fetch returns the body of an answer.
func fetch(c *http.Client, addr string) (string, error) {
	resp, err := c.Get("http://" + addr + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// speaking makes g's listeners speak p.
func speaking(g server.Generation, p server.Protocols) server.Generation {
	for i := range g.Listeners {
		g.Listeners[i].Speaks = p
	}
	return g
}

var both = server.Protocols{H1: true, H2C: true}

// TestHTTP2 checks that both versions are spoken on one port, that a reload keeps
// connections, and that Stop lets an exchange end.
func TestHTTP2(t *testing.T) {
	m, g := newMaker(), newGate()
	s := m.start(t, speaking(m.generation(t, "one", nil, "a=127.0.0.1:0"), both))
	addr := address(t, s, "a")
	dial(t, addr).get(t, "one")
	c := h2Client(t)
	if body, err := fetch(c, addr); body != "one" || err != nil {
		t.Fatalf("got %q, %v", body, err)
	}
	open := m.opened()["a"]
	if err := s.Reload(t.Context(), speaking(m.generation(t, "two", []filter.Factory{g}, "a=127.0.0.1:0"), both)); err != nil {
		t.Fatal(err)
	}
	type result struct {
		body string
		err  error
	}
	done := make(chan result, 1)
	go func() { // ends when the gate opens
		body, err := fetch(c, addr)
		done <- result{body, err}
	}()
	<-g.arrived
	if now := m.opened()["a"]; now != open {
		t.Errorf("%d connections, want %d: a reload keeps them", now, open)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }() // ends when the gate opens
	select {
	case err := <-stopped:
		t.Fatalf("Stop did not wait for an exchange: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(g.open)
	if r := <-done; r.body != "two" || r.err != nil {
		t.Errorf("got %q, %v", r.body, r.err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestHTTP2Alone checks a listener that speaks HTTP/2 only, and one that does not.
func TestHTTP2Alone(t *testing.T) {
	m := newMaker()
	s := m.start(t, speaking(m.generation(t, "x", nil, "a=127.0.0.1:0"), server.Protocols{H2C: true}))
	addr := address(t, s, "a")
	if body, err := fetch(h2Client(t), addr); body != "x" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	c := dial(t, addr)
	c.send(t)
	if _, _, err := c.receive(); err == nil {
		t.Error("HTTP/1.1 is spoken")
	}
	m = newMaker()
	s = m.start(t, m.generation(t, "x", nil, "a=127.0.0.1:0"))
	if body, err := fetch(h2Client(t), address(t, s, "a")); err == nil {
		t.Errorf("HTTP/2 is spoken: %q", body)
	}
}

// TestHTTP2Panic checks that a bug that one request hits ends its stream alone.
func TestHTTP2Panic(t *testing.T) {
	m := newMaker()
	s := m.start(t, speaking(m.generation(t, "one", []filter.Factory{&bomb{}}, "a=127.0.0.1:0"), both))
	addr := address(t, s, "a")
	c := h2Client(t)
	if body, err := fetch(c, addr); err == nil {
		t.Errorf("an answer after a panic: %q", body)
	}
	open := m.opened()["a"]
	if err := s.Reload(t.Context(), speaking(m.generation(t, "two", nil, "a=127.0.0.1:0"), both)); err != nil {
		t.Fatal(err)
	}
	if body, err := fetch(c, addr); body != "two" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	if now := m.opened()["a"]; open != 1 || now != 1 {
		t.Errorf("%d connections, then %d; want the same one", open, now)
	}
	eventually(t, "one panic is reported", func() bool { // after the stream's reset, on its goroutine
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.panics == 1
	})
}
