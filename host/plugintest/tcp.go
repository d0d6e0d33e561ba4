package plugintest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host/wasmfilter"
)

// A Connection is a TCP connection as a client opens it.
type Connection struct {
	Client     string // address and port; "": 192.0.2.1:40000
	ServerName string // that the client asks for (TLS SNI); "": none
}

// A TCPSide is what has arrived at one end of a connection.
type TCPSide struct {
	Open  bool // there is a connection to the upstream; the client's is always open
	Data  []byte
	Ended bool // no more will come
}

// A TCPStream is one TCP connection that goes through plugins of kind "tcp". As with Stream,
// each method that sends something returns when nothing more can happen by itself.
type TCPStream struct {
	t        *testing.T
	x        filter.Exchange
	cancel   context.CancelFunc
	filters  []filter.TCPFilter
	down, up feeder
	first    filter.Flow // where what the client sends goes in
	back     filter.Flow // and what the upstream sends
	closed   bool

	mu       sync.Mutex
	server   TCPSide // what the upstream has got; guarded by mu
	client   TCPSide // guarded by mu
	reason   string  // why it was closed; guarded by mu
	over     bool    // it was; guarded by mu
	byClient bool
}

// Connect opens a connection through p.
func (p *Plugin) Connect(c Connection) *TCPStream {
	p.t.Helper()
	return Chain{p}.Connect(c)
}

// Connect opens a connection through all plugins of c: what the client sends passes them in
// order, what the upstream sends in reverse order.
func (c Chain) Connect(conn Connection) *TCPStream {
	if len(c) == 0 {
		panic("plugintest: empty Chain")
	}
	p := c[0]
	p.t.Helper()
	if conn.Client == "" {
		conn.Client = "192.0.2.1:40000"
	}
	remote, err := netip.ParseAddrPort(conn.Client)
	if err != nil {
		p.t.Fatalf("plugintest: Connection.Client: %v", err)
	}
	local := netip.MustParseAddrPort("198.51.100.1:8080")
	s := &TCPStream{t: p.t}
	s.client.Open = true
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	x := &s.x
	x.Context, x.Start, x.RequestID = ctx, time.Now(), "1"
	x.Request = &exchange.Request{Authority: conn.ServerName, Length: -1, Conn: &exchange.Conn{
		ID: 1, Listener: "test", Remote: remote, Local: local,
		RemoteIP: remote.Addr().String(), RemoteAddr: remote.String(), LocalAddr: local.String(),
	}}
	x.ClientAddr, x.ClientIP = remote.Addr(), remote.Addr().String()
	x.Route = &filter.Route{Name: p.o.Route, Cluster: "upstream", Metadata: p.o.Metadata}
	x.Engine = tcpEngine{s}
	s.back = tcpEnd{s, &s.client, nil}
	for _, plugin := range c {
		f, err := wasmfilter.NewTCP(plugin.root, wasmfilter.Options{
			OnError: plugin.o.OnError, BodyBuffer: plugin.o.BodyBuffer, Pause: plugin.o.Pause,
		}).NewTCP(x)
		if err != nil {
			p.t.Fatalf("plugintest: %v", err)
		}
		s.filters = append(s.filters, f)
		s.back = f.Upstream(s.back)
	}
	s.first = tcpEnd{s, &s.server, s.joined}
	for _, f := range slices.Backward(s.filters) {
		s.first = f.Downstream(s.first)
	}
	s.down.failed, s.up.failed = func(error) {}, func(error) {}
	p.sink.addCloser(s.finish)
	s.down.push(s.first.Open)
	synctest.Wait()
	return s
}

// joined is when the connection to the upstream is there.
func (s *TCPStream) joined() {
	s.x.Mu.Lock()
	s.x.Upstream = filter.Outcome{Cluster: "upstream", Address: "203.0.113.1:9000", Attempts: 1}
	s.x.Mu.Unlock()
	s.up.push(s.back.Open)
}

// Send has the client send data, and, with end set, no more after it.
func (s *TCPStream) Send(data string, end bool) {
	s.send(&s.down, s.first, data, end)
}

