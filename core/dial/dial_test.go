package dial_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// A conn is a pool.Conn that remembers what it was made of.
type conn struct {
	pool.Conn
	nc net.Conn
}

func newConn(nc net.Conn) pool.Conn { return conn{nc: nc} }

func TestDial(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	here, there := net.Pipe()
	defer there.Close()

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	closed.Close()

	parse := func(s string) *upstream.Endpoint {
		e, err := upstream.NewEndpoint(s, 1)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	tests := []struct {
		name   string
		e      *upstream.Endpoint
		reason string // "": it works
		status int
	}{
		{"tcp", parse(tcp.Addr().String()), "", 0},
		{"by name", parse("localhost:" + port), "", 0},
		{"unix", parse("unix:" + path), "", 0},
		{"in process", upstream.NewLocal("x", 1, func(context.Context) (net.Conn, error) { return here, nil }), "", 0},
		{"nobody listens", parse(dead), "upstream_refused", 502},
		{"no socket", parse("unix:" + path + "x"), "upstream_refused", 502},
		{"no such name", parse("does-not-exist.invalid:80"), "upstream_unresolved", 502},
		{"in process, failing", upstream.NewLocal("x", 1, func(context.Context) (net.Conn, error) { return nil, errors.New("no") }), "upstream_unreachable", 502},
	}
	d := dial.New(dial.Options{NewConn: newConn})
	for _, tt := range tests {
		c, err := d.Dial(t.Context(), tt.e)
		if tt.reason == "" {
			k, ok := c.(conn)
			if err != nil || !ok {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			k.nc.Close()
			continue
		}
		var e *exchange.Error
		if !errors.As(err, &e) || e.Reason != tt.reason || e.Status != tt.status && tt.name != "no such name" ||
			e.Retry != exchange.RetryAlways || e.Side != exchange.UpstreamSide {
			t.Errorf("%s: got %v, want %d %s", tt.name, err, tt.status, tt.reason)
		}
	}
}

func TestConnectTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		black := upstream.NewLocal("hole", 1, func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		d := dial.New(dial.Options{NewConn: newConn, Total: 3 * time.Second})
		start := time.Now()
		_, err := d.Dial(t.Context(), black)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Reason != "upstream_connect_timeout" || e.Status != 504 || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := d.Dial(ctx, black); !errors.Is(err, context.Canceled) {
			t.Errorf("client gone: got %v", err)
		}
	})
}
