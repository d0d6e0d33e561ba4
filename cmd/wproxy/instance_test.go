package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// sharedCache is an environment variable with the directory in which all instances keep
// compiled plugins: compiling takes seconds, and with the race detector half a minute.
const sharedCache = "WPROXY_TEST_CACHE"

// An instance is a whole wproxy, started as on the command line but in this
// process, so that goroutines can be counted and races seen.
type instance struct {
	addr, admin string // host:port
	file        string // its configuration
	access      string // its access log
	stderr      *syncBuffer
	cancel      context.CancelFunc
	exited      chan int // the exit code, once
}

// startInstance runs wproxy with a configuration in which @ADDR, @ADMIN and
// @ACCESS are replaced. It is stopped, and must end well, with the test.
func startInstance(t testing.TB, toml string) *instance {
	t.Helper()
	dir := t.TempDir()
	in := &instance{
		addr: freeAddress(t), admin: freeAddress(t),
		file: filepath.Join(dir, "wproxy.toml"), access: filepath.Join(dir, "access.log"),
		stderr: &syncBuffer{}, exited: make(chan int, 1),
	}
	t.Setenv("XDG_RUNTIME_DIR", dir) // the admin socket, away from others'
	// Compiled plugins.
	t.Setenv("XDG_CACHE_HOME", cmp.Or(os.Getenv(sharedCache), dir))
	in.write(t, toml)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGWINCH) // its one goroutine stays for ever: not a leak
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	in.cancel = cancel
	go func() { in.exited <- run(ctx, []string{"run", "-c", in.file}, io.Discard, in.stderr) }() // ends with ctx
	t.Cleanup(func() {
		in.stop(t)
		// Some of the runtime's own (timers of connections just closed) end a
		// moment later; what stays is a leak.
		strict.Eventually(t, "back at the goroutines from before the start", func() bool { return runtime.NumGoroutine() <= before })
		if runtime.NumGoroutine() > before {
			buf := make([]byte, 16<<10)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := in.scrape(); err == nil {
			if c, err := net.Dial("tcp", in.addr); err == nil {
				_ = c.Close()
				return in
			}
		}
		select {
		case code := <-in.exited:
			in.exited <- code
			t.Fatalf("wproxy ended with %d: %s", code, in.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("wproxy does not start: %s", in.stderr)
	return nil
}

// write replaces the configuration file.
func (in *instance) write(t testing.TB, toml string) {
	t.Helper()
	toml = strings.NewReplacer("@ADDR", in.addr, "@ADMIN", in.admin, "@ACCESS", in.access).Replace(toml)
	if err := os.WriteFile(in.file, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload makes the instance read its configuration again, which must be accepted.
func (in *instance) reload(t testing.TB) {
	t.Helper()
	if code, out := in.tryReload(); code != exitOK {
		t.Fatalf("reload: exit code %d: %s", code, out)
	}
}

// tryReload makes it read its configuration and returns what `wproxy reload` does.
func (in *instance) tryReload() (code int, out string) {
	var b bytes.Buffer
	code = run(context.Background(), []string{"reload", "-c", in.file}, &b, &b)
	return code, b.String()
}

// stop ends the instance and waits for it. More than once is fine.
func (in *instance) stop(t testing.TB) {
	t.Helper()
	in.cancel()
	select {
	case code := <-in.exited:
		in.exited <- code
		if code != exitOK {
			t.Errorf("wproxy ended with %d: %s", code, in.stderr)
		}
	case <-time.After(patience):
		buf := make([]byte, 16<<10)
		t.Fatalf("wproxy does not end:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// scrape reads /metrics: the line's name with labels to its value.
func (in *instance) scrape() (map[string]float64, error) {
	client := http.Client{Timeout: wireTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + in.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d: %s", resp.StatusCode, body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			values[line[:i]] = v
		}
	}
	return values, nil
}

// sum adds up all series of one name.
func (in *instance) sum(t testing.TB, name string) float64 {
	t.Helper()
	values, err := in.scrape()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for k, v := range values {
		if k == name || strings.HasPrefix(k, name+"{") {
			total += v
		}
	}
	return total
}

// syncBuffer is a buffer that one goroutine writes and another reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns all that was written.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A wire is a client's connection.
type wire struct {
	net.Conn
	r *strict.Reader
}

// wireTimeout bounds everything a client of these tests does on a connection. Only what hangs
// uses it up.
const wireTimeout = 30 * time.Second

// prompt is what nothing takes that waits for nobody, on a machine that others use and with the
// race detector. It is less than what is told from it: the end of a time that is not to be waited
// for, or of a request that would hang.
const prompt = 15 * time.Second

// dial connects to the instance; the connection ends with the test.
func (in *instance) dial(t testing.TB) *wire {
	t.Helper()
	w := in.connect(t)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// connect is dial for who closes the connection: what ends with the test is held until
// then, which tells in a test of ten thousand connections that looks at the heap.
func (in *instance) connect(t testing.TB) *wire {
	t.Helper()
	c, err := net.Dial("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(wireTimeout)); err != nil {
		t.Fatal(err)
	}
	return &wire{Conn: c, r: strict.NewReader(c)}
}

// get sends a GET for target on a connection of its own and returns the answer.
func (in *instance) get(t testing.TB, host, target string) *strict.Response {
	t.Helper()
	w := in.connect(t)
	defer w.Close()
	if _, err := fmt.Fprintf(w, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, host); err != nil {
		t.Fatal(err)
	}
	resp, err := w.r.ReadResponse("GET")
	if err != nil {
		t.Errorf("GET %s: %v", target, err)
	}
	return resp
}
