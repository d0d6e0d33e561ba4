package h2

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
)

// restSink takes a request and forgets it.
type restSink struct{}

func (restSink) Head(*exchange.Request, bool) error { return nil }
func (restSink) Data([]byte, bool) error            { return nil }
func (restSink) Trailer(*exchange.Fields) error     { return nil }

// restServer answers each request with nothing, after having read it.
func restServer() *Server {
	return NewServer(ServerOptions{}, func(_ context.Context, c exchange.Client) {
		if c.Feed(restSink{}) == nil {
			_ = c.Head(&exchange.Response{Status: 204}, true)
		}
	})
}

// restClient greets on nc and reads what comes.
func restClient(nc net.Conn) *http2.Framer {
	go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with the connection
	_, _ = io.WriteString(nc, http2.ClientPreface)
	fr := http2.NewFramer(nc, nil)
	_ = fr.WriteSettings()
	return fr
}

// A countedConn counts reads.
type countedConn struct {
	net.Conn
	reads atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

// TestUploadAfterRest: a connection that was at rest gets its buffer back, and is not read in
// pieces of the few bytes that it had meanwhile.
func TestUploadAfterRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := exchangetest.Pipe()
		cc := &countedConn{Conn: server}
		s := restServer()
		done := make(chan struct{})
		go func() { defer close(done); s.ServeConn(t.Context(), cc, nil, nil) }()
		fr := restClient(client)
		// POST http / with the authority x, of static fields and one literal.
		block := []byte{0x83, 0x86, 0x84, 0x01, 1, 'x'}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: block})
		synctest.Wait()
		time.Sleep(2 * restTime)
		synctest.Wait()
		before := cc.reads.Load()
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: block})
		for i := range 4 {
			_ = fr.WriteData(3, i == 3, make([]byte, 15<<10))
		}
		synctest.Wait()
		if n := cc.reads.Load() - before; n > 20 {
			t.Errorf("%d reads for 60 KiB", n)
		}
		_ = client.Close()
		<-done
	})
}

// A sealedConn looks at the connection that waits in it.
type sealedConn struct {
	net.Conn
	c           *serverConn
	waits, held int
	dropped     bool
}

func (s *sealedConn) Wait() error {
	if s.waits++; s.c.in.lent != nil {
		s.held++
	}
	return nil
}

func (s *sealedConn) Drop() { s.dropped = true }

// TestSealedHoldsNothing: a connection with TLS waits for every record without a buffer, not
// only when it has been at rest for a while.
func TestSealedHoldsNothing(t *testing.T) {
	client, server := net.Pipe()
	w := &sealedConn{Conn: server}
	s := restServer()
	w.c = s.open(t.Context(), w, nil, nil)
	fr := make(chan *http2.Framer, 1)
	go func() { fr <- restClient(client) }()
	go func() {
		f := <-fr
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0x83, 0x86, 0x84, 0x01, 1, 'x'}})
		_ = f.WriteData(1, true, make([]byte, 15<<10))
		_ = client.Close()
	}()
	err := w.c.readPreface()
	if err == nil {
		err = w.c.read()
	}
	err = w.c.end(err)
	w.c.endWorkers()
	s.close(w.c)
	if err == nil || w.waits < 4 || w.held > 0 || !w.dropped {
		t.Errorf("got %v; %d waits, %d of them with a buffer, dropped %v", err, w.waits, w.held, w.dropped)
	}
}
