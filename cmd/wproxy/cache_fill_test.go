package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// testCacheCollapse: many requests at the same time make one to the origin, and stream along.
func testCacheCollapse(t *testing.T, o *cacheOrigin, c *cacheClient) {
	const n = 1000
	half, rest := strings.Repeat("a", 20_000), strings.Repeat("b", 20_000)
	release, head := make(chan struct{}), make(chan struct{})
	o.handle("/collapse", func(w http.ResponseWriter, _ *http.Request) {
		<-head
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = io.WriteString(w, half)
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, rest)
	})
	var begun, wg sync.WaitGroup
	begun.Add(n)
	for range n {
		wg.Go(func() {
			resp, err := c.http.Get("http://" + c.addr + "/collapse")
			if err != nil {
				t.Error(err)
				begun.Done()
				return
			}
			defer resp.Body.Close()
			buf := make([]byte, len(half))
			_, err = io.ReadFull(resp.Body, buf)
			begun.Done()
			if err != nil {
				t.Error(err)
			}
			if more, err := io.ReadAll(resp.Body); err != nil || string(buf)+string(more) != half+rest {
				t.Errorf("got %d and %d bytes, %v", len(buf), len(more), err)
			}
		})
	}
	time.AfterFunc(300*time.Millisecond, func() { close(head) }) // most are waiting by then; the rest joins what is filled
	begun.Wait()                                                 // all have the half that there is
	close(release)
	wg.Wait()
	if got := o.counted("/collapse"); got != 1 {
		t.Errorf("%d requests made %d", n, got)
	}
	// An answer that may not be stored does not hold the others up, one after the other.
	o.handle("/collapse/private", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Second)
		w.Header().Set("Cache-Control", "private")
	})
	start := time.Now()
	for range 20 {
		wg.Go(func() { c.do("GET", "/collapse/private") })
	}
	wg.Wait()
	if took := time.Since(start); took > prompt {
		t.Errorf("20 requests for what is private took %v", took)
	}
	// Nor does a leader that fails.
	var first atomic.Bool
	o.handle("/collapse/fails", func(w http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			time.Sleep(200 * time.Millisecond)
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = io.WriteString(w, "good")
	})
	var good atomic.Int32
	for range 20 {
		wg.Go(func() {
			if resp, body := c.do("GET", "/collapse/fails"); resp.StatusCode == 200 && body == "good" {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if good.Load() < 19 { // a retry may have saved the first
		t.Errorf("%d of 20 got the answer", good.Load())
	}
}

// testCacheFill: clients that leave, or read slowly, do not disturb others; what is too large streams
// through.
func testCacheFill(t *testing.T, o *cacheOrigin, c *cacheClient, in *instance) {
	body := strings.Repeat("0123456789abcdef", 50_000) // 800 kB, more than sockets hold at once
	release := make(chan struct{})
	o.handle("/fill/left", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = io.WriteString(w, body[:1000])
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, body[1000:])
	})
	conn, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /fill/left HTTP/1.1\r\nHost: %s\r\n\r\n", in.addr)
	if _, err := io.ReadFull(conn, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // the first client goes in the middle
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	if _, got := c.do("GET", "/fill/left"); got != body {
		t.Errorf("after the first client has left, the second gets %d bytes, want %d", len(got), len(body))
	}
	if n := o.counted("/fill/left"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}

	// The first client reads nothing: the second gets everything all the same.
	o.handle("/fill/slow", respondWith(body, fresh))
	slow, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_ = slow.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(slow, "GET /fill/slow HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", in.addr)
	if _, err := io.ReadFull(slow, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, got := c.do("GET", "/fill/slow"); got != body || time.Since(start) > prompt {
		t.Errorf("beside a slow client another gets %d bytes in %v", len(got), time.Since(start))
	}
	if n := o.counted("/fill/slow"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	if rest, err := io.ReadAll(slow); err != nil || !bytes.Contains(rest, []byte(body[len(body)-100:])) {
		t.Errorf("the slow client gets %d bytes, %v", len(rest), err)
	}

	// More than max_object streams through and is not stored, whether its length is known or not.
	large := strings.Repeat(body, 8)
	for _, path := range []string{"/fill/large", "/fill/chunked"} {
		o.handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			if path == "/fill/large" {
				w.Header().Set("Content-Length", strconv.Itoa(len(large)))
			}
			_, _ = io.WriteString(w, large)
		})
		for range 2 {
			if _, got := c.do("GET", path); got != large {
				t.Errorf("%s: got %d bytes, want %d", path, len(got), len(large))
			}
		}
		if n := o.counted(path); n != 2 {
			t.Errorf("%s: the origin was asked %d times", path, n)
		}
	}

	// What was cut short is not served to others.
	o.handle("/fill/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := c.http.Get("http://" + c.addr + "/fill/cut")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil && resp.StatusCode != 502 {
		t.Errorf("a cut answer looks complete: %s", resp.Status)
	}
	o.handle("/fill/cut", respondWith("whole", fresh))
	if _, got := c.do("GET", "/fill/cut"); got != "whole" {
		t.Errorf("after a cut answer others get %q", got)
	}
}

// testCacheRefresh is about validation and what is served stale.
func testCacheRefresh(t *testing.T, o *cacheOrigin, c *cacheClient) {
	var validated atomic.Int32
	o.handle("/validate", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"v"`)
		if r.Header.Get("If-None-Match") == `"v"` {
			validated.Add(1)
			w.Header().Set("X-New", "yes")
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	c.do("GET", "/validate")
	resp, body := c.do("GET", "/validate")
	if resp.StatusCode != 200 || body != "body" || validated.Load() != 1 || resp.Header.Get("X-New") != "yes" {
		t.Errorf("validated %d times: got %d %q %v", validated.Load(), resp.StatusCode, body, resp.Header)
	}
	if resp, _ := c.do("GET", "/validate", `If-None-Match: "v"`); resp.StatusCode != 304 {
		t.Errorf("a conditional request gets %d", resp.StatusCode)
	}

	var n atomic.Int32
	o.handle("/swr", func(w http.ResponseWriter, _ *http.Request) {
		age, i := 600, n.Add(1)
		if i == 1 {
			age = 1
		}
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d, stale-while-revalidate=60", age))
		fmt.Fprintf(w, "%d", i)
	})
	o.handle("/sie", func(w http.ResponseWriter, _ *http.Request) {
		if o.counted("/sie") > 1 {
			w.WriteHeader(500)
			return
		}
		w.Header().Set("Cache-Control", "max-age=1, stale-if-error=60")
		_, _ = io.WriteString(w, "old")
	})
	c.do("GET", "/swr")
	c.do("GET", "/sie")
	time.Sleep(2100 * time.Millisecond)
	if resp, body := c.do("GET", "/swr"); body != "1" {
		t.Errorf("stale-while-revalidate: got %q %q", body, resp.Header.Get("Cache-Status"))
	}
	if resp, body := c.do("GET", "/sie"); resp.StatusCode != 200 || body != "old" {
		t.Errorf("stale-if-error: got %d %q", resp.StatusCode, body)
	}
	strict.Eventually(t, "refreshed", func() bool {
		_, body := c.do("GET", "/swr")
		return body == "2"
	})
	if n.Load() != 2 {
		t.Errorf("after the refresh: the origin was asked %d times", n.Load())
	}
}
