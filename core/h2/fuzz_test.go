package h2_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/h2"
)

func describe(r *exchange.Request) string {
	s := fmt.Sprintf("%s %s %s %d", r.Method, r.Target, r.Authority, r.Length)
	for n, v := range r.Fields.All() {
		s += " " + n + "=" + v
	}
	if r.ExpectContinue {
		s += " expect"
	}
	return s
}

// pack writes fields as FuzzRequest takes them.
func pack(pairs ...string) []byte {
	var b []byte
	for _, s := range pairs {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// unpack is the reverse of pack, for any bytes.
func unpack(b []byte) []exchange.Field {
	var s []string
	for len(b) > 0 && len(s) < 60 {
		n := min(int(b[0]), len(b)-1)
		s = append(s, string(b[1:1+n]))
		b = b[1+n:]
	}
	return list(s...)
}

// FuzzRequest checks that a request that is accepted is the same request for a strict
// reader of HTTP/1.1, when the h1 codec has passed it on.
func FuzzRequest(f *testing.F) {
	for _, s := range [][]string{
		get, with("a", "b"), with("cookie", "a", "cookie", "b"), with("host", "a.example"), with("te", "trailers"),
		with("content-length", "5"), with("x", "a\r\nb"), with("transfer-encoding", "chunked"), with("expect", "100-continue"),
		{":method", "GET / HTTP/1.1\r\n", ":scheme", "http", ":authority", "a", ":path", "/"},
		{":method", "OPTIONS", ":scheme", "http", ":authority", "[::1]:80", ":path", "*"},
		{":method", "POST", ":scheme", "http", ":path", "/a/../b?c d", "host", "x"},
	} {
		f.Add(pack(s...), true)
		f.Add(pack(s...), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, end bool) {
		r, status, reason := h2.ParseRequest(unpack(b), "http", end)
		if status != 0 {
			if status < 400 || reason == "" {
				t.Fatalf("refused with %d %q", status, reason)
			}
			return
		}
		if end && r.Length != 0 {
			t.Fatalf("length %d without a body", r.Length)
		}
		body := "hello"
		if r.Length >= 0 {
			body = strings.Repeat("x", int(min(r.Length, 100)))
		}
		if int64(len(body)) < r.Length {
			return // too long to send
		}
		got, gotBody := throughH1(t, r, body)
		host := r.Authority
		if got.Method != r.Method || got.RequestURI != r.Target || got.Host != host || gotBody != body {
			t.Fatalf("%s\nbecame %s %s %s with %d bytes", describe(r), got.Method, got.RequestURI, got.Host, len(gotBody))
		}
		n := 0
		for _, values := range got.Header {
			n += len(values)
		}
		for name, value := range r.Fields.All() {
			switch name {
			case "content-length", "te":
				continue
			}
			n--
			if !contains(got.Header, name, value) {
				t.Fatalf("%s: %s: %q is lost in %v", describe(r), name, value, got.Header)
			}
		}
		if got.Header.Get("Te") != "" || got.Header.Get("Connection") != "" {
			n -= len(got.Header["Te"]) + len(got.Header["Connection"])
		}
		if n -= len(got.Header["Content-Length"]); n != 0 {
			t.Fatalf("%s: %d fields too many or too few: %v", describe(r), n, got.Header)
		}
	})
}

func contains(h http.Header, name, value string) bool {
	for n, values := range h {
		for _, v := range values {
			if strings.EqualFold(n, name) && v == value {
				return true
			}
		}
	}
	return false
}

// throughH1 sends r with the h1 codec and reads it with net/http.
func throughH1(t *testing.T, r *exchange.Request, body string) (*http.Request, string) {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	var writing sync.WaitGroup
	writing.Go(func() { // ends with the request
		c := h1.NewClientConn(client, &h1.ClientOptions{})
		c.Reserve()
		s, err := c.Open(context.Background())
		if err == nil {
			err = s.Head(r, body == "")
		}
		if err == nil && body != "" {
			err = s.Data([]byte(body), true)
		}
		if err != nil {
			t.Errorf("%s: cannot be passed on: %v", describe(r), err)
			_ = client.Close()
		}
	})
	defer writing.Wait()
	br := bufio.NewReader(server)
	got, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("%s: a strict reader refuses: %v", describe(r), err)
	}
	b, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatalf("%s: the body: %v", describe(r), err)
	}
	if br.Buffered() > 0 {
		t.Fatalf("%s: %d bytes behind the request", describe(r), br.Buffered())
	}
	return got, string(b)
}

// FuzzServer feeds a server with any bytes behind the preface. It must not panic, must
// end when the client does, and its goroutines with it.
func FuzzServer(f *testing.F) {
	add := func(write func(fr *http2.Framer)) {
		var b strings.Builder
		fr := http2.NewFramer(&b, nil)
		fr.AllowIllegalWrites = true
		_ = fr.WriteSettings()
		write(fr)
		f.Add([]byte(b.String()))
	}
	head := []byte{0x82, 0x86, 0x84, 0x01, 1, 'x'}
	post := []byte{0x83, 0x86, 0x84, 0x01, 1, 'x'}
	add(func(*http2.Framer) {})
	add(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: head})
		_ = fr.WriteRSTStream(1, 0)
	})
	add(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: post[:3]})
		_ = fr.WriteContinuation(1, true, post[3:])
		_ = fr.WriteDataPadded(1, false, []byte("hello"), make([]byte, 10))
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: []byte{0, 1, 'a', 1, 'b'}})
		_ = fr.WriteWindowUpdate(0, 1)
		_ = fr.WriteWindowUpdate(1, 1)
		_ = fr.WritePing(false, [8]byte{})
		_ = fr.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		_ = fr.WriteGoAway(1, 0, []byte("x"))
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		_ = fr.WriteRawFrame(0x10, 0, 0, []byte{0, 0, 0, 1, 'u'})
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		s := h2.NewServer(h2.ServerOptions{MaxHead: 4096, MaxStreams: 4, MaxBody: 1000}, hello)
		var serving sync.WaitGroup
		serving.Go(func() { s.ServeConn(context.Background(), server, nil, []byte(http2.ClientPreface)) })
		serving.Go(func() { _, _ = io.Copy(io.Discard, client) })
		_ = client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = client.Write(b)
		_ = client.Close()
		done := make(chan struct{})
		go func() { // ends with the connection
			serving.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the connection does not end")
		}
	})
}
