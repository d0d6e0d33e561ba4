package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wproxy/core/admin"
)

// rig is a Server with a recording proxy behind it.
type rig struct {
	*admin.Server
	notReady  atomic.Pointer[[]string]
	reloadErr atomic.Pointer[error]
	stops     chan bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{stops: make(chan bool, 1)}
	r.Server = admin.New(admin.Options{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "wproxy_up 1") }),
		Ready: func() []string {
			if p := r.notReady.Load(); p != nil {
				return *p
			}
			return nil
		},
		Status: func() any { return map[string]int{"generation": 7} },
		Live:   func(all bool) any { return map[string]any{"all": all, "text": "</script>\n\ndata: x"} },
		Reload: func(context.Context) ([]string, error) {
			if p := r.reloadErr.Load(); p != nil {
				return nil, *p
			}
			return []string{`route "a": changed`}, nil
		},
		Drain: func(upstream, server string, on bool) ([]string, error) {
			if upstream != "app" {
				return nil, fmt.Errorf("there is no upstream %q", upstream)
			}
			return []string{fmt.Sprint(server, " ", on)}, nil
		},
		Stop: func(now bool) { r.stops <- now },
		Upgrade: func(_ context.Context, binary string, limit time.Duration) ([]string, error) {
			if binary == "bad" {
				return nil, errors.New("it is bad")
			}
			return []string{fmt.Sprint(binary, " ", limit)}, nil
		},
	})
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

// open adds a door on loopback and returns its address.
func (r *rig) open(t *testing.T, d admin.Door) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.Listener = l
	r.Open(d)
	return l.Addr().String()
}

type answer struct {
	status int
	body   string
	kind   string
}

func do(t *testing.T, c *http.Client, method, url, host, token string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header.Get("Content-Type")}
}

func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestPaths(t *testing.T) {
	r := newRig(t)
	addr := r.open(t, admin.Door{Private: true})
	c := client(t)
	for _, tt := range []struct {
		path, want string
		status     int
	}{
		{"/metrics", "wproxy_up 1\n", 200},
		{"/healthz", "ok\n", 200},
		{"/readyz", "ready\n", 200},
		{"/status", "{\n  \"generation\": 7\n}\n", 200},
		{"/debug/pprof/cmdline", "", 200},
		{"/nothing", "404 page not found\n", 404},
	} {
		a := do(t, c, "GET", "http://"+addr+tt.path, "", "")
		if a.status != tt.status || tt.want != "" && a.body != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, a.status, a.body, tt.status, tt.want)
		}
	}
	r.notReady.Store(&[]string{"draining", "plugin limit: rate missing"})
	a := do(t, c, "GET", "http://"+addr+"/readyz", "", "")
	if a.status != 503 || a.body != "draining\nplugin limit: rate missing\n" {
		t.Errorf("not ready: got %d %q", a.status, a.body)
	}
	if a := do(t, c, "GET", "http://"+addr+"/healthz", "", ""); a.status != 200 {
		t.Errorf("/healthz while not ready: got %d", a.status)
	}
}