// Respond has the upstream send data. It has no effect before there is a connection to it.
func (s *TCPStream) Respond(data string, end bool) {
	if s.Upstream().Open {
		s.send(&s.up, s.back, data, end)
	}
}

func (s *TCPStream) send(f *feeder, to filter.Flow, data string, end bool) {
	f.push(func() error { return to.Data([]byte(data), end) })
	synctest.Wait()
}

// Upstream returns what has arrived at the upstream.
func (s *TCPStream) Upstream() TCPSide { return s.side(&s.server) }

// Client returns what has arrived at the client.
func (s *TCPStream) Client() TCPSide { return s.side(&s.client) }

func (s *TCPStream) side(of *TCPSide) TCPSide {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *of
	c.Data = slices.Clone(c.Data)
	return c
}

// Closed returns whether the connection was closed by the plugin, or for its failure, and why,
// as a log would say.
func (s *TCPStream) Closed() (reason string, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.over
}

// LogField returns a field that a plugin has added to the log.
func (s *TCPStream) LogField(name string) string {
	s.x.Mu.Lock()
	defer s.x.Mu.Unlock()
	for _, f := range s.x.LogFields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Verdict returns what the plugin called name says it decided. It is there once the
// connection is finished.
func (s *TCPStream) Verdict(name string) string {
	s.x.Mu.Lock()
	defer s.x.Mu.Unlock()
	for _, v := range s.x.Verdicts {
		if v.Plugin == name {
			return v.Verdict
		}
	}
	return ""
}

// Property returns a property that a plugin has set; parts is its path.
func (s *TCPStream) Property(parts ...string) ([]byte, bool) {
	s.x.Mu.Lock()
	defer s.x.Mu.Unlock()
	return s.x.Prop(joinPath(parts))
}

// Leave has the client close the connection, and finishes it.
func (s *TCPStream) Leave() {
	s.byClient = true
	s.finish()
}

// Finish ends the connection, by wproxy if the client has not ended it: the close callbacks,
// on_done, on_log and on_delete are called. What is still held back is dropped.
func (s *TCPStream) Finish() { s.finish() }

func (s *TCPStream) finish() {
	if s.closed {
		return
	}
	s.closed = true
	s.cancel()
	s.x.AnswerEnded()
	s.down.wait()
	s.up.wait()
	s.x.Mu.Lock()
	s.x.Finished = time.Now()
	s.x.BytesIn, s.x.BytesOut = int64(len(s.server.Data)), int64(len(s.client.Data))
	s.x.Mu.Unlock()
	s.x.Quiesce()
	for _, f := range s.filters {
		f.Close(s.byClient)
	}
	synctest.Wait()
}

// A tcpEnd is where bytes arrive.
type tcpEnd struct {
	s    *TCPStream
	side *TCPSide
	open func() // nil: it was open before
}

// Open implements filter.Flow.
func (e tcpEnd) Open() error {
	e.s.mu.Lock()
	over := e.s.over
	e.side.Open = e.side.Open || !over
	e.s.mu.Unlock()
	if over {
		return exchange.ErrAnswered
	}
	if e.open != nil {
		e.open()
	}
	return nil
}

// Data implements filter.Flow.
func (e tcpEnd) Data(p []byte, end bool) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.s.over {
		return exchange.ErrAnswered
	}
	e.side.Data, e.side.Ended = append(e.side.Data, p...), e.side.Ended || end
	return nil
}

// A tcpEngine is what a TCPFilter may ask for.
type tcpEngine struct{ s *TCPStream }

// Answer implements filter.Engine.
func (tcpEngine) Answer(filter.Filter, *filter.Answer) error { return exchange.ErrAnswered }

// Reroute implements filter.Engine.
func (tcpEngine) Reroute(bool) {}

// Abort implements filter.Engine.
func (e tcpEngine) Abort(reason string) {
	e.s.mu.Lock()
	if !e.s.over {
		e.s.over, e.s.reason = true, reason
	}
	e.s.mu.Unlock()
	e.s.cancel()
	e.s.x.AnswerEnded()
}

// Fail implements filter.Engine.
func (e tcpEngine) Fail(err *exchange.Error) {
	if !errors.Is(err, exchange.ErrAnswered) {
		e.Abort(err.Reason)
	}
}
