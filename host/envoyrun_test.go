package host_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	liveStart  = 6 * time.Minute         // for a proxy to start with all its guests: V8 takes seconds for one of 2.5 MB
	liveHold   = 1500 * time.Millisecond // an exchange of which nothing came in this time is held
	liveSettle = 2500 * time.Millisecond // for what comes after the last exchange, such as ticks
	liveBatch  = 60                      // guests that one proxy runs at a time
)

// A liveCase is a guest and one exchange with a proxy that runs it.
type liveCase struct {
	id     string // of the guest, its route and its upstream
	name   string // for the page
	want   string // the status in wproxy, if it is a call
	wasm   []byte
	vmID   string
	body   bool              // the request has one
	trails bool              // request and response have trailers
	dies   bool              // the upstream breaks the connection off
	repeat int               // so many requests more
	config string            // of the plugin
	read   func(*liveResult) // makes facts of what came
	tcp    bool              // the client has an address
	port   int               // where, if it has
}

// A liveResult is what came of a case.
type liveResult struct {
	refused  string            // why the proxy did not take the guest
	answer   string            // what the client got
	upstream string            // what the upstream got
	log      []string          // what the guest said
	facts    map[string]string // what is compared
}

// A liveProxy is one of the two.
type liveProxy interface {
	// command writes configurations for the cases into dir, and returns what runs
	// them.
	command(t *testing.T, dir string, cases []*liveCase) *exec.Cmd
	// ready tells whether it serves, or why it never will.
	ready(dir string) bool
	// door is the socket by which a case is reached.
	door(dir string, c *liveCase) string
	// refusal is the proxy's word about a guest that it did not take.
	refusal(log string, c *liveCase) string
	// mine returns the message if a line of the log is of the guest itself.
	mine(line string, c *liveCase) (string, bool)
}

// runLive serves the cases with the proxy and makes their exchanges.
func runLive(t *testing.T, p liveProxy, cases []*liveCase) map[string]*liveResult {
	t.Helper()
	all := map[string]*liveResult{}
	for batch := range slices.Chunk(cases, liveBatch) {
		maps.Copy(all, runBatch(t, p, batch))
	}
	return all
}

func runBatch(t *testing.T, p liveProxy, cases []*liveCase) map[string]*liveResult {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp") //nolint:usetesting // names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	servers := map[string]*liveUpstream{"u": newLiveUpstream(t, dir, &liveCase{id: "u"}), "v": newLiveUpstream(t, dir, &liveCase{id: "v"})}
	for _, c := range cases {
		servers[c.id] = newLiveUpstream(t, dir, c)
		if err := os.WriteFile(filepath.Join(dir, c.id+".wasm"), c.wasm, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.tcp {
			c.port = freePort(t)
		}
	}
	stop := startLive(t, p, dir, cases)
	defer stop()

	results := map[string]*liveResult{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, c := range cases {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := &liveResult{facts: map[string]string{}}
			door := p.door(dir, c)
			if c.tcp {
				door = fmt.Sprintf("127.0.0.1:%d", c.port)
			} else if _, err := os.Stat(door); err != nil {
				r.refused = "yes"
			}
			if r.refused == "" {
				r.answer = ask(door, c)
				for range c.repeat {
					r.answer += " / " + ask(door, c)
				}
				r.upstream = servers[c.id].got()
			}
			mu.Lock()
			defer mu.Unlock()
			results[c.id] = r
		})
	}
	wg.Wait()
	time.Sleep(liveSettle)
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if keep := os.Getenv("WPROXY_ENVOY_LOG"); keep != "" {
		name := filepath.Join(keep, fmt.Sprintf("%T-%s.log", p, cases[0].id))
		if err := os.WriteFile(name, log, 0o600); err != nil {
			t.Error(err)
		}
	}
	for _, c := range cases {
		r := results[c.id]
		if r.refused != "" {
			r.refused = p.refusal(string(log), c)
		}
		for line := range strings.SplitSeq(string(log), "\n") {
			if said, ok := p.mine(line, c); ok {
				r.log = append(r.log, said)
			}
		}
	}
	return results
}

// startLive starts the proxy and waits until it serves. stop ends it.
func startLive(t *testing.T, p liveProxy, dir string, cases []*liveCase) (stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // a name of our own
	if err != nil {
		t.Fatal(err)
	}
	cmd := p.command(t, dir, cases)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = log.Close()
	})
	t.Cleanup(stop)
	for end := time.Now().Add(liveStart); !p.ready(dir); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("%s ended: %v\n%s", cmd.Path, err, said[max(0, len(said)-5000):])
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not serve after %v", cmd.Path, liveStart)
		}
	}
	return stop
}

// A liveUpstream answers every request and keeps the latest.
type liveUpstream struct {
	mu     sync.Mutex
	latest string
}

func newLiveUpstream(t *testing.T, dir string, c *liveCase) *liveUpstream {
	t.Helper()
	u := &liveUpstream{}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, c.id+".up"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // reset by the proxy
		}
		u.mu.Lock()
		u.latest = strings.TrimRight(fmt.Sprintf("%s %s %s; %s; %s%s", r.Method, r.RequestURI, r.Host, fields(r.Header), body, trailers(r.Trailer)), "; ")
		u.mu.Unlock()
		if c.dies {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "text/x")
		if c.trails {
			w.Header().Set("Trailer", "X-T")
			defer w.Header().Set("X-T", "1")
		}
		_, _ = io.WriteString(w, "answer")
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return u
}

func (u *liveUpstream) got() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.latest
}

// ownFields are what proxies and the test's client and server add.
var ownFields = []string{
	"accept-encoding", "connection", "content-length", "date", "forwarded", "keep-alive", "server", "te", "trailer", "transfer-encoding", "user-agent", "via",
	"x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-service-time", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
}

// fields writes header fields but those that proxies add, in the order of their names.
func fields(h http.Header) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if lower := strings.ToLower(name); !slices.Contains(ownFields, lower) {
			for _, v := range h[name] {
				list = append(list, lower+"="+short(v))
			}
		}
	}
	return strings.Join(list, " ")
}

func trailers(h http.Header) string {
	if len(h) == 0 {
		return ""
	}
	return "; trailers " + fields(h)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is
}

// short shortens what is too long for a table.
func short(s string) string {
	if len(s) <= 100 {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:8], len(s))
}

// ask makes the exchange of a case and tells what the client got.
func ask(door string, c *liveCase) string {
	transport := &http.Transport{
		DisableCompression: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			network := "unix"
			if c.tcp {
				network = "tcp"
			}
			return new(net.Dialer).DialContext(ctx, network, door)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), liveHold)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if c.body {
		// Chunked: what a guest does to it needs no other content-length.
		method, body = http.MethodPost, io.MultiReader(strings.NewReader("hello body"))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.id+".test/x", body)
	if err != nil {
		return err.Error()
	}
	r.Header = http.Header{"Accept": {"a"}, "Two": {"1", "2"}, "Empty": {""}, "User-Agent": {"t"}}
	if c.trails {
		r.Header.Set("Te", "trailers")
		r.Trailer = http.Header{"X-T": {"1"}}
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return broken(ctx)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Sprintf("%d; %s", res.StatusCode, broken(ctx))
	}
	if res.StatusCode >= 400 && res.Header.Get("A") == "" {
		return fmt.Sprint(res.StatusCode) // the texts of errors are each proxy's own
	}
	return fmt.Sprintf("%d; %s; %s%s", res.StatusCode, fields(res.Header), got, trailers(res.Trailer))
}

func broken(ctx context.Context) string {
	if ctx.Err() != nil {
		return "held"
	}
	return "closed"
}