// TestWho is who may do what on a public door.
func TestWho(t *testing.T) {
	const token = "s3cret"
	for _, tt := range []struct {
		name                      string
		door                      admin.Door
		method, path, host, token string
		want                      int
	}{
		{"read by address", admin.Door{}, "GET", "/status", "127.0.0.1:9901", "", 200},
		{"read by IPv6 address", admin.Door{}, "GET", "/status", "[::1]:9901", "", 200},
		{"read by localhost", admin.Door{}, "GET", "/status", "LocalHost", "", 200},
		{"read by own name", admin.Door{Host: "ops.example"}, "GET", "/status", "ops.example:9901", "", 200},
		{"rebound name", admin.Door{}, "GET", "/status", "evil.example", "", 421},
		{"rebound name with an address in it", admin.Door{}, "GET", "/status", "127.0.0.1.evil.example", "", 421},
		{"rebound name with the token", admin.Door{Write: true, Token: token}, "POST", "/reload", "evil.example", "Bearer " + token, 421},
		{"write", admin.Door{}, "POST", "/reload", "", "", 403},
		{"write with a guess at no token", admin.Door{Write: true}, "POST", "/reload", "", "Bearer ", 403},
		{"write with a wrong token", admin.Door{Write: true, Token: token}, "POST", "/reload", "", "Bearer s3cre", 403},
		{"token without scheme", admin.Door{Write: true, Token: token}, "POST", "/reload", "", token, 403},
		{"token where writing is off", admin.Door{Token: token}, "POST", "/reload", "", "Bearer " + token, 403},
		{"write with the token", admin.Door{Write: true, Token: token}, "POST", "/reload", "", "Bearer " + token, 200},
		{"private", admin.Door{Private: true}, "POST", "/reload", "wproxy", "", 200},
		{"GET does not write", admin.Door{Private: true}, "GET", "/reload", "wproxy", "", 405},
		{"profile", admin.Door{}, "GET", "/debug/pprof/cmdline", "", "", 403},
		{"profile by HEAD", admin.Door{}, "HEAD", "/debug/pprof/heap", "", "", 403},
		{"profile by another spelling", admin.Door{}, "GET", "/%64ebug/pprof/cmdline", "", "", 403},
		{"profile by a detour", admin.Door{}, "GET", "/status/../debug/pprof/cmdline", "", "", 403},
		{"profile with a wrong token", admin.Door{Write: true, Token: token}, "GET", "/debug/pprof/cmdline", "", "Bearer x", 403},
		{"profile with the token", admin.Door{Write: true, Token: token}, "GET", "/debug/pprof/cmdline", "", "Bearer " + token, 200},
		{"profile in private", admin.Door{Private: true}, "GET", "/debug/pprof/cmdline", "wproxy", "", 200},
		{"other methods", admin.Door{}, "DELETE", "/status", "", "", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := newRig(t).open(t, tt.door)
			if a := do(t, client(t), tt.method, "http://"+addr+tt.path, tt.host, tt.token); a.status != tt.want {
				t.Errorf("got %d %q, want %d", a.status, a.body, tt.want)
			}
		})
	}
}

func TestReloadAndStop(t *testing.T) {
	r := newRig(t)
	addr := r.open(t, admin.Door{Private: true})
	c := client(t)
	post := func(path string) (int, admin.Reply) {
		t.Helper()
		a := do(t, c, "POST", "http://"+addr+path, "", "")
		var rep admin.Reply
		if err := json.Unmarshal([]byte(a.body), &rep); err != nil {
			t.Fatalf("%s: %v in %q", path, err, a.body)
		}
		return a.status, rep
	}
	if code, rep := post("/reload"); code != 200 || !rep.OK || len(rep.Changes) != 1 || rep.Changes[0] != `route "a": changed` {
		t.Errorf("reload: got %d %+v", code, rep)
	}
	refused := errors.New("wproxy.toml:3:1  unknown key")
	r.reloadErr.Store(&refused)
	if code, rep := post("/reload"); code != 422 || rep.OK || rep.Error != refused.Error() {
		t.Errorf("refused reload: got %d %+v", code, rep)
	}
	for path, want := range map[string]bool{"/stop": false, "/stop?now=1": true} {
		if code, rep := post(path); code != 202 || !rep.OK {
			t.Errorf("%s: got %d %+v", path, code, rep)
		}
		if now := <-r.stops; now != want {
			t.Errorf("%s: got now=%v", path, now)
		}
	}
}

