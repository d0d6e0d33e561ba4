package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/proxy"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A stream in both directions, with pauses, that the server ends while ours is open.
func TestGRPCEngineStream(t *testing.T) {
	t.Parallel()
	call, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		beginGRPC(w)
		for {
			m, err := readFrame(r.Body)
			switch {
			case errors.Is(err, io.EOF):
				endGRPC(w, "0", "bye")
				return
			case err != nil:
				return
			case m == "end":
				endGRPC(w, "3", "enough")
				return
			}
			_, _ = io.WriteString(w, frame("re: "+m))
			_ = http.NewResponseController(w).Flush()
		}
	}, speaksH2)
	for _, last := range []string{"end", ""} {
		p := newGRPCTestPeer()
		ended := make(chan *proxy.GRPCEnd, 1)
		go func() {
			end, err := call(t.Context(), nil, p)
			if err != nil {
				t.Error(err)
			}
			ended <- end
		}()
		for i := range 20 {
			p.send(fmt.Sprint(i), false)
			strict.Eventually(t, "answered", func() bool { return len(p.got()) > i })
		}
		if got := p.got(); len(got) != 20 || got[19] != "re: 19" {
			t.Fatalf("got %q", got)
		}
		p.send(last, last == "")
		select {
		case end := <-ended:
			if last == "end" && (end.Code != 3 || end.Message != "enough") || last == "" && (end.Code != 0 || end.Message != "bye") {
				t.Errorf("end %+v", end)
			}
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
	}
}

// A server that floods has to wait for the plugin: what it is ahead is bounded by the windows
// of HTTP/2. One that sends a message and never its end holds what has come. A cancel ends each.
func TestGRPCHostileUpstream(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	gone := make(chan struct{}, 10)
	call, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { gone <- struct{}{} }()
		_ = http.NewResponseController(w).EnableFullDuplex()
		beginGRPC(w)
		piece := []byte(strings.Repeat(frame(strings.Repeat("x", 1000)), 30))
		if r.URL.Path == "/s/endless" {
			piece = append([]byte("\x00\x00\x10\x00\x00"), make([]byte, 1<<20-1)...) // all but the last byte
		}
		for {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
			if r.URL.Path == "/s/endless" {
				<-r.Context().Done()
				return
			}
		}
	}, speaksH2)
	t.Run("flood", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newGRPCTestPeer()
		hold := make(chan struct{})
		p.take = func([]byte) bool { <-hold; return true }
		ended := make(chan error, 1)
		go func() { _, err := call(ctx, func(c *proxy.GRPCCall) { c.Path = "/s/flood" }, p); ended <- err }()
		last := int64(-1)
		strict.Eventually(t, "standing still", func() bool {
			time.Sleep(100 * time.Millisecond)
			now := sent.Load()
			still := now == last && now > 0
			last = now
			return still
		})
		if n := sent.Load(); n == 0 || n > 16<<20 {
			t.Errorf("the server could send %d bytes to a plugin that takes none", n)
		}
		if n := p.held.Load(); n > 1<<20 {
			t.Errorf("%d bytes are held", n)
		}
		cancel()
		close(hold)
		wantCanceled(t, ended, gone)
	})
	t.Run("endless", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newGRPCTestPeer()
		ended := make(chan error, 1)
		go func() { _, err := call(ctx, func(c *proxy.GRPCCall) { c.Path = "/s/endless" }, p); ended <- err }()
		strict.Eventually(t, "holding all but the last byte", func() bool { return p.held.Load() >= 1<<20-1 })
		if n := p.held.Load(); n < 1<<20-1 || n > 1<<20+1000 {
			t.Errorf("%d bytes are held", n)
		}
		cancel()
		wantCanceled(t, ended, gone)
		if n := p.held.Load(); n > 1000 {
			t.Errorf("%d bytes are held at the end", n)
		}
	})
}

func wantCanceled(t *testing.T, ended chan error, gone chan struct{}) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("the server is not told")
	}
}

