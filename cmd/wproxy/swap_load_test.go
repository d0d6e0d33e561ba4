package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// Swaps of a .wasm file under load: in CI and, with WPROXY_LONG set, in the long form.
const (
	swaps     = 40
	swapsLong = 200
)

// markGuest is a plugin that puts its name into answers.
func markGuest(name string) []byte {
	m := wasmtest.NewGuest()
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	m.Headers("response", wasmtest.Call(add, wasmtest.I32(2), m.Str(guestMark), m.Str(name)), wasmtest.Drop(), wasmtest.I32(0))
	return m.Bytes()
}

// TestSwapUnderLoad: a .wasm file is replaced by another one and back, again and again,
// without a restart. No request fails or sees anything but one of the two, the old ones
// are drained and closed, and memory and goroutines are flat.
func TestSwapUnderLoad(t *testing.T) {
	origin := newGoOrigin(t)
	wasm := filepath.Join(t.TempDir(), "mark.wasm")
	put := func(name string) {
		if err := os.WriteFile(wasm, markGuest(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("even")
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	toml = strings.Replace(toml, "[routes.denied]", "use = [\"mark\"]\n\n[routes.denied]", 1) + "\n[plugins.mark]\nwasm = \"" + wasm + "\"\n"
	in := startInstance(t, toml)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var requests atomic.Int64
	var wg sync.WaitGroup
	for i := range loadWorkers {
		wg.Go(func() { // ends with ctx
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				requests.Add(1)
				if err := markedOnce(client, in.addr); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	n := swaps
	if os.Getenv("WPROXY_LONG") != "" {
		n = swapsLong
	}
	var early, late footprint
	for i := 1; i <= n; i++ {
		name := [...]string{"even", "odd"}[i%2]
		put(name)
		var out bytes.Buffer
		if code := run(context.Background(), []string{"reload", "-c", in.file}, &out, &out); code != exitOK {
			t.Fatalf("swap %d: exit code %d: %s", i, code, out.String())
		}
		if got := in.get(t, "a.test", "/ok").Fields.Get(guestMark); got != name {
			t.Errorf("after swap %d: %q answers, want %q", i, got, name)
		}
		switch i {
		case n / 4:
			early = readFootprint()
		case n:
			late = readFootprint()
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d requests; %v after a quarter of the swaps, %v at the end", requests.Load(), early, late)
	if requests.Load() < 100 {
		t.Errorf("only %d requests: that is no load", requests.Load())
	}
	if late.heap > early.heap*3/2+4<<20 || late.resident > early.resident*3/2+32<<20 || late.goroutines > early.goroutines+20 {
		t.Errorf("it grows: %v, then %v", early, late)
	}
	strict.Eventually(t, "one VM pool left", func() bool { return in.sum(t, "wproxy_plugin_instances") <= float64(runtime.GOMAXPROCS(0)) })
}

// markedOnce sends a request that must be answered by way of one of the two guests.
func markedOnce(client *http.Client, addr string) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/ok", nil)
	if err != nil {
		return err
	}
	req.Host = "a.test"
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	mark := resp.Header.Get(guestMark)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok" || mark != "even" && mark != "odd" {
		return fmt.Errorf("got %d %q with the guest's mark %q, %w", resp.StatusCode, body, mark, err)
	}
	return nil
}

// footprint is what a process has of what can leak.
type footprint struct{ heap, resident, goroutines int }

func (u footprint) String() string {
	return fmt.Sprintf("heap %d KiB, resident %d KiB, %d goroutines", u.heap>>10, u.resident>>10, u.goroutines)
}

func readFootprint() footprint {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := footprint{heap: int(m.HeapAlloc), goroutines: runtime.NumGoroutine()} //nolint:gosec // bytes of one process
	var size, pages int
	if b, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux; elsewhere 0
		if _, err := fmt.Sscan(string(b), &size, &pages); err == nil {
			u.resident = pages * os.Getpagesize()
		}
	}
	return u
}
