package access_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
)

func record() *access.Record {
	return &access.Record{
		Time: time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC), RequestID: "0123456789abcdef0123456789abcdef", Client: "192.0.2.1",
		Listener: "http", Method: "GET", Host: "a.example.com", Path: "/x?y=1", Protocol: "HTTP/1.1", Status: 200,
		BytesIn: 3, BytesOut: 1024, Route: "all", Upstream: "u", Server: "10.0.0.1:80", Tries: 1,
		Connect: time.Millisecond, FirstByte: 2 * time.Millisecond, Total: 3 * time.Millisecond,
	}
}

func TestJSONLine(t *testing.T) {
	t.Parallel()
	hostile := record()
	hostile.Path = "/\"\n\x00\xff\u2028" + strings.Repeat("é", 3000)
	plugins := record()
	plugins.Fields = []exchange.Field{{Name: "cache", Value: "hit"}, {Name: "status", Value: "forged"}}
	plugins.Plugins = []access.Plugin{{Name: "limit", Took: 7 * time.Microsecond, Verdict: "allow"}, {Name: "headers"}}
	local := record()
	local.Upstream, local.Reason, local.Status = "", "no_route", 404
	retried := record()
	retried.Tries, retried.Retried = 3, []string{"connect", "503"}
	retried.Fields = []exchange.Field{{Name: "retried", Value: "forged"}}
	tests := []struct {
		name string
		r    *access.Record
		want map[string]any
		not  []string
	}{
		{"plain", record(), map[string]any{
			"ts": "2026-03-04T05:06:07.089Z", "request_id": "0123456789abcdef0123456789abcdef", "client": "192.0.2.1",
			"method": "GET", "host": "a.example.com", "path": "/x?y=1", "status": 200., "bytes_in": 3., "bytes_out": 1024.,
			"route": "all", "upstream": "u", "server": "10.0.0.1:80", "tries": 1., "t_connect": .001, "t_first_byte": .002, "t_total": .003,
		}, []string{"reason", "plugins", "retried"}},
		{"retried", retried, map[string]any{"tries": 3., "retried": []any{"connect", "503"}}, nil},
		{"answered by itself", local, map[string]any{"status": 404., "reason": "no_route"}, []string{"upstream", "server", "tries"}},
		{"plugins", plugins, map[string]any{"cache": "hit", "status": 200.}, nil},
		{"hostile", hostile, map[string]any{"status": 200.}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			l, err := access.Open(access.Options{Writer: &out})
			if err != nil {
				t.Fatal(err)
			}
			l.Log(tt.r)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			line := out.String()
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "}\n") {
				t.Fatalf("not one line: %q", line)
			}
			if len(line) > 4096 {
				t.Errorf("line has %d bytes", len(line))
			}
			if strings.Count(line, `"status"`) != 1 {
				t.Errorf("status is not there once: %s", line)
			}
			var got map[string]any
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			for k, v := range tt.want {
				if !reflect.DeepEqual(got[k], v) {
					t.Errorf("%s: got %v, want %v", k, got[k], v)
				}
			}
			for _, k := range tt.not {
				if _, ok := got[k]; ok {
					t.Errorf("%s is there", k)
				}
			}
			if tt.name == "plugins" {
				const want = `"plugins":[{"name":"limit","us":7,"verdict":"allow"},{"name":"headers","us":0}]`
				if !strings.Contains(line, want) {
					t.Errorf("got %s, want %s in it", line, want)
				}
			}
		})
	}
}

func TestCombined(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := access.Open(access.Options{Writer: &out, Format: access.Combined})
	if err != nil {
		t.Fatal(err)
	}
	r := record()
	r.UserAgent = "a\"b\n"
	l.Log(r)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const want = `192.0.2.1 - - [04/Mar/2026:05:06:07 +0000] "GET /x?y=1 HTTP/1.1" 200 1024 "-" "a\x22b\x0A"` + "\n"
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", out.String(), want)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := access.Open(access.Options{To: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Log(record())
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Log(record())
	l.Log(record())
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]int{path + ".1": 1, path: 2} {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(b, []byte("\n")); got != want {
			t.Errorf("%s: got %d lines, want %d", p, got, want)
		}
	}
}

type brokenWriter struct{ broken bool }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.broken {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestFlushesByItselfAndCountsWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &brokenWriter{broken: true}
		l, err := access.Open(access.Options{Writer: w, FlushEvery: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		l.Log(record())
		l.Log(record())
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := l.Dropped(); got != 2 {
			t.Errorf("dropped: got %d, want 2", got)
		}
		w.broken = false
		l.Log(record())
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.Log(record())
		if got := l.Dropped(); got != 3 {
			t.Errorf("dropped: got %d, want 3", got)
		}
	})
}

