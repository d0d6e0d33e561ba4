// Package listen owns the sockets that clients connect to: it accepts, counts
// and caps connections, and gives each one a goroutine, which it may give back while it
// rests.
//
// The nouns: a [Listener] is one socket; a connection is what it accepted,
// together with the facts about it ([exchange.Conn]). The one rule of use: bind
// with [Listen], then call [Listener.Start]; whoever has a Listener closes it
// and waits for it.
//
// listen knows no protocol: what a connection is for is Options.Serve's
// business. Its limits are in limits.go.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wproxy/core/exchange"
)

// Options of a Listener.
type Options struct {
	// Name is the listener's name in the configuration; it becomes
	// exchange.Conn.Listener.
	Name string

	// Address is "host:port" (an empty host means every address of the
	// machine, port 0 any free port) or "unix:/path".
	Address string

	// Socket, if set, is bound already, to Address or what stands for it: it was inherited
	// from another process. It is the Listener's from then on. With Foreign the file of a
	// unix socket is not removed at the end: it is a service manager's.
	Socket  net.Listener
	Foreign bool

	// Connections is the most that are open at once. At the cap the listener
	// stops accepting and newcomers wait in the kernel's backlog, as with
	// HAProxy's maxconn. 0: DefaultConnections; negative: no cap.
	Connections int

	// PerClient is the most that one client has (ClientKey) at once; one more is closed
	// before anything is read of it. Peers in Exempt, who speak for others, and those of
	// unix sockets have no limit. 0 or less: nobody has.
	PerClient int
	Exempt    []netip.Prefix

	// TooMany, if set, is told about each connection that PerClient closes. It must
	// not block.
	TooMany func()

	// Settings are what SetSettings can change.
	Settings Settings

	// ProxyRefused, if set, is told about each connection that Settings.Proxy refuses. It
	// must not block.
	ProxyRefused func(peer netip.AddrPort, err *ProxyError)

	// Serve serves one connection, on the connection's own goroutine, and
	// returns when it is done with it. c is closed afterwards in any case.
	// ctx is done when Abort was called. It may return true instead, when the connection
	// needs no goroutine for a while: then over is to be called, once, when it is done with it,
	// and Abort and HangUp do no more than they say. Required.
	Serve func(ctx context.Context, c net.Conn, facts *exchange.Conn, over func()) (rests bool)

	// Opened and Closed, if set, are told about each connection before Serve
	// is called and after c was closed. They must not block.
	Opened, Closed func()

	// AcceptError, if set, is told about each failed accept and how long the
	// listener pauses because of it. It must not block for long.
	AcceptError func(err error, pause time.Duration)

	// NextID makes Conn.ID, unique in the process. Nil: counted per listener.
	NextID func() uint64
}

// Settings are what a listener does with the connections that it accepts from now on.
type Settings struct {
	// Proxy, if set, makes connections begin with a PROXY header: they are then the
	// client's that it names, in exchange.Conn and for PerClient. What they cost others
	// is a pointer.
	Proxy *ProxyProtocol

	// Socket are the options of the sockets. ReusePort means something to Listen only.
	Socket Socket
}

// A Listener is a bound socket and the connections that came through it. Its
// methods are safe for concurrent use.
type Listener struct {
	// Immutable.
	o      Options
	ln     net.Listener
	ctx    context.Context // of the connections; done by Abort
	cancel context.CancelFunc
	loop   sync.WaitGroup // the accept goroutine
	conns  sync.WaitGroup // the connections that are open
	done   chan struct{}  // closed by Close

	settings atomic.Pointer[Settings] // of new connections

	// Owned by the accept goroutine: most connections come to one address, so
	// they share its text.
	lastLocal     netip.AddrPort
	lastLocalAddr string

	mu sync.Mutex
	// Guarded by mu.
	room    sync.Cond // signalled when open or limit changes, and by Close
	limit   int       // < 0: none
	open    int
	total   uint64
	clients clients

	perClient int
	exempt    []netip.Prefix

	head    *conn // doubly linked list of the open connections
	started bool
	closed  bool

	introducing map[*conn]struct{} // whose PROXY header is awaited; nil: none was, ever
	draining    bool               // Drain was called
}

// conn is one open connection. One allocation holds everything about it.
type conn struct {
	net.Conn
	facts      exchange.Conn
	client     netip.Addr // its ClientKey; written with Listener.mu held
	prev, next *conn      // guarded by Listener.mu
}

// Listen binds the socket; connections queue up in the kernel until Start. The
// error names listener and address.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	if o.Socket != nil {
		return newListener(ctx, o, o.Socket), nil
	}
	ln, err := bind(ctx, o.Address, &o.Settings.Socket)
	if err != nil {
		return nil, fmt.Errorf("listener %q: cannot listen on %s: %w", o.Name, o.Address, cause(err))
	}
	return newListener(ctx, o, ln), nil
}

func newListener(ctx context.Context, o Options, ln net.Listener) *Listener {
	l := &Listener{o: o, ln: ln, done: make(chan struct{}), clients: clients{}, perClient: o.PerClient, exempt: o.Exempt}
	l.room.L = &l.mu
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.SetConnections(o.Connections)
	l.settings.Store(&o.Settings)
	return l
}

