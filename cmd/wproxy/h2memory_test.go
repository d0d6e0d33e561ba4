package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const h2MemoryConfig = `
[server]
h2_memory = "@MEMORY"

[listeners.http]
address = "@ADDR"
protocols = ["h2c"]

[admin]
address = "@ADMIN"

[log]
access = { to = "@ACCESS" }

[routes.all]
path = "/*"
upstream = "silent"

[upstreams.silent]
servers = ["@SILENT"]
`

// TestH2Memory: requests that together hold more than server.h2_memory are refused, which is
// counted; a reload makes room.
func TestH2Memory(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config := strings.ReplaceAll(h2MemoryConfig, "@SILENT", l.Addr().String())
	in := startInstance(t, strings.ReplaceAll(config, "@MEMORY", "0"))
	// Two heads of 60,000 bytes are what a connection may have in any case.
	if got := refusedStreams(t, in.addr, 6); got != 4 {
		t.Errorf("%d of 6 streams were refused, want 4", got)
	}
	m, err := in.scrape()
	if got := m[`wproxy_refused_total{reason="h2_memory"}`]; err != nil || got != 4 {
		t.Errorf("%v refusals are counted (%v), want 4", got, err)
	}
	in.write(t, strings.ReplaceAll(config, "@MEMORY", "1MiB"))
	in.reload(t)
	if got := refusedStreams(t, in.addr, 6); got != 0 {
		t.Errorf("%d of 6 streams were refused where there is room", got)
	}
}

// refusedStreams opens n streams with heads of 60,000 bytes on a connection of their own, and
// returns how many were refused.
func refusedStreams(t *testing.T, addr string, n int) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "GET"},
		{":scheme", "http"},
		{":authority", "a.test"},
		{":path", "/"},
		{"x-large", strings.Repeat("~", 60_000)}, // longer with Huffman's code: sent as it is
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}) // not into the table; a Buffer takes everything
	}
	_, _ = io.WriteString(c, http2.ClientPreface) // what fails shows in what is read
	fr := http2.NewFramer(c, c)
	_ = fr.WriteSettings()
	for i := range n {
		id := uint32(2*i + 1) //nolint:gosec // a few
		p := b.Bytes()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: p[:16<<10]})
		for p = p[16<<10:]; len(p) > 0; {
			m := min(len(p), 16<<10)
			_ = fr.WriteContinuation(id, m == len(p), p[:m])
			p = p[m:]
		}
	}
	_ = fr.WritePing(false, [8]byte{1})
	refused := 0
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeRefusedStream {
				t.Errorf("stream %d was reset with %v", f.StreamID, f.ErrCode)
			}
			refused++
		case *http2.GoAwayFrame:
			t.Fatalf("GOAWAY: %v", f)
		case *http2.PingFrame:
			if f.IsAck() {
				return refused
			}
		}
	}
}