// Upstreams that are not there, or do not speak HTTP/2.
func TestGRPCUnavailable(t *testing.T) {
	t.Parallel()
	_, addr := grpcServer(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }, speaksH2)
	for _, tt := range []struct{ name, addr, keys, reason string }{
		{"refused", "127.0.0.1:1", speaksH2, "upstream_refused"},
		{"only HTTP/1.1", addr, `connect.protocol = "h1"`, "upstream_not_http2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			call := grpcUpstream(t, tt.addr, tt.keys)
			end, err := call(t.Context(), nil, newGRPCTestPeer())
			if err != nil || end.Code != 14 || end.Failure == nil || end.Message != tt.reason {
				t.Errorf("end %+v, %v", end, err)
			}
		})
	}
}

// A stream that rests hears that its connection is gone, without sending anything.
func TestGRPCRestingStreamEnds(t *testing.T) {
	t.Parallel()
	var server atomic.Pointer[httptest.Server]
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pkg.Svc/Do" {
			go server.Load().CloseClientConnections()
			<-r.Context().Done()
		}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Store(s)
	s.Start()
	t.Cleanup(s.Close)
	call := grpcUpstream(t, s.Listener.Addr().String(), speaksH2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	end, err := call(ctx, nil, newGRPCTestPeer())
	if err != nil || end.Code != 14 {
		t.Errorf("end %+v, %v", end, err)
	}
}

// A service keeps a stream open while its upstream is replaced again and again: each time the
// old one ends, with a status that says why, and the new upstream gets the next one. One that
// a reload leaves as it is keeps its stream.
func TestGRPCStreamOverReloads(t *testing.T) {
	var opened, ended atomic.Int64
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		defer ended.Add(1)
		beginGRPC(w)
		opened.Add(1)
		<-r.Context().Done()
	}))
	origin.Config.Protocols = new(http.Protocols)
	origin.Config.Protocols.SetUnencryptedHTTP2(true)
	origin.Start()
	t.Cleanup(origin.Close) // after the proxy, whose stream it would wait for
	g := wasmtest.NewGuest()
	id := g.Slot(4)
	stream := wasmtest.Seq(wasmtest.Call(g.Env(abi.ImportGRPCStream, "iiiiiiiii>i"),
		g.Str("api"), g.Str("pkg.Svc"), g.Str("Watch"), g.Str(""), wasmtest.I32(id)), wasmtest.Drop())
	g.Func(abi.ExportOnConfigure, "ii>i", stream, wasmtest.I32(1))
	g.Func(abi.ExportOnGRPCClose, "iii", wasmtest.Call(g.Env(abi.ImportLog, "iii>i"), wasmtest.I32(3), g.Str("the stream was closed")), wasmtest.Drop(), stream)
	guest := writeGuest(t, g.Bytes())
	toml := func(idle int, body string) string {
		return fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[routes.all]
respond = { body = %q }
[plugins.watch]
wasm = %q
kind = "service"
grant = ["log", "call:api"]
[upstreams.api]
servers = [%q]
connect.protocol = "h2"
pool = { idle = %d }
`, body, guest, origin.Listener.Addr().String(), idle)
	}
	in := startInstance(t, toml(1, "a"))
	reload := func(toml string) {
		t.Helper()
		in.write(t, toml)
		var out bytes.Buffer
		if code := run(t.Context(), []string{"reload", "-c", in.file}, &out, &out); code != exitOK {
			t.Fatalf("reload: %s", out.String())
		}
	}
	strict.Eventually(t, "a stream is open", func() bool { return opened.Load() == 1 })
	reload(toml(1, "b")) // whatever it has ended is one too many below, too
	if opened.Load() != 1 || ended.Load() != 0 {
		t.Errorf("%d opened and %d ended after a reload that leaves the upstream alone", opened.Load(), ended.Load())
	}
	for n := int64(1); n <= 5; n++ {
		reload(toml(int(n)+1, "b"))
		strict.Eventually(t, "the stream moves", func() bool { return opened.Load() == n+1 && ended.Load() == n })
	}
	if got := in.outcomesOf(t, "watch"); got[host.CallReset] != 5 || len(got) != 1 {
		t.Errorf("outcomes %v", got)
	}
}
