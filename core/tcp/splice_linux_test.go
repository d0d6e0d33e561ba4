package tcp_test

import (
	"io"
	"net"
	"testing"
	"time"
)

// Clients that do not read have pipes for as long. They get so many: what others are sent is
// copied then, and comes through all the same.
func TestPipesAreBounded(t *testing.T) {
	t.Parallel()
	const size = 16 << 20 // more than sockets hold
	s := newSetup(t, nil, server(t, func(c *net.TCPConn) {
		if n, _ := c.Write(make([]byte, size)); n == size {
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c)
	}))
	s.proxy.SetMaxPipes(2)
	var slow []*net.TCPConn
	for range 4 {
		c, _ := s.connect()
		slow = append(slow, c)
	}
	for end := time.Now().Add(patience); s.proxy.Pipes() < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for _, c := range slow { // one after the other: those behind it go on waiting
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
		if n := s.proxy.Pipes(); n > 2 {
			t.Errorf("%d pipes", n)
		}
		_ = c.CloseWrite()
	}
}
