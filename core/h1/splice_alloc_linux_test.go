//go:build !race && !invariants

package h1_test

import (
	"fmt"
	"io"
	"testing"
)

// TestSpliceAllocs: a large body costs no more allocations than a small one.
func TestSpliceAllocs(t *testing.T) {
	r := newRelay(t, relayOptions{})
	const size = 1 << 20
	answer := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), make([]byte, size)...)
	go func() { // ends when the upstream's end closes
		b := make([]byte, 4096)
		for {
			if _, err := r.upstream.Read(b); err != nil {
				return
			}
			if _, err := r.upstream.Write(answer); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 256<<10)
	once := func() {
		_, _ = io.WriteString(r.client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for n := 0; n < size; {
			m, err := r.client.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		if err := <-r.errs; err != nil {
			t.Fatal(err)
		}
	}
	once()
	if n := testing.AllocsPerRun(50, once); n > 8 { // of the request, of this test, and heads
		t.Errorf("%v allocations", n)
	}
}
