package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/plugins"
)

// Upgrades under load: in CI and in the long form, and how long clients go on between two.
const (
	upgrades     = 3
	upgradesLong = 60
	upgradeEvery = 300 * time.Millisecond

	limitRate  = 100 // a second, of the route limited
	limitBurst = 20
)

const upgradeConfig = `
[listeners.http]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[server]
drain    = "2s"
pid_file = "@DIR/pid"
[log]
level  = "warn"
access = { to = "none" }
[routes.all]
path = "/*"
to   = "@ORIGIN"
`

const upgradeLimit = `
[routes.limited]
path = "/down"
use  = ["limit"]
to   = "@ORIGIN"
[plugins.limit]
wasm   = "builtin:ratelimit"
config = { rate = "100/s", burst = 20, key = "client-ip" }
`

// A fleet is wproxy as a process of its own, and those that it hands over to.
type fleet struct {
	t        *testing.T
	dir      string
	binaries []string // of the same program, under two names
	addr     string
	pids     []int // of all that have served
	stderr   string
}

func startFleet(t *testing.T, toml string) *fleet {
	t.Helper()
	bin, err := exec.LookPath("wproxy")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "wp") //nolint:usetesting // sockets have short names at most
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, dir: dir, stderr: filepath.Join(dir, "stderr.log")}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	other := filepath.Join(dir, "other", "wproxy")
	if err := errors.Join(os.Mkdir(filepath.Dir(other), 0o700), os.Symlink(bin, other)); err != nil {
		t.Fatal(err)
	}
	f.binaries = []string{other, bin}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CACHE_HOME", dir)
	if err := os.WriteFile(filepath.Join(dir, "wproxy.toml"), []byte(strings.ReplaceAll(toml, "@DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(f.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, "run", "-c", "wproxy.toml")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // ends with the process
	f.pids = []int{cmd.Process.Pid}
	t.Cleanup(f.stop)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // polling another process
		if st, err := f.status(); err == nil {
			f.addr = st.Listeners[0].Address
			return f
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not serve: %v\n%s", err, f.log())
		}
	}
}

func (f *fleet) log() string {
	b, _ := os.ReadFile(f.stderr)
	return string(b)
}

// run runs a command of wproxy in this process.
func (f *fleet) run(args ...string) (string, int) {
	var b bytes.Buffer
	code := run(context.Background(), append(args, "-c", filepath.Join(f.dir, "wproxy.toml")), &b, &b)
	return b.String(), code
}

func (f *fleet) status() (*Status, error) {
	out, code := f.run("status", "--json")
	if code != exitOK {
		return nil, errors.New(out)
	}
	var st Status
	return &st, json.Unmarshal([]byte(out), &st)
}

// upgrade hands over, forth and back between the two binaries.
func (f *fleet) upgrade() {
	f.t.Helper()
	out, code := f.run("upgrade", "--binary", f.binaries[(len(f.pids)-1)%2])
	if code != exitOK || strings.Contains(out, "left behind") {
		f.t.Fatalf("upgrade: exit code %d: %s\n%s", code, out, f.log())
	}
	// The old one may answer, too, until it has closed the admin server's sockets.
	var st *Status
	strict.Eventually(f.t, "answered by the new process", func() bool {
		var err error
		st, err = f.status()
		return err == nil && !slices.Contains(f.pids, st.PID)
	})
	if f.t.Failed() {
		f.t.Fatalf("after the upgrade: %+v, before it %v", st, f.pids)
	}
	f.pids = append(f.pids, st.PID)
}

// stop ends all processes and looks at what they have said.
func (f *fleet) stop() {
	if st, err := f.status(); err == nil && !slices.Contains(f.pids, st.PID) {
		f.pids = append(f.pids, st.PID)
	}
	for _, pid := range f.pids {
		_ = syscall.Kill(pid, syscall.SIGTERM) // most have ended
		_ = syscall.Kill(pid, syscall.SIGINT)
	}
	for deadline := time.Now().Add(patience); slices.ContainsFunc(f.pids, alive); time.Sleep(10 * time.Millisecond) { // not all are children of ours
		if time.Now().After(deadline) {
			for _, pid := range f.pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // as above
			}
			f.t.Errorf("some of %v do not end:\n%s", f.pids, f.log())
			return
		}
	}
	if log := f.log(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		f.t.Errorf("a bug:\n%s", log)
	}
}

// A strictClient sends requests on one connection for as long as that lasts, and has no
// patience: whatever is no answer is a failure, and nothing is sent twice.
type strictClient struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

// do sends a request. more tells that the connection may be used again.
func (c *strictClient) do(method, path, body string) (status int, more bool, err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.addr); err != nil {
			return 0, false, err
		}
		c.r = bufio.NewReader(c.conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience)) // reads fail if this does
	if _, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n%s", method, path, len(body), body); err != nil {
		return 0, false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, false, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.Close || err != nil {
		c.close()
	}
	return resp.StatusCode, !resp.Close, err
}

