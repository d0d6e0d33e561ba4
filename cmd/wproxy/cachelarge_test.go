package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// heapInUse returns the bytes of live and not yet collected objects.
func heapInUse() int64 {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// testCacheLarge: an object that is far larger than what may be stored streams through in flat
// memory, whether its length is known or not, beside a client that reads nothing of it.
// WPROXY_LONG=1 makes it 1 GiB.
func testCacheLarge(t *testing.T, o *cacheOrigin, c *cacheClient) {
	size := int64(128 << 20)
	if os.Getenv("WPROXY_LONG") != "" {
		size = 1 << 30
	}
	const most = 64 << 20 // what the collector lets lie about, at worst, and far from size
	piece := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	for _, kind := range []string{"length", "chunked"} {
		path := "/large/" + kind
		o.handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			if kind == "length" {
				w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			}
			for range size / int64(len(piece)) {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		})
		var slow net.Conn
		if kind == "length" { // it cannot be stored, so that each has its own from the upstream
			slow = stalled(t, c.addr, path)
		}
		runtime.GC()
		before := heapInUse()
		var high atomic.Int64
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // ends with the download
			defer close(done)
			for {
				high.Store(max(high.Load(), heapInUse()))
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}()
		client := &http.Client{Transport: c.http.Transport, Timeout: 2 * time.Minute}
		resp, err := client.Get("http://" + c.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		close(stop)
		<-done
		if n != size || err != nil {
			t.Errorf("%s: %d of %d bytes, %v", kind, n, size, err)
		}
		if grew := high.Load() - before; grew > most {
			t.Errorf("%s: while %d bytes pass, the heap grows by %d", kind, size, grew)
		}
		if slow != nil {
			_ = slow.Close()
		}
	}
}

// stalled asks for a path, and reads the beginning of the answer and no more.
func stalled(t *testing.T, addr, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, addr)
	if _, err := io.ReadFull(c, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	return c
}
