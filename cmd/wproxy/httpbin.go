package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
)

// httpbinName is the name of the built-in upstream server.
const httpbinName = "httpbin"

const (
	// httpbinBody and httpbinDuration bound what a request can ask httpbin for.
	httpbinBody     = 64 << 20
	httpbinDuration = 30 * time.Second

	// httpbinHeaderTime and httpbinIdle are above what wproxy's pool keeps.
	httpbinHeaderTime = 10 * time.Second
	httpbinIdle       = 2 * time.Minute
)

// A localServer is an upstream server inside the process, on a loopback
// socket of its own: wproxy speaks to it as to any other server, over TCP and
// from the same pools, so that what is tried out on it holds elsewhere. (A
// net.Pipe would do without the socket, but has no buffer: both sides would
// block where a socket does not.)
type localServer struct {
	address string
	server  *http.Server
	done    sync.WaitGroup
}

// startHTTPBin starts builtin:httpbin.
func startHTTPBin(ctx context.Context) (*localServer, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &localServer{address: l.Addr().String(), server: &http.Server{
		Handler: httpbin.New(
			httpbin.WithMaxBodySize(httpbinBody),
			httpbin.WithMaxDuration(httpbinDuration),
		),
		ReadHeaderTimeout: httpbinHeaderTime,
		IdleTimeout:       httpbinIdle,
	}}
	s.done.Go(func() { // ended by close
		_ = s.server.Serve(l) // always ErrServerClosed, or the socket is gone: then dialling says so
	})
	return s, nil
}

// dial makes a connection to it.
func (s *localServer) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.address)
}

// close ends it and its connections.
func (s *localServer) close() {
	_ = s.server.Close() // nothing to do about an error
	s.done.Wait()
}

// errNoBuiltin is the error for "builtin:NAME" of a server that is not one.
var errNoBuiltin = errors.New("there is no such built-in server; there is builtin:" + httpbinName)
