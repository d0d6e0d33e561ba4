package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"wproxy/core/access"
	"wproxy/core/admin"
	"wproxy/core/config"
	"wproxy/core/h1"
	"wproxy/core/handover"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
	"wproxy/core/server"
	"wproxy/core/tcp"
	"wproxy/host"
)

// adminCloseTime is how long answers of the admin server may take to be
// written at the end: that of `wproxy stop`, mostly.
const adminCloseTime = time.Second

// reloadEndTime is how long the end waits for a reload that is under way. Its
// result would not serve any more; it only should not meet the end of the host.
const reloadEndTime = time.Second

// errTwice is why a process that was told to end twice did not end in order.
var errTwice = errors.New("told to end twice: ended without waiting for what is stuck")

// An app is a running wproxy.
type app struct {
	// Immutable.
	source  source
	started time.Time
	log     *zap.Logger
	logFile *serverLog
	parts   *parts
	admin   *admin.Server
	server  *server.Server
	stops   chan bool // asks for the end; true: now

	supervisor *supervisor
	removePid  func() // takes the pid file away
	pidFile    string // its path; "": there is none
	dry        bool   // nothing is sent; see buildDry

	inherited *handover.Inherited // sockets that the process was started with
	upgrading atomic.Bool         // an upgrade is under way
	handed    chan struct{}       // told once, when another process serves
	left      sync.WaitGroup      // the answers of the admin server that were being written then

	reloading sync.Mutex // held for the whole of a reload
	ended     bool       // guarded by reloading: there are no more

	mu sync.Mutex
	// Guarded by mu, written with reloading held too.
	current    *generation
	loaded     time.Time
	doors      *adminDoors
	lastReload reloadStatus

	lastUpgrade *upgradeStatus          // nil: none was tried
	giveUpgrade context.CancelCauseFunc // gives up the one that is under way; nil: none is
	told        bool                    // to stop: there is no other process any more
	gone        bool                    // there is, and it serves
}

// runServe is `wproxy run`.
func runServe(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("run", `Usage: wproxy run [-c FILE | --to ADDRESS]

Serves a configuration until it is told to stop.

SIGHUP   read the configuration again; one that is wrong changes nothing
SIGUSR1  open the log files anew, and nothing else
SIGUSR2  start the program anew and hand over to it; see wproxy upgrade --help
SIGTERM  or SIGINT: stop accepting, finish the requests in flight (for at most
         server.drain), end; a second one ends at once`, stderr)
	find := sourceFlags(fs)
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	src, err := find()
	if err != nil {
		return fail(stderr, "run", err)
	}
	// Before anything else: a signal that arrives meanwhile must not be lost.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	log := newServerLog(stdout, stderr)
	defer log.close() // whatever the end, the last lines are written
	inherited, parent, err := handover.Receive()
	if err != nil {
		return fail(stderr, "run", err)
	}
	a, code := await(ctx, signals, newTerminal(stderr), func(ctx context.Context) (*app, error) {
		a, err := startFrom(ctx, src, log, &takeover{inherited: inherited, parent: parent})
		if err != nil && parent != nil {
			parent.Fail(err)
		}
		return a, err
	})
	if a == nil {
		return code
	}
	a.supervisor.ready()
	return a.loop(ctx, signals)
}

// startApp loads, builds, binds and serves, and logs to log, which it moves to where
// the configuration says. An error leaves nothing behind.
func startApp(ctx context.Context, src source, log *serverLog) (*app, error) {
	return startFrom(ctx, src, log, &takeover{})
}

// startFrom is startApp with what the process was started with.
func startFrom(ctx context.Context, src source, log *serverLog, from *takeover) (_ *app, err error) {
	read := time.Now()
	f, err := src.load()
	if err != nil {
		return nil, err
	}
	id, err := identityOf(&f.Server)
	if err != nil {
		return nil, err
	}
	a := &app{source: src, started: time.Now(), stops: make(chan bool, 8), log: log.logger, logFile: log, supervisor: newSupervisor(log.logger), inherited: from.inherited, handed: make(chan struct{}, 1)}
	var undo cleanup
	defer func() {
		if err != nil {
			undo.run()
		}
	}()

	useLog, _, err := a.logFile.open(f.Log)
	if err != nil {
		return nil, err
	}
	useLog()
	undo.add(a.logFile.close) // before the error is told: its lines come first
	setThreads(f)

	if err := a.makeParts(&undo); err != nil {
		return nil, err
	}
	a.makeAdmin(from)
	from.begin(a)
	// First of all sockets: it notices another wproxy with this configuration.
	doors, err := a.doors.prepare(ctx, f.Admin)
	if err != nil {
		return nil, err
	}
	undo.add(doors.giveUp)

	a.sayStarting(f)
	g, err := a.parts.build(ctx, f, from.parent == nil) // an upgrade has something to lose, as a reload has
	if err != nil {
		return nil, err
	}
	undo.add(g.Release)
	g.read = read
	g.Complete = a.completion(f, from, id, doors, g, &undo)
	a.parts.objects.Limit(int64(f.Server.Objects))
	a.parts.budget.Limit(int64(f.Server.H2Memory))
	a.current, a.loaded = g, time.Now()
	if a.server, err = server.Start(ctx, a.serverOptions(), g.Generation); err != nil {
		return nil, err
	}
	a.parts.callouts.serve(g.callable)
	a.parts.servers.serve(g)
	a.mu.Lock() // from the first door on, status may be asked for
	doors.commit()
	addresses := a.doors.addressList()
	a.mu.Unlock()
	a.sayServing(g, addresses)
	if err := from.done(a); err != nil {
		a.log.Warn("upgrade: the old process is not there to be told", zap.Error(err))
	}
	return a, nil
}

