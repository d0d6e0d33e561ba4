package adapter_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/plugins/guestbuild"
)

// guest builds the plugin in testdata/name.
func guest(t *testing.T, name string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	o := guestbuild.Options{Dir: filepath.Join("testdata", name), Out: out, Stderr: os.Stderr}
	if _, err := guestbuild.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// TestEverything: each host function of the SDK, through the adapter, in the real host.
func TestEverything(t *testing.T) {
	wasm := guest(t, "everything")
	o := plugintest.Options{Config: "settings", VMConfig: []byte("vm settings")}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{
			Method: "POST", Body: []byte("hello"), Trailers: plugintest.Fields("t", "v"),
			Fields: plugintest.Fields("x-replaced", "old", "x-removed", "1"),
		}, plugintest.Response{})
		p.Advance(150 * time.Millisecond)

		up := s.Upstream()
		if up.Get("x-added") != "1" || up.Get("x-replaced") != "new" || up.Get("x-removed") != "" {
			t.Errorf("request fields: got %v", up.Fields)
		}
		if s.Client().Get("x-count") == "" {
			t.Errorf("response fields: got %v, want x-count", s.Client().Fields)
		}
		if v, ok := p.Metric("counter"); !ok || v != 3 {
			t.Errorf("counter: got %d", v)
		}
		if v, ok := p.Metric("gauge"); !ok || v != -5 {
			t.Errorf("gauge: got %d", v)
		}
		var lines []string
		for _, e := range p.Logs() {
			lines = append(lines, e.Message)
		}
		for _, want := range []string{
			"main runs", `vm 11 "vm settings" <nil>`, `plugin "settings" <nil>`, "tick",
			"headers true <nil>", "missing: error status returned by host: not found",
			`shared "one" true <nil>`, "cas: error status returned by host: cas mismatch",
			"no shared: error status returned by host: not found",
			`property "POST" <nil>`, `own property "value" <nil>`, "metrics 3 -5", "effective context: <nil>",
			`trailers 1 "v" <nil>`, "stream done",
		} {
			if n := count(lines, want); n != 1 {
				t.Errorf("log line %q: %d times, want once", want, n)
			}
		}
		if t.Failed() {
			t.Logf("log:\n%s", strings.Join(lines, "\n"))
		}

		s = p.Do(plugintest.Request{Method: "POST", Body: []byte("hello")}, plugintest.Response{})
		if got := string(s.Upstream().Body); got != "start replaced end" {
			t.Errorf("body: got %q", got)
		}
		s = p.Do(plugintest.Request{Fields: plugintest.Fields("x-reply", "teapot")}, plugintest.Response{})
		if c := s.Client(); c.Status != 418 || string(c.Body) != "teapot" || c.Get("x-a") != "b" {
			t.Errorf("local reply: got %+v", c)
		}
	})
}

func count(lines []string, want string) int {
	n := 0
	for _, l := range lines {
		if l == want {
			n++
		}
	}
	return n
}

// TestInits: SetVMContext in init, host calls before that, and a main that does nothing.
func TestInits(t *testing.T) {
	wasm := guest(t, "inits")
	plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{
			Method: "POST", Body: []byte("a"), Trailers: plugintest.Fields("t", "v"),
		}, plugintest.Response{Body: []byte("b"), Trailers: plugintest.Fields("t", "v")})
		if got := s.Client().Get("x-calls"); got != "hbtH" {
			t.Errorf("callbacks up to the response: got %q, want hbtH", got)
		}
		for _, want := range []string{"package variables are initialised", "done hbtHBT"} {
			if !p.Logged(want) {
				t.Errorf("the log line %q is missing", want)
			}
		}
	})
}

// TestStreams opens many streams, and ends them in another order:
// each callback must reach the context that was made for its stream. So too in a
// host that does not know the extension.
func TestStreams(t *testing.T) {
	wasm := guest(t, "inits")
	t.Run("slots", func(t *testing.T) { testStreams(t, wasm) })
	name := []byte(abi.ExportStreamSlots)
	if !bytes.Contains(wasm, name) {
		t.Errorf("the guest has no %s", name)
	}
	other := slices.Clone(name)
	other[0] = 'x'
	t.Run("calls", func(t *testing.T) { testStreams(t, bytes.ReplaceAll(wasm, name, other)) })
}

func testStreams(t *testing.T, wasm []byte) {
	plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		rng := rand.New(rand.NewPCG(1, 2))
		var open []*plugintest.Stream
		seen := map[string]bool{}
		end := func(i int) {
			s := open[i]
			open = slices.Delete(open, i, i+1)
			s.Respond(plugintest.Response{})
			id := s.Upstream().Get("x-id")
			if got := s.Client().Get("x-id"); got == "" || got != id || seen[id] {
				t.Errorf("response of context %q, request of %q, seen before: %t", got, id, seen[id])
			}
			if got := s.Client().Get("x-calls"); got != "hH" {
				t.Errorf("context %s: got calls %q, want hH", id, got)
			}
			seen[id] = true
			s.Finish()
		}
		for range 1000 {
			open = append(open, p.Open(plugintest.Request{}))
			for len(open) > 0 && rng.IntN(300) < len(open) {
				end(rng.IntN(len(open)))
			}
		}
		if len(open) < 64 {
			t.Errorf("%d streams were open at the end: too few to test the table's growth", len(open))
		}
		for len(open) > 0 {
			end(rng.IntN(len(open)))
		}
	})
}

// TestMemory: values that a plugin keeps stay what they were while thousands of others
// come and go, and those leave nothing behind: 16 MiB are enough for any number.
func TestMemory(t *testing.T) {
	wasm := guest(t, "everything")
	o := plugintest.Options{Memory: 16 << 20}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		n := 2000
		if testing.Short() {
			n = 200
		}
		for i := range n {
			// 20 kept values, some cut from blocks, some with blocks of their own; and
			// 16 KiB a request that nobody keeps.
			keep := strings.Repeat(strconv.Itoa(i%20)+".", 1+20*(i%20))
			s := p.Do(plugintest.Request{Fields: plugintest.Fields("x-keep", keep)}, plugintest.Response{
				Fields: plugintest.Fields("x-big", strings.Repeat("x", 16<<10)),
			})
			if s.Client().Status != 200 {
				t.Fatalf("request %d: got %d %s", i, s.Client().Status, s.Reason())
			}
		}
		if p.Logged("has changed") {
			t.Error("a kept value has changed")
		}
	})
}
