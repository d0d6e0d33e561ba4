package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dial connects to the proxy as its clients do.
func (s *server) dial(ctx context.Context) (net.Conn, error) {
	if s.feat&withTLS != 0 {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it was made a moment ago, by us
		return d.DialContext(ctx, "tcp", s.address)
	}
	return dialPlain(s.address)(ctx)
}

// dialPlain connects to address without TLS.
func dialPlain(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

// get asks address for path on a connection of its own. The status is that of
// the answer, or 0.
func get(ctx context.Context, dial func(context.Context) (net.Conn, error), address, path string) (status int, body []byte, err error) {
	c, err := dial(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	return exchange(c, address, path, "close")
}

// exchange sends one GET on c and reads its answer.
func exchange(c net.Conn, address, path, connection string) (int, []byte, error) {
	if err := c.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n", path, address, connection); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}

// mallocs returns how many heap objects the Go program whose metrics page is
// at address has allocated since its start.
func mallocs(ctx context.Context, address string) (float64, error) {
	status, body, err := get(ctx, dialPlain(address), address, "/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("/metrics answers %d", status)
	}
	for line := range strings.Lines(string(body)) {
		if v, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, errors.New("/metrics has no go_memstats_mallocs_total")
}

// idlers are connections that have had one answer and are kept open.
type idlers struct {
	mu    sync.Mutex
	conns []net.Conn
	err   error // the first
}

// openIdle opens n keep-alive connections to srv, idleBatch at a time.
func openIdle(ctx context.Context, srv *server, n int) (*idlers, error) {
	var l idlers
	var wg sync.WaitGroup
	slots := make(chan struct{}, idleBatch)
	for range n {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() { // ends with its one exchange, which has a deadline
			l.open(ctx, srv)
			<-slots
		})
	}
	wg.Wait()
	if err := errors.Join(ctx.Err(), l.err); err != nil {
		l.close()
		return nil, err
	}
	return &l, nil
}

// open adds one connection.
func (l *idlers) open(ctx context.Context, srv *server) {
	c, err := srv.dial(ctx)
	var status int
	if err == nil {
		status, _, err = exchange(c, srv.address, "/1k", "keep-alive")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil {
		l.conns = append(l.conns, c)
	}
	if l.err == nil {
		l.err = err
	}
}

// alive counts the connections that have not been closed by the other side.
func (l *idlers) alive() int {
	n := 0
	for _, c := range l.conns {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		sc, ok := c.(syscall.Conn)
		if !ok {
			continue
		}
		if err := c.SetDeadline(time.Time{}); err != nil { // that of its exchange has passed
			continue
		}
		raw, err := sc.SyscallConn()
		if err != nil {
			continue
		}
		var one [1]byte
		var peek error
		err = raw.Read(func(fd uintptr) bool {
			var got int
			got, _, peek = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if got > 0 { // TLS: a ticket that nobody has read
				peek = syscall.EAGAIN
			}
			return true
		})
		if err == nil && errors.Is(peek, syscall.EAGAIN) {
			n++
		}
	}
	return n
}

// close closes all connections.
func (l *idlers) close() {
	for _, c := range l.conns {
		_ = c.Close() // nothing more is expected of it
	}
}
