// Package admin serves the people and programs that look after a running
// wproxy: metrics, health, status, reload and stop, over HTTP.
//
// The nouns: a door is one socket it answers on. A private door (a unix socket
// of mode 0600) may read and write; a public one (TCP) may read, and write and
// profile only with a token. The one rule of use: what admin shows and does is passed in as
// functions; it knows nothing of the proxy.
//
// It is built on net/http: it serves operators, not clients, and must not
// share a line of code with what it is there to report on.
package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Server. The functions are called from several goroutines.
type Options struct {
	// Metrics answers /metrics.
	Metrics http.Handler

	// Ready returns why wproxy should get no traffic; nothing: it is ready.
	Ready func() []string

	// Status returns what /status shows as JSON.
	Status func() any

	// Live returns what the page shows, as JSON has it. With all set it is for somebody
	// who has seen nothing yet; else it says what is new since the last call without.
	Live func(all bool) any

	// Reload loads the configuration anew and returns what changed, one
	// change a line, or why it was refused and everything stays as it was.
	Reload func(ctx context.Context) (changes []string, err error)

	// Diff says what Reload would change if the main file of the configuration had this
	// content; nil: as the file is now. name is what messages call it; "": its own name. What
	// it returns is answered as JSON. nil: nobody can say.
	Diff func(name string, content []byte) (any, error)

	// Drain keeps requests from one server of an upstream, or lets them come again. It
	// returns what changed, which may be nothing.
	Drain func(upstream, server string, on bool) (changes []string, err error)

	// Upgrade hands over to another process, started from the file binary, "": from this
	// one's own, that has limit to come to serve, 0: the usual time. It returns what to tell
	// the caller, or why everything stays as it was. nil: it cannot.
	Upgrade func(ctx context.Context, binary string, limit time.Duration) (changes []string, err error)

	// Stop asks for an end: graceful, or now. It does not wait.
	Stop func(now bool)

	// Purge removes what plugins have stored, and returns how much that was. how is
	// "url", "prefix" or "tag". nil: there is nothing to purge.
	Purge func(how, what string) (removed int, err error)
}

// A Reply is the JSON answer to a POST.
type Reply struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"`
	Changes []string `json:"changes,omitempty"`
	Removed int      `json:"removed,omitempty"` // by a purge
}

// Door describes a socket that a Server answers on.
type Door struct {
	Listener net.Listener

	// Private doors may write without a token, and do not look at Host.
	Private bool

	// Host is an additional host name that requests may be addressed to: the
	// one in admin.address, if it is a name. IP literals and "localhost" always
	// may; any other name is a web page that rebinds DNS.
	Host string

	// Page serves the page for people, and its events; private doors always do.
	Page bool

	// Token, with Write, allows POST and profiles to those who send
	// "authorization: Bearer TOKEN". An empty Token allows nobody.
	Write bool
	Token string
}

// A Server answers on any number of doors, which may come and go.
type Server struct {
	o   Options
	hub *hub

	mu sync.Mutex
	// Guarded by mu.
	doors  map[net.Listener]*door
	closed bool
	wg     sync.WaitGroup // the doors' goroutines
}

// A door is a socket that answers.
type door struct {
	server   *http.Server
	settings atomic.Pointer[Door]
}

// New makes a Server without a door. Every function of o is required.
func New(o Options) *Server {
	return &Server{o: o, hub: newHub(o.Live), doors: map[net.Listener]*door{}}
}

// Open starts answering on d, whose Listener belongs to the Server from now
// on. After Close it is closed at once.
func (s *Server) Open(d Door) {
	o := &door{}
	o.settings.Store(&d)
	o.server = &http.Server{
		Handler:           o.guard(s.routes(o)),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytes,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = d.Listener.Close() // nobody has connected yet
		return
	}
	s.doors[d.Listener] = o
	s.wg.Go(func() { // ended by Close and Shut, which close it
		// The error is ErrServerClosed, or the listener's: then this door is
		// shut, and the others go on.
		_ = o.server.Serve(limited(d.Listener))
	})
}

// Change makes d's settings those of the door that has d.Listener, from the
// next request on.
func (s *Server) Change(d Door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.doors[d.Listener]; o != nil {
		o.settings.Store(&d)
	}
}

