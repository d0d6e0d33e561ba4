package main

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// fakeStream is an exchange as the host sees it, with the few things the plugin asks for.
type fakeStream struct {
	replied bool
	fields  fakeMap
}

func (s *fakeStream) Map(abi.MapType) host.Map          { return s.fields }
func (s *fakeStream) Buffer(abi.BufferType) host.Buffer { return nil }
func (s *fakeStream) SetProperty(string, []byte)        {}
func (s *fakeStream) Resume(abi.StreamType)             {}
func (s *fakeStream) Close(abi.StreamType)              {}
func (s *fakeStream) Reply(host.Reply)                  { s.replied = true }
func (s *fakeStream) ClearRouteCache()                  {}

func (s *fakeStream) Property(dst []byte, path string) ([]byte, bool) {
	switch path {
	case "route_name":
		return append(dst, "api"...), true
	case "source\x00address":
		return append(dst, "192.0.2.1:4711"...), true
	case "request\x00scheme":
		return append(dst, "https"...), true
	}
	return dst, false
}

// fakeMap has no fields and takes any.
type fakeMap struct{}

func (fakeMap) Len() int                       { return 0 }
func (fakeMap) Get(string) (string, bool)      { return "", false }
func (fakeMap) Set(string, string) bool        { return true }
func (fakeMap) Add(string, string) bool        { return true }
func (fakeMap) Remove(string) bool             { return true }
func (fakeMap) Replace([]abi.Pair) bool        { return true }
func (fakeMap) All() iter.Seq2[string, string] { return func(func(string, string) bool) {} }

// cacheDir is where compiled plugins are kept between runs, "" if there is no place.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir = filepath.Join(dir, "wproxy", "plugintest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	return dir
}

// open starts the plugin with as many VMs as instances.
func open(tb testing.TB, config string, instances int, grants []string) *host.Root {
	tb.Helper()
	wasm, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	h, err := host.NewHost(host.HostOptions{CacheDir: cacheDir(), Log: func(e host.LogEntry) { tb.Log(e.Message) }})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	p, err := h.Load(context.Background(), wasm, host.PluginOptions{Name: "limit", Instances: instances, Grants: grants})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	root, err := p.NewRoot(context.Background(), []byte(config))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(root.Close)
	return root
}

// exchange runs one exchange through the plugin and reports whether it was admitted.
func exchange(tb testing.TB, root *host.Root, c *host.Context, s *fakeStream) bool {
	tb.Helper()
	*c, s.replied = host.Context{}, false
	if err := root.Open(c, s); err != nil {
		tb.Error(err)
		return false
	}
	if _, err := c.RequestHeaders(4, true); err != nil {
		tb.Error(err)
	}
	if _, err := c.ResponseHeaders(3, false); err != nil {
		tb.Error(err)
	}
	if err := c.Finish(nil); err != nil {
		tb.Error(err)
	}
	return !s.replied
}

// TestWasmContention: goroutines push requests of one key through all VMs at once, for real;
// what is admitted stays within rate * time + burst, and is not much less either.
func TestWasmContention(t *testing.T) {
	for name, place := range places {
		if place.without == nil { // nothing passes a gate here
			t.Run(name, func(t *testing.T) { contend(t, place.grants) })
		}
	}
}

func contend(t *testing.T, grants []string) {
	const burst, rate, workers, each = 200, 1000, 8, 250
	root := open(t, `{"rate":"1000/s","burst":200,"key":"client-ip"}`, 4, grants)
	start := time.Now()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var c host.Context
			var s fakeStream
			for range each {
				if exchange(t, root, &c, &s) {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	most := burst + int64(rate*elapsed.Seconds()) + 1
	got := admitted.Load()
	if got > most {
		t.Errorf("%d admitted in %v, more than rate * time + burst = %d", got, elapsed, most)
	}
	if got < min(burst, workers*each) {
		t.Errorf("%d admitted, less than the burst of %d", got, burst)
	}
}

// TestWasmManyClients: clients that ask as often as they can for some time, through four VMs, get
// together what the rate allows: no more than rate * time + burst, and at least 99 % of that.
// WPROXY_LONG=1 makes it 10 seconds.
func TestWasmManyClients(t *testing.T) {
	for name, place := range places {
		if place.without != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			duration := 2500 * time.Millisecond
			if os.Getenv("WPROXY_LONG") != "" {
				duration = 10 * time.Second
			}
			crowd(t, place.grants, duration)
		})
	}
}

func crowd(t *testing.T, grants []string, duration time.Duration) {
	const burst, rate, clients = 50, 100, 64
	root := open(t, `{"rate":"100/s","burst":50,"key":"global"}`, 4, grants)
	var admitted, asked atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			var c host.Context
			var s fakeStream
			for time.Since(start) < duration {
				if exchange(t, root, &c, &s) {
					admitted.Add(1)
				}
				if asked.Add(1) > 20_000 { // everybody at once at first; then others may use the machine, too
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	// What has come since the last of them asked is theirs, too: they may have been kept waiting.
	var c host.Context
	var s fakeStream
	for exchange(t, root, &c, &s) {
		admitted.Add(1)
	}
	took := time.Since(start)
	most := burst + int64(rate*took.Seconds()) + 1
	least := (burst + int64(rate*duration.Seconds())) * 99 / 100
	if got := admitted.Load(); got > most || got < least {
		t.Errorf("%d of %d admitted in %v, want %d to %d", got, asked.Load(), took, least, most)
	}
}

func BenchmarkWasm(b *testing.B) {
	for name, config := range map[string]string{
		"admitted": `{"rate":"1000000/s","burst":1000000000}`,
		"refused":  `{"rate":"1/h"}`,
	} {
		b.Run(name, func(b *testing.B) {
			root := open(b, config, 1, places["counters"].grants)
			var c host.Context
			var s fakeStream
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, root, &c, &s)
			}
		})
	}
}