// makeParts makes what lives as long as the process.
func (a *app) makeParts(undo *cleanup) error {
	m := metrics.New()
	builtins, live := &builtinSet{}, &liveNames{}
	calls := newCallouts(a.log, m, a.dry)
	view := newView(m, &live.secrets)
	h, err := host.NewHost(host.HostOptions{
		CacheDir: compileCache(),
		Log: func(e host.LogEntry) {
			if e.Trap != nil {
				m.Plugin(e.Plugin).Trapped(string(e.Trap.Cause))
				view.trapped(e.Trap)
			}
			logGuest(a.log, &live.secrets, e)
		},
		Metrics: &guestMetrics{m, builtins.has, view.circuit},
		Caller:  calls,
		GRPC:    calls,
	})
	if err != nil {
		return err
	}
	w, err := h1.NewWatcher()
	if err != nil {
		return errors.Join(err, h.Close())
	}
	if a.logFile != nil {
		a.logFile.countTo(m.LogDropped)
	}
	a.parts = newParts(a.log, m, h, w, a.dry)
	a.parts.builtins, a.parts.callouts, a.parts.live, a.parts.view = builtins, calls, live, view
	calls.pools, calls.upstreams = a.parts.pools, a.parts.upstreams
	undo.add(func() { _ = a.parts.close() }) // the error that led here is told
	return nil
}

// compileCache returns where compiled plugins are kept; "": only in memory. A service
// manager says where (systemd.exec(5), CacheDirectory=); else it is the user's cache.
func compileCache() string {
	if dir, _, _ := strings.Cut(os.Getenv("CACHE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "wasm")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "wproxy", "wasm")
}

// serverOptions connects the server to logs and metrics.
func (a *app) serverOptions() server.Options {
	m := a.parts.metrics
	return server.Options{
		Inherit:     a.inherit,
		Proxy:       proxy.Options{Metrics: m, Recorder: a.parts.view.recorder, Challenge: a.parts.challenges.HTTPChallenge},
		TCP:         tcp.Options{Metrics: m, Recorder: a.parts.view.recorder},
		Connections: func(listener string) server.Gauge { return m.Connections(listener) },
		AcceptError: func(listener string, err error, pause time.Duration) {
			a.log.Error("cannot accept connections", zap.String("listener", listener), zap.Error(err), zap.Duration("pause", pause))
		},
		TooMany: m.ConnectionRefused,
		Refused: func(p *proxy.Proxy, r *h1.Refusal) { p.Refused(refusalRecord(r)) },
		Cut: func(connections, tunnels int) {
			a.log.Warn("the time to drain is over: closing what is left", zap.Int("connections", connections), zap.Int("tunnels", tunnels))
		},
		Ended: func(exchanges int) {
			a.log.Warn("too many old configurations are in use: ending what is left on the oldest", zap.Int("exchanges", exchanges))
		},
		HandshakeFailed: a.handshakeFailed,
		ProxyRefused:    a.proxyRefused,
		Panicked: func(v any, stack []byte) {
			a.log.Error("panic: this is a bug in wproxy; the connection was closed",
				zap.Any("value", v), zap.ByteString("stack", stack))
		},
	}
}

// refusalRecord is the access log record of a request that was refused before
// it was one.
func refusalRecord(r *h1.Refusal) *access.Record {
	rec := &access.Record{
		Time: r.Start, Total: time.Since(r.Start),
		Method: r.Method, Host: r.Host, Path: r.Target, Status: r.Status, Reason: r.Reason,
	}
	if r.Conn != nil {
		rec.Client, rec.Listener = r.Conn.RemoteIP, r.Conn.Listener
	}
	return rec
}

// sayStarting logs what takes seconds where plugins are compiled for the first time.
func (a *app) sayStarting(f *config.File) {
	if n := len(f.Plugins); n > 0 {
		a.log.Info("starting plugins", zap.Int("plugins", n))
	}
}

// sayServing logs what begins to serve, and where the admin server does.
func (a *app) sayServing(g *generation, addresses []string) {
	a.parts.metrics.SetGeneration(g.Snapshot.Generation)
	a.parts.metrics.SetReload(true)
	for _, l := range a.server.Listeners() {
		a.log.Info("listening", zap.String("listener", l.Name), zap.String("address", l.Address))
	}
	for _, b := range g.broken {
		if b.Route == "" {
			a.log.Error("a service does not start, until a reload mends it", zap.String("plugin", b.Plugin), zap.Error(b.Err))
			continue
		}
		a.log.Error("a plugin does not start: its route answers 503 until a reload mends it",
			zap.String("plugin", b.Plugin), zap.String("route", b.Route), zap.Error(b.Err))
	}
	a.logWarnings(g)
	a.warnOpenFiles(g.file)
	a.log.Info("serving", zap.String("config", a.source.String()), zap.String("version", versionString()),
		zap.Strings("admin", addresses))
}

// askStop asks the loop for the end. A full channel has been asked already.
func (a *app) askStop(now bool) {
	select {
	case a.stops <- now:
	default:
	}
}

// loop runs until the end, ends everything, and returns the exit code.
func (a *app) loop(ctx context.Context, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx) // of reloads
	defer cancel()
	drained := make(chan struct{}) // closed when the server has stopped
	var now context.CancelFunc     // cuts the drain short; nil before it
	cut := false
	stop := func(at bool) {
		if now == nil {
			if a.abortUpgrade() {
				now = a.beginLeave(drained)
			} else {
				now = a.beginStop(drained, false)
			}
			if !at {
				return
			}
		}
		cut = true
		now() // asked for at once, or twice
	}
	go a.parts.view.timeline.Run(ctx) // ends soon after cancel
	go a.watch(ctx)                   // ends soon after cancel; a reload that it has begun is waited for like others
	done := ctx.Done()
	for running := true; running; {
		select {
		case <-a.supervisor.beat():
			a.supervisor.alive()
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				go func() { _, _ = a.reload(ctx) }() // it has logged both; end waits for it
				continue
			case syscall.SIGUSR1:
				go a.reopenOnly() // waits for its turn, as reloads do
				continue
			case syscall.SIGUSR2:
				go func() { _, _ = a.upgrade(ctx, "", 0) }() // as a reload
				continue
			}
			a.log.Info("signal", zap.Stringer("signal", s))
			if cut {
				return exitFailed // even cutting exchanges does not end them
			}
			stop(false)
		case at := <-a.stops:
			stop(at)
		case <-a.handed:
			if now == nil {
				now = a.beginLeave(drained)
			}
		case <-done:
			done = nil
			stop(true)
		case <-drained:
			running = false
		}
	}
	now()
	cancel()
	return a.end(signals)
}