// Shut closes the door that has listener l, and the requests on it.
func (s *Server) Shut(l net.Listener) {
	s.mu.Lock()
	o := s.doors[l]
	delete(s.doors, l)
	s.mu.Unlock()
	if o != nil {
		_ = o.server.Close() // nothing left to do about an error
	}
}

// Close closes all doors, waits for answers that are being written until ctx is
// done, and returns when everything has ended.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.hub.close() // those who watch would never leave
	doors := s.doors
	s.doors = nil
	s.mu.Unlock()
	for _, o := range doors {
		if o.server.Shutdown(ctx) != nil {
			_ = o.server.Close() // as above
		}
	}
	s.wg.Wait()
}

// Changed says that something has happened that those who watch should not have to wait a
// second for. It does not block, and may be called with locks held.
func (s *Server) Changed() { s.hub.changed() }

// routes lists every path.
func (s *Server) routes(o *door) http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", s.o.Metrics)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	m.HandleFunc("GET /readyz", s.readyz)
	m.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.o.Status()) })
	m.HandleFunc("POST /reload", s.reload)
	m.HandleFunc("POST /diff", func(w http.ResponseWriter, r *http.Request) { s.diff(w, r, o.settings.Load().Private) })
	m.HandleFunc("POST /stop", s.stop)
	m.HandleFunc("POST /upgrade", o.private(s.upgrade))
	m.HandleFunc("POST /upstreams/{upstream}/servers/{server}/drain", s.drain(true))
	m.HandleFunc("POST /upstreams/{upstream}/servers/{server}/ready", s.drain(false))
	m.HandleFunc("POST /purge", s.purge)
	m.HandleFunc("GET /{$}", o.root)
	m.HandleFunc("GET /page/{file}", o.paged(serveFile))
	m.HandleFunc("GET /events", o.paged(s.hub.serve))
	m.HandleFunc("GET /live", o.paged(func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.o.Live(true)) }))
	m.HandleFunc("GET /debug/pprof/", pprof.Index)
	m.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return m
}

func index(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, `wproxy
/metrics       Prometheus metrics
/healthz       200: the process is up
/readyz        200: wants traffic; 503: does not, and why
/status        what it is doing, as JSON
/              with a browser: the page
/live, /events what the page shows, as JSON, once or each second
/debug/pprof/  profiles (as POST: on the unix socket, or with a token)
POST /reload   read the configuration again
POST /diff     what that would change; with a body (on the unix socket): if this were the file
POST /stop     drain and end; ?now=1: end
POST /upgrade  hand over to a new process (on the unix socket)
POST /upstreams/NAME/servers/ADDRESS/drain  (or ready) keep requests from a server
POST /purge    remove from caches: ?url=, ?prefix= or ?tag=
`)
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if why := s.o.Ready(); len(why) > 0 {
		text(w, http.StatusServiceUnavailable, strings.Join(why, "\n")+"\n")
		return
	}
	text(w, http.StatusOK, "ready\n")
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	// A caller that leaves does not leave half a reload behind.
	changes, err := s.o.Reload(context.WithoutCancel(r.Context()))
	if err != nil {
		reply(w, http.StatusUnprocessableEntity, Reply{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, Reply{OK: true, Changes: changes})
}

// upgrade hands over; ?binary= is a path, ?timeout= milliseconds.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var limit time.Duration
	if t := q.Get("timeout"); t != "" {
		ms, err := strconv.Atoi(t)
		if err != nil || ms <= 0 {
			reply(w, http.StatusBadRequest, Reply{Error: "?timeout= wants milliseconds"})
			return
		}
		limit = time.Duration(ms) * time.Millisecond
	}
	if s.o.Upgrade == nil {
		reply(w, http.StatusNotImplemented, Reply{Error: "it cannot hand over"})
		return
	}
	changes, err := s.o.Upgrade(context.WithoutCancel(r.Context()), q.Get("binary"), limit) // as a reload
	if err != nil {
		reply(w, http.StatusUnprocessableEntity, Reply{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, Reply{OK: true, Changes: changes})
}

// private answers on private doors alone: it is for what runs programs on this machine.
func (o *door) private(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !o.settings.Load().Private {
			text(w, http.StatusForbidden, "only on the unix socket\n")
			return
		}
		next(w, r)
	}
}

// diff takes nothing or, on private doors, the content of a file: what that refers to, the
// environment and files of this process, is in names and messages of the answer.
func (s *Server) diff(w http.ResponseWriter, r *http.Request, private bool) {
	content, err := io.ReadAll(r.Body)
	if len(content) > 0 && !private {
		text(w, http.StatusForbidden, "a configuration of your own: only on the unix socket\n")
		return
	}
	switch {
	case s.o.Diff == nil:
		err = errors.New("nobody can say what a reload would change")
	case err != nil:
		err = fmt.Errorf("reading the configuration: %w", err)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, Reply{Error: err.Error()})
		return
	}
	if len(content) == 0 {
		content = nil
	}
	v, err := s.o.Diff(r.URL.Query().Get("name"), content)
	if err != nil {
		reply(w, http.StatusUnprocessableEntity, Reply{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, v)
}

// drain and ready are about one server. Slashes in its address are written %2F.
func (s *Server) drain(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		changes, err := s.o.Drain(r.PathValue("upstream"), r.PathValue("server"), on)
		if err != nil {
			reply(w, http.StatusNotFound, Reply{Error: err.Error()})
			return
		}
		reply(w, http.StatusOK, Reply{OK: true, Changes: changes})
	}
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusAccepted, Reply{OK: true})
	// The answer is on its way before the doors close.
	_ = http.NewResponseController(w).Flush() // a caller that left needs none
	s.o.Stop(r.URL.Query().Get("now") == "1")
}