// A stuckWriter takes nothing until it is let go.
type stuckWriter struct {
	entered, letGo chan struct{}
	written        int
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.entered <- struct{}{}:
	default:
	}
	<-w.letGo
	w.written += bytes.Count(p, []byte("\n"))
	return len(p), nil
}

// TestNobodyReads: whoever reads the log must not hold up those who write to it,
// nor the end; memory is bounded, and every line is either written or counted.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{entered: make(chan struct{}, 1), letGo: make(chan struct{})}
		var told atomic.Uint64
		l, err := access.Open(access.Options{Writer: w, OnDrop: func(n uint64) { told.Add(n) }})
		if err != nil {
			t.Fatal(err)
		}
		l.Log(record())
		<-w.entered
		const lines = 50_000 // 20 MB
		before := time.Now()
		for range lines {
			l.Log(record())
		}
		if took := time.Since(before); took > 0 {
			t.Errorf("Log waited for %v", took)
		}
		if n := l.Dropped(); n == 0 || n >= lines {
			t.Errorf("%d of %d lines dropped: neither bounded nor buffered", n, lines)
		}
		for name, f := range map[string]func() error{"Flush": l.Flush, "Reopen": l.Reopen} {
			before := time.Now()
			if err := f(); !errors.Is(err, access.ErrStuck) || time.Since(before) > 5*time.Second {
				t.Errorf("%s: got %v after %v, want ErrStuck", name, err, time.Since(before))
			}
		}
		if err := l.Close(); !errors.Is(err, access.ErrStuck) {
			t.Errorf("Close: got %v, want ErrStuck", err)
		}
		close(w.letGo)
		synctest.Wait()
		if got := w.written + int(l.Dropped()); got != lines+1 || told.Load() != l.Dropped() {
			t.Errorf("%d written and %d dropped (told of %d), of %d lines", w.written, l.Dropped(), told.Load(), lines+1)
		}
	})
}

// TestPipe: a named pipe without a reader is an error and nothing to wait for;
// when its reader does not read, Close ends the write that is stuck.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := access.Open(access.Options{To: path}); err == nil {
		t.Fatal("opened a pipe that nobody reads")
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := access.Open(access.Options{To: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // more than a pipe holds
		l.Log(record())
	}
	if err := l.Close(); !errors.Is(err, access.ErrStuck) {
		t.Errorf("Close: got %v, want ErrStuck", err)
	}
	for range 1000 {
		if l.Dropped() > 0 {
			return
		}
		time.Sleep(time.Millisecond) // another goroutine counts
	}
	t.Error("no line was dropped")
}

func TestNilLogger(t *testing.T) {
	t.Parallel()
	l, err := access.Open(access.Options{To: "none"})
	if l != nil || err != nil {
		t.Fatalf("got %v, %v, want nil", l, err)
	}
	l.Log(record())
	if err := errors.Join(l.Flush(), l.Reopen(), l.Close()); err != nil {
		t.Error(err)
	}
}

// BenchmarkLog measures lines with all that they cost, at a pace that the writer keeps up
// with: without, it would measure a buffer that grows.
func BenchmarkLog(b *testing.B) {
	for _, f := range []struct {
		name string
		f    access.Format
	}{{"json", access.JSON}, {"combined", access.Combined}} {
		b.Run(f.name, func(b *testing.B) {
			l, err := access.Open(access.Options{Writer: io.Discard, Format: f.f})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			r := record()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Log(r)
				if i%64 == 63 {
					_ = l.Flush()
				}
			}
		})
	}
}

// TestWrite: a line from elsewhere is written as it is, at once, and not counted as lost
// when it comes too late.
func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l, err := access.Open(access.Options{Writer: &out, FlushEvery: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if n, err := l.Write([]byte("a line\n")); n != 7 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		synctest.Wait()
		if out.String() != "a line\n" || time.Since(start) != 0 {
			t.Errorf("after %v there is %q", time.Since(start), out.String())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := l.Write([]byte("late\n")); n != 0 || !errors.Is(err, os.ErrClosed) || l.Dropped() != 0 {
			t.Errorf("after Close: got %d, %v, %d lines dropped", n, err, l.Dropped())
		}
	})
	var none *access.Logger
	if n, err := none.Write([]byte("x\n")); n != 2 || err != nil {
		t.Errorf("nil: got %d, %v", n, err)
	}
}