func (c *strictClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// TestUpgradeUnderLoad: while processes hand over to each other, forth and back, no request
// fails, no connection is reset or refused, a WebSocket stays until the end of the drain, and
// a rate limit admits no more than its rate, and the burst once more.
func TestUpgradeUnderLoad(t *testing.T) {
	origin := newGoOrigin(t)
	sockets := newWSOrigin(t)
	toml := upgradeConfig + "[routes.chat]\npath = \"/chat\"\nto = \"" + sockets.Listener.Addr().String() + "\"\n"
	_, err := plugins.Builtin("ratelimit")
	limited := err == nil && !raceDetector // it would compile for half a minute
	if limited {
		toml += upgradeLimit
	}
	f := startFleet(t, strings.ReplaceAll(toml, "@ORIGIN", origin.Listener.Addr().String()))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var requests, reconnects atomic.Int64
	var wg sync.WaitGroup
	client := func(every time.Duration, keep bool, method, path, body string) {
		wg.Go(func() { // ends with ctx
			c := &strictClient{addr: f.addr}
			defer c.close()
			for ctx.Err() == nil {
				status, more, err := c.do(method, path, body)
				if err != nil || status != http.StatusOK {
					t.Errorf("%s %s: %d %v after %d requests", method, path, status, err, requests.Load())
					return
				}
				requests.Add(1)
				if keep && !more {
					reconnects.Add(1)
				}
				if !keep {
					c.close()
				}
				time.Sleep(every)
			}
		})
	}
	for i := range 4 { // with and without rests between requests
		client(time.Duration(i)*time.Millisecond, true, "POST", "/up", "body")
		client(time.Duration(i)*time.Millisecond, false, "GET", "/ok", "")
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for range 2 {
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				resp, err := h2.RoundTrip(&http.Request{Method: "POST", Header: http.Header{}, URL: mustURL(t, "http://"+f.addr+"/up"), Body: io.NopCloser(strings.NewReader("body"))})
				if err != nil {
					t.Errorf("HTTP/2: %v", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				requests.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	var admissions admissions
	if limited {
		for range 3 {
			wg.Go(func() { admissions.collect(ctx, t, f.addr) })
		}
	}
	chat, _, err := websocket.Dial(t.Context(), "ws://"+f.addr+"/chat", nil) //nolint:bodyclose // the WebSocket closes it
	if err != nil {
		t.Fatal(err)
	}
	defer chat.CloseNow()
	rests := &strictClient{addr: f.addr}
	defer rests.close()
	if _, more, err := rests.do("GET", "/ok", ""); err != nil || !more {
		t.Fatal(err)
	}

	n := upgrades
	if long() {
		n = upgradesLong
	}
	time.Sleep(upgradeEvery) // clients, for a while
	for i := range n {
		before := requests.Load()
		f.upgrade()
		admissions.handed(time.Now())
		if i == 0 {
			if err := wsRound(t.Context(), chat, websocket.MessageText, []byte("still there?")); err != nil {
				t.Errorf("the WebSocket: %v", err)
			}
			// A connection that has done nothing but rest is good for a request.
			if status, more, err := rests.do("POST", "/up", "body"); err != nil || status != http.StatusOK || more {
				t.Errorf("a connection that rested: %d, %v, more: %v", status, err, more)
			}
		}
		time.Sleep(upgradeEvery) // as above
		if requests.Load() == before {
			t.Error("no requests meanwhile")
		}
	}
	cancel()
	wg.Wait()
	if b, err := os.ReadFile(filepath.Join(f.dir, "pid")); err != nil || strings.TrimSpace(string(b)) != fmt.Sprint(f.pids[n]) {
		t.Errorf("the pid file has %q (%v), want %d", b, err, f.pids[n])
	}
	if reconnects.Load() == 0 {
		t.Error("no client was ever sent to the next process")
	}
	if limited {
		admissions.check(t)
	}
	t.Logf("%d upgrades, %d requests, %d connections that were ended in order, %d of the limited route admitted",
		n, requests.Load(), reconnects.Load(), len(admissions.all))
}

// TestUpgradeOfProcess1: the container would end with it.
func TestUpgradeOfProcess1(t *testing.T) {
	if err := mayUpgrade(1); !errors.Is(err, errUpgradeInit) {
		t.Errorf("got %v", err)
	}
	if err := mayUpgrade(os.Getpid()); err != nil {
		t.Error(err)
	}
}

// admissions are the requests that a rate limit has let through.
type admissions struct {
	mu       sync.Mutex
	all      [][2]time.Time // sent, answered
	refused  int
	upgrades []time.Time
}

// collect asks for more than the limit allows.
func (a *admissions) collect(ctx context.Context, t *testing.T, addr string) {
	c := &strictClient{addr: addr}
	defer c.close()
	for ctx.Err() == nil {
		sent := time.Now()
		status, _, err := c.do("GET", "/down?n=1", "")
		if err != nil {
			t.Errorf("limited: %v", err)
			return
		}
		a.mu.Lock()
		if status == http.StatusOK {
			a.all = append(a.all, [2]time.Time{sent, time.Now()})
		} else {
			a.refused++
		}
		a.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

func (a *admissions) handed(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upgrades = append(a.upgrades, at)
}

// check holds every window against rate * time + 2 * burst. A request is in the window if it
// certainly was: sent after its beginning and answered before its end. Many upgrades one
// after the other are no excuse: the buckets are empty at each, and what is empty does not
// refill in the process that is left.
func (a *admissions) check(t *testing.T) {
	t.Helper()
	slices.SortFunc(a.all, func(x, y [2]time.Time) int { return x[0].Compare(y[0]) })
	for i := range a.all {
		var ends []time.Time // of those sent since
		for _, r := range a.all[i:] {
			ends = append(ends, r[1])
		}
		slices.SortFunc(ends, time.Time.Compare)
		for n, end := range ends {
			most := limitRate*end.Sub(a.all[i][0]).Seconds() + 2*limitBurst
			if float64(n+1) > most {
				t.Fatalf("%d requests are admitted in %s from %s on, more than %.1f; upgrades at %v",
					n+1, end.Sub(a.all[i][0]), a.all[i][0].Format(time.StampMicro), most, a.upgrades)
			}
		}
	}
	took := a.all[len(a.all)-1][1].Sub(a.all[0][0]).Seconds()
	if n := float64(len(a.all)); n < limitRate*took/2 || a.refused == 0 {
		t.Errorf("%v requests are admitted in %.1f s and %d refused: the limit does not work", n, took, a.refused)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
