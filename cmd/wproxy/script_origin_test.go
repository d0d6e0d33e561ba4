package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// An origin is a scripted upstream server.
type origin struct {
	listener net.Listener
	answer   func(c net.Conn, r *http.Request) (keep bool)
	gate     chan struct{} // one receive per answer, of kind gate
	requests atomic.Int64
	status   atomic.Int64 // of kind switch

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu; nil once closed
	wg    sync.WaitGroup
}

// cmdOrigin starts an upstream, at $NAME, with the port $NAME_PORT; with -tls and -h2 in
// front of its name one that speaks those (script_tls_test.go). Kinds:
//
//	echo              200, with the request as it arrived as the body
//	status CODE [field: value]...  this status, with the name of the origin as the body
//	slow DURATION     200 after a while
//	gate              200 when the script says release
//	switch            the status that the script says, with the name of the origin as the
//	                  body; checks (user-agent wproxy-health) are not counted as received.
//	                  With -h2 it answers gRPC's health checks, too: SERVING with 200
//	hang              reads, and never answers
//	reset             reads a request, and resets the connection
//	cut               200 with half of the body that it announces
//	garbage           bytes that are no HTTP
//	upgrade           101 to the protocol that was asked for; then it sends back what it gets
//	refused           nobody listens
func cmdOrigin(ts *testscript.TestScript, neg bool, args []string) {
	secure, args := originFlags(ts, args)
	noNeg(ts, neg, args, 2)
	name, kind, rest := args[0], args[1], args[2:]
	addr := hold(ts) // down, it keeps its port
	ts.Setenv(name, addr)
	_, port, err := net.SplitHostPort(addr)
	ts.Check(err)
	ts.Setenv(name+"_PORT", port)
	if kind == "refused" {
		return
	}
	l, err := net.Listen("tcp", addr)
	ts.Check(err)
	if secure.tls != nil && !secure.h2 {
		l = tls.NewListener(l, secure.tls)
	}
	o := &origin{listener: l, conns: map[net.Conn]bool{}, gate: make(chan struct{}, 100)}
	o.answer, err = o.kind(name, kind, rest)
	ts.Check(err)
	stateOf(ts).origins[name] = o
	if secure.h2 {
		o.serveHTTP2(ts, secure, kind, name)
		return
	}
	o.wg.Go(o.accept)
	ts.Defer(o.close)
}

// kind returns how to answer.
func (o *origin) kind(name, kind string, args []string) (func(net.Conn, *http.Request) bool, error) {
	ok := func(c net.Conn, status int, fields []string, body string) bool {
		head := fmt.Sprintf("HTTP/1.1 %d %s\r\ncontent-length: %d\r\n", status, http.StatusText(status), len(body))
		for _, f := range fields {
			head += f + "\r\n"
		}
		_, err := io.WriteString(c, head+"\r\n"+body)
		return err == nil
	}
	switch kind {
	case "echo":
		return func(c net.Conn, r *http.Request) bool { return ok(c, 200, nil, echoText(r)) }, nil
	case "status":
		if len(args) == 0 {
			return nil, errors.New("which status?")
		}
		status, err := strconv.Atoi(args[0])
		return func(c net.Conn, _ *http.Request) bool { return ok(c, status, args[1:], name+"\n") }, err
	case "slow":
		if len(args) != 1 {
			return nil, errors.New("how slow?")
		}
		d, err := time.ParseDuration(args[0])
		return func(c net.Conn, _ *http.Request) bool {
			time.Sleep(d) // the scripted behaviour
			return ok(c, 200, nil, name+"\n")
		}, err
	case "gate":
		return func(c net.Conn, _ *http.Request) bool {
			<-o.gate
			return ok(c, 200, nil, name+"\n")
		}, nil
	case "switch":
		o.status.Store(200)
		return func(c net.Conn, r *http.Request) bool {
			if r.UserAgent() == "wproxy-health" {
				o.requests.Add(-1)
			}
			return ok(c, int(o.status.Load()), nil, name+"\n")
		}, nil
	case "hang":
		return func(c net.Conn, _ *http.Request) bool {
			_, _ = io.Copy(io.Discard, c)
			return false
		}, nil
	case "reset":
		return func(c net.Conn, _ *http.Request) bool {
			if tc, ok := c.(*net.TCPConn); ok {
				_ = tc.SetLinger(0)
			}
			return false
		}, nil
	case "cut":
		return func(c net.Conn, _ *http.Request) bool {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"+strings.Repeat("x", 50))
			return false
		}, nil
	case "upgrade":
		return func(c net.Conn, r *http.Request) bool {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
			_, _ = io.Copy(c, c)
			return false
		}, nil
	case "garbage":
		return func(c net.Conn, _ *http.Request) bool {
			_, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n\r\n")
			return false
		}, nil
	}
	return nil, fmt.Errorf("there is no origin of kind %q", kind)
}

// echoText writes a request down: request line, Host, fields sorted, body.
func echoText(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\nhost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	body, err := io.ReadAll(r.Body)
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", body)
	}
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

func (o *origin) accept() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		if o.conns == nil {
			o.mu.Unlock()
			_ = c.Close()
			return
		}
		o.conns[c] = true
		o.wg.Go(func() { o.serve(c) })
		o.mu.Unlock()
	}
}

func (o *origin) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		o.requests.Add(1)
		if !o.answer(c, req) {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // what the answer did not need
	}
}

func (o *origin) close() {
	o.mu.Lock()
	conns := o.conns
	o.conns = nil
	o.mu.Unlock()
	_ = o.listener.Close()
	close(o.gate)
	for c := range conns {
		_ = c.Close()
	}
	o.wg.Wait()
}

// cmdDown has an upstream die: nobody listens, and its connections are closed.
func cmdDown(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	o := originOf(ts, args[0])
	ts.Check(o.listener.Close())
	o.mu.Lock()
	for c := range o.conns {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
}

// cmdUp has one that has died listen again, at the same address.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	o := originOf(ts, args[0])
	l, err := net.Listen("tcp", o.listener.Addr().String())
	ts.Check(err)
	o.listener = l
	o.wg.Go(o.accept)
}

func originOf(ts *testscript.TestScript, name string) *origin {
	o := stateOf(ts).origins[name]
	if o == nil {
		ts.Fatalf("there is no origin %s", name)
	}
	return o
}

func cmdRelease(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	originOf(ts, args[0]).gate <- struct{}{}
}

// cmdReceived waits until an origin has got so many requests, and checks that
// it is not more.
func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	o := originOf(ts, args[0])
	want, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	for deadline := time.Now().Add(patience); o.requests.Load() < want && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // polling
	}
	if got := o.requests.Load(); got != want {
		ts.Fatalf("%s received %d requests, want %d", args[0], got, want)
	}
}

// cmdShare checks that an origin has got between LEAST and MOST requests.
func cmdShare(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 3)
	least, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	most, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	if got := originOf(ts, args[0]).requests.Load(); got < least || got > most {
		ts.Fatalf("%s received %d requests, want %d to %d", args[0], got, least, most)
	}
}
