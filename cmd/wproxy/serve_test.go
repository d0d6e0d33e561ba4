package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/server"
)

// TestEndDuringStart: the first signal asks a start to give up, the second ends
// one that does not listen.
func TestEndDuringStart(t *testing.T) {
	listens := func(ctx context.Context) (*app, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	never := make(chan struct{})
	stuck := func(context.Context) (*app, error) {
		<-never
		return nil, errors.New("never")
	}
	for _, tt := range []struct {
		name    string
		start   func(context.Context) (*app, error)
		signals []os.Signal
		want    int
	}{
		{"once", listens, []os.Signal{syscall.SIGHUP, syscall.SIGTERM}, exitOK},
		{"twice, stuck", stuck, []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT}, exitFailed},
		{"fails", func(context.Context) (*app, error) { return nil, io.EOF }, nil, exitFailed},
	} {
		signals := make(chan os.Signal, 8)
		for _, s := range tt.signals {
			signals <- s
		}
		if a, code := await(t.Context(), signals, io.Discard, tt.start); a != nil || code != tt.want {
			t.Errorf("%s: got %v, exit code %d, want %d", tt.name, a, code, tt.want)
		}
	}
	close(never)
}

// TestSignalsAreKept: what is asked for during the start is done after it.
func TestSignalsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 8)
		signals <- syscall.SIGTERM
		signals <- syscall.SIGHUP
		a, _ := await(t.Context(), signals, io.Discard, func(context.Context) (*app, error) {
			time.Sleep(time.Second) // both have arrived
			return &app{}, nil
		})
		if a == nil || len(signals) != 2 || <-signals != syscall.SIGHUP || <-signals != syscall.SIGTERM {
			t.Errorf("got %v, signals %v", a, len(signals))
		}
	})
}

// newTestApp starts an app without a process around it. What it has logged is in the
// buffer; what it logs later is there after app.log.Sync.
func newTestApp(t *testing.T, toml string) (*app, *syncBuffer) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CACHE_HOME", dir)
	file := filepath.Join(dir, "wproxy.toml")
	if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	own := newServerLog(io.Discard, log)
	t.Cleanup(own.close)
	a, err := startApp(t.Context(), source{file: file, name: file}, own)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.log.Sync(); err != nil {
		t.Fatal(err)
	}
	return a, log
}

const plainConfig = `[listeners.http]
address = "127.0.0.1:0"
[routes.all]
respond = { body = "ok" }
`

// TestEndWithReloadStuck: a reload that never ends does not keep the process.
func TestEndWithReloadStuck(t *testing.T) {
	for name, signals := range map[string][]os.Signal{
		"one signal":  {syscall.SIGHUP, syscall.SIGTERM},
		"two signals": {syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			a, log := newTestApp(t, plainConfig)
			a.reloading.Lock() // as if a reload were under way
			c := make(chan os.Signal, 8)
			for _, s := range signals {
				c <- s
			}
			ended := make(chan int, 1)
			go func() { ended <- a.loop(t.Context(), c) }() // ends within seconds
			select {
			case code := <-ended:
				if code != exitOK && len(signals) == 2 || !strings.Contains(log.String(), `"signal"`) {
					t.Errorf("exit code %d, log %s", code, log)
				}
			case <-time.After(reloadEndTime + adminCloseTime + 5*time.Second):
				t.Error("it does not end")
			}
			a.reloading.Unlock()
			// What was asked for before the end does not begin after it.
			strict.Eventually(t, "reloads are refused", func() bool {
				a.reloading.Lock()
				defer a.reloading.Unlock()
				return a.ended
			})
			if _, err := a.reload(t.Context()); !errors.Is(err, server.ErrDraining) {
				t.Errorf("a reload after the end: got %v, want ErrDraining", err)
			}
			strict.Eventually(t, "the end", func() bool { return strings.Contains(log.String(), `"stopped"`) })
		})
	}
}