// SetSettings changes what becomes of connections that are accepted from now on.
func (l *Listener) SetSettings(s Settings) {
	if was := l.settings.Swap(&s); was.Socket.Backlog != s.Socket.Backlog {
		_ = s.Socket.listen(l.ln) // the queue that there was goes on
	}
}

// bind opens the socket that address names.
func bind(ctx context.Context, address string, s *Socket) (net.Listener, error) {
	var ln net.Listener
	var err error
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		ln, err = bindUnix(ctx, path)
	} else {
		lc := net.ListenConfig{KeepAlive: -1, Control: s.control} // Socket.apply sees to keep-alive
		ln, err = lc.Listen(ctx, "tcp", address)
	}
	if err == nil && s.Backlog > 0 {
		if err = s.listen(ln); err != nil {
			_ = ln.Close() // nobody was let in
		}
	}
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// bindUnix listens on a unix socket, replacing a socket file that a process
// that did not end well has left behind: one that refuses connections.
func bindUnix(ctx context.Context, path string) (net.Listener, error) {
	var lc net.ListenConfig
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			_ = c.Close() // somebody lives there; Listen says "address already in use"
		} else if errors.Is(err, errConnRefused) {
			_ = os.Remove(path) // if it cannot be removed, Listen says so
		}
	}
	return lc.Listen(ctx, "unix", path)
}

// cause drops the "listen tcp 1.2.3.4:80:" that net puts in front: the message
// around it says so already.
func cause(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Err != nil {
		return oe.Err
	}
	return err
}

// Start starts accepting. Further calls have no effect.
func (l *Listener) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return
	}
	l.started = true
	if l.o.Socket != nil {
		l.adopt() // from now on; whoever gives up before leaves all as it was
	}
	l.loop.Go(l.accept) // ended by Close; Close waits
}

// adopt makes a socket that was inherited what the options say. What a service manager has
// made of its own stays, but for what they ask for.
func (l *Listener) adopt() {
	if s := &l.settings.Load().Socket; s.Backlog > 0 || !l.o.Foreign {
		_ = s.listen(l.ln) // as in SetSettings
	}
	if !l.o.Foreign {
		l.ownFile(true)
	}
}

// SharesPort reports whether other sockets can be bound to the address of l; see
// Socket.ReusePort.
func SharesPort(l net.Listener) bool {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	c, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	shares := false
	_ = c.Control(func(fd uintptr) { shares = reusesPort(fd) }) // it does not, if it is closed
	return shares
}

// File returns a copy of the socket, for another process. Connections can be accepted by
// both.
func (l *Listener) File() (*os.File, error) {
	f, ok := l.ln.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return f.File()
}

// Foreign returns Options.Foreign.
func (l *Listener) Foreign() bool { return l.o.Foreign }

// Leave is Close for a socket that another process has a copy of: the file of a unix
// socket stays.
func (l *Listener) Leave() error {
	l.ownFile(false)
	return l.Close()
}

// ownFile says whether Close removes the file of a unix socket.
func (l *Listener) ownFile(ours bool) {
	if u, ok := l.ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(ours)
	}
}

// Addr returns the address that the socket is bound to.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// String returns a as it stands in Options.Address: with "unix:" in front of a path.
func String(a net.Addr) string {
	if ua, ok := a.(*net.UnixAddr); ok {
		return "unix:" + ua.Name
	}
	return a.String()
}

// Name returns Options.Name.
func (l *Listener) Name() string { return l.o.Name }

// Address returns Options.Address.
func (l *Listener) Address() string { return l.o.Address }

// SetConnections changes the cap; see Options.Connections. Connections that
// are over a lower cap stay.
func (l *Listener) SetConnections(n int) {
	if n == 0 {
		n = DefaultConnections
	}
	l.mu.Lock()
	l.limit = n
	l.mu.Unlock()
	l.room.Broadcast()
}

// Open returns how many connections are open, and how many there ever were.
func (l *Listener) Open() (open int, total uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.total
}

// Close stops accepting and returns when no connection can come any more.
// Connections that are open stay. Further calls have no effect.
func (l *Listener) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	l.room.Broadcast()
	var err error
	if !closed {
		close(l.done)
		err = l.ln.Close()
	}
	l.loop.Wait()
	return err
}

// Wait returns when every connection has ended, nil, or when ctx is done, its
// error. Call Close first, or new connections make it wait for longer.
func (l *Listener) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last connection, at the latest soon after Abort
		l.conns.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HangUp makes every connection look as if its client had gone: the context
// of the connections is done, and reads end. A codec that serves somebody who has
// gone gives up what it does for them, which closing the socket under it would
// not tell it: a closed descriptor sends no event. It stops accepting and does not wait.
func (l *Listener) HangUp() {
	_ = l.Close() // the socket is gone either way
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := l.head; c != nil; c = c.next {
		if r, ok := c.Conn.(interface{ CloseRead() error }); ok {
			_ = r.CloseRead() // it may have ended just now
		}
	}
}

// Abort closes the sockets of all connections, so that whoever serves them
// fails at the next read or write. It stops accepting and does not wait.
func (l *Listener) Abort() {
	_ = l.Close() // the socket is gone either way
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := l.head; c != nil; c = c.next {
		// RST instead of FIN: a cut answer must not look complete.
		if tc, ok := c.Conn.(*net.TCPConn); ok {
			_ = tc.SetLinger(0) // it is being closed; nothing is lost if this fails
		}
		_ = c.Close()
	}
}