func TestUnixDoor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := admin.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want mode 0600", fi.Mode(), err)
	}
	r := newRig(t)
	r.Open(admin.Door{Listener: l, Private: true})

	if _, err := admin.ListenUnix(t.Context(), path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second instance: got %v, want address in use", err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	if a := do(t, &http.Client{Transport: tr}, "POST", "http://wproxy/reload", "", ""); a.status != 200 {
		t.Errorf("got %d %q", a.status, a.body)
	}
	r.Shut(l)
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("a shut door answers")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket file stays: %v", err)
	}
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ListenUnix(t.Context(), file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("on a file: got %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if _, err := admin.ListenUnix(t.Context(), filepath.Join(dir, "no", "dir")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: got %v", err)
	}

	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	l2, err := admin.ListenUnix(t.Context(), stale)
	if err != nil {
		t.Fatalf("on a stale socket: %v", err)
	}
	_ = l2.Close()
}

// TestCap checks that silent callers cannot take more than their share.
func TestCap(t *testing.T) {
	r := newRig(t)
	addr := r.open(t, admin.Door{})
	var silent []net.Conn
	for range 64 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	c := client(t)
	c.Timeout = 100 * time.Millisecond
	if resp, err := c.Get("http://" + addr + "/healthz"); err == nil {
		resp.Body.Close()
		t.Fatal("the 65th connection was served")
	}
	_ = silent[0].Close()
	c.Timeout = 10 * time.Second
	if a := do(t, c, "GET", "http://"+addr+"/healthz", "", ""); a.status != 200 {
		t.Errorf("got %d", a.status)
	}
}

// TestChange checks that a door's settings change without a new socket.
func TestChange(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Open(admin.Door{Listener: l})
	url, c := "http://"+l.Addr().String()+"/reload", client(t)
	if a := do(t, c, "POST", url, "", "Bearer t"); a.status != 403 {
		t.Errorf("before: got %d", a.status)
	}
	r.Change(admin.Door{Listener: l, Write: true, Token: "t"})
	if a := do(t, c, "POST", url, "", "Bearer t"); a.status != 200 {
		t.Errorf("after: got %d", a.status)
	}
}

// TestClose checks that Close ends everything, twice if need be, and that a
// door which comes too late is shut.
func TestClose(t *testing.T) {
	r := newRig(t)
	addr := r.open(t, admin.Door{})
	r.Close(t.Context())
	r.Close(t.Context())
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("a closed server accepts")
	}
	late := r.open(t, admin.Door{})
	if _, err := net.Dial("tcp", late); err == nil {
		t.Error("a closed server opens doors")
	}
}

// TestDrain names servers with whatever their addresses have in them.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	public, private := "http://"+r.open(t, admin.Door{}), "http://"+r.open(t, admin.Door{Private: true})
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"POST", "/upstreams/app/servers/10.0.0.1:80/drain", 200, `"10.0.0.1:80 true"`},
		{"POST", "/upstreams/app/servers/10.0.0.1:80/ready", 200, `"10.0.0.1:80 false"`},
		{"POST", "/upstreams/app/servers/unix:%2Frun%2Fa.sock/drain", 200, `"unix:/run/a.sock true"`},
		{"POST", "/upstreams/app/servers/http:%2F%2Fa:80/drain", 200, `"http://a:80 true"`},
		{"POST", "/upstreams/other/servers/10.0.0.1:80/drain", 404, `there is no upstream`},
		{"GET", "/upstreams/app/servers/10.0.0.1:80/drain", 405, ``},
		{"POST", "/upstreams/app/servers/10.0.0.1:80/kill", 404, ``},
	} {
		got := do(t, http.DefaultClient, tt.method, private+tt.path, "", "")
		if got.status != tt.status || !strings.Contains(got.body, tt.body) {
			t.Errorf("%s %s: got %d %s, want %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.body)
		}
	}
	if got := do(t, http.DefaultClient, "POST", public+"/upstreams/app/servers/10.0.0.1:80/drain", "", ""); got.status != 403 {
		t.Errorf("on a public door: got %d, want 403", got.status)
	}
}