// end ends what is left when the server has stopped, unless a signal says that
// it takes too long.
func (a *app) end(signals <-chan os.Signal) int {
	ended := make(chan struct{})
	go func() { // ends soon: all that it waits for is bounded, but for bugs
		defer close(ended)
		a.close(a.endReloads())
	}()
	for {
		select {
		case <-ended:
			return exitOK
		case s := <-signals:
			if s != syscall.SIGHUP && s != syscall.SIGUSR1 && s != syscall.SIGUSR2 {
				return exitFailed
			}
		}
	}
}

// endReloads waits for reloads to end, and lets none begin. It reports whether
// they have.
func (a *app) endReloads() bool {
	idle := make(chan struct{})
	go func() { // ends with the reload that is under way
		a.reloading.Lock()
		a.ended = true
		a.reloading.Unlock()
		close(idle)
	}()
	t := time.NewTimer(reloadEndTime)
	defer t.Stop()
	select {
	case <-idle:
		return true
	case <-t.C:
		a.log.Warn("a reload does not end; not waiting for it")
		return false
	}
}

// beginStop starts draining and returns what cuts it short. drained is closed
// when no exchange is left.
func (a *app) beginStop(drained chan<- struct{}, leave bool) context.CancelFunc {
	a.mu.Lock()
	wait := a.current.file.Server.Drain
	a.mu.Unlock()
	end := a.server.Stop
	if leave {
		end = a.server.Leave
		a.log.Info("leaving to the new process; requests in flight may finish", zap.Duration("drain", wait))
	} else {
		a.supervisor.stopping()
		a.log.Info("stopping: no new connections; requests in flight may finish", zap.Duration("drain", wait))
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	go func() { // ends soon after wait, or cancel; loop waits for it
		defer close(drained)
		if err := end(ctx); err != nil {
			a.log.Error("stopping", zap.Error(err))
		}
	}()
	return cancel
}

// close ends what is left when the server has stopped: the admin server, so
// that status and readiness can be asked for until then, the host unless a
// reload still uses it, the log.
func (a *app) close(idle bool) {
	ctx, cancel := context.WithTimeout(context.Background(), adminCloseTime)
	defer cancel()
	a.left.Wait()
	a.admin.Close(ctx)
	if idle {
		if err := a.parts.close(); err != nil {
			a.log.Error("closing", zap.Error(err))
		}
	}
	a.supervisor.stop()
	a.removePid()
	a.log.Info("stopped")
	a.logFile.close()
}