// purge removes from caches what the query names: exactly one of url, prefix and tag.
func (s *Server) purge(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	how := ""
	for _, name := range []string{"url", "prefix", "tag"} {
		if q.Has(name) && how != "" || len(q[name]) > 1 {
			how = ""
			break
		}
		if q.Has(name) {
			how = name
		}
	}
	if how == "" || q.Get(how) == "" || s.o.Purge == nil {
		reply(w, http.StatusBadRequest, Reply{Error: "want exactly one of ?url=, ?prefix= and ?tag="})
		return
	}
	n, err := s.o.Purge(how, q.Get(how))
	if err != nil {
		reply(w, http.StatusBadRequest, Reply{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, Reply{OK: true, Removed: n})
}

// guard refuses what a door does not allow.
func (o *door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := o.settings.Load()
		limit := int64(bodyBytes)
		if r.URL.Path == "/diff" {
			limit = configBytes
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		if !d.Private {
			if !addressed(r.Host, d.Host) {
				text(w, http.StatusMisdirectedRequest, "this host name is not served here\n")
				return
			}
			if needsToken(r) && !d.mayWrite(r) {
				text(w, http.StatusForbidden,
					"read-only here, and no profiles: use the unix socket, or set admin.write and admin.token and send authorization: Bearer TOKEN\n")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// needsToken tells what a public door does not do for everybody: changes, and
// profiles, which cost CPU for as long as the caller says and show the command
// line and the stacks of what everybody is doing.
func needsToken(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead || strings.HasPrefix(r.URL.Path, "/debug/")
}

// mayWrite checks the token of r.
func (d *Door) mayWrite(r *http.Request) bool {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && d.Write && d.Token != "" && subtle.ConstantTimeCompare([]byte(got), []byte(d.Token)) == 1
}

// addressed reports whether host, a Host field, may be used; see Door.Host.
func addressed(host, own string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return slices.ContainsFunc([]string{"localhost", own}, func(s string) bool {
		return s != "" && strings.EqualFold(s, name)
	})
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a caller that left needs no answer
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		text(w, http.StatusInternalServerError, "cannot encode: "+err.Error()+"\n")
		return
	}
	h := w.Header()
	protect(h)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store") // it names clients, and is old in a second
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // as in text
}

// limited caps the open connections of a listener.
func limited(l net.Listener) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, connections), done: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots chan struct{}
	once  sync.Once
	done  chan struct{} // closed by Close
}

// Accept implements net.Listener; it waits for a slot first.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if uc, ok := c.(*net.UnixConn); ok && !sameUser(uc) {
			_ = c.Close() // a stranger; the mode of the file keeps them away already
			continue
		}
		return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
	}
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn; it gives the slot back.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
