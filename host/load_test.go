package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

func tryLoad(t *testing.T, wasm []byte, o host.PluginOptions) (*host.Plugin, error) {
	t.Helper()
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	if o.Name == "" {
		o.Name = "mod"
	}
	return h.Load(t.Context(), wasm, o)
}

func TestLoadRefuses(t *testing.T) {
	guest := func(change func(m *wasmtest.Module)) []byte {
		m := wasmtest.NewGuest()
		change(m)
		return m.Bytes()
	}
	for _, tt := range []struct {
		name string
		wasm []byte
		want []string // parts of the message
	}{
		{"nothing", nil, []string{"not a WebAssembly module", "plugin mod"}},
		{"text", []byte("(module)"), []string{"does not start with"}},
		{"a component", []byte("\x00asm\x0d\x00\x01\x00"), []string{"component"}},
		{"garbage sections", []byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff"), []string{"ends early"}},
		{"truncated", func() []byte { b := wasmtest.NewGuest().Bytes(); return b[:len(b)-20] }(), []string{"not a WebAssembly module"}},
		{"invalid code", guest(func(m *wasmtest.Module) { m.Func("f", ">i", wasmtest.Drop()) }), []string{"does not compile"}},
		{"no marker", (&wasmtest.Module{MinPages: 1}).Bytes(), []string{"no ABI marker", "no allocator"}},
		{"marker of another version", func() []byte {
			m := &wasmtest.Module{MinPages: 1}
			m.Func("proxy_abi_version_0_9_9", "")
			m.Allocator("malloc")
			return m.Bytes()
		}(), []string{"marker proxy_abi_version_0_9_9 is of no version known", "0_1_0, ", "0_2_0, ", "0_2_1, ", "proxy_abi_version_0_2_100"}},
		{"no memory", func() []byte {
			m := &wasmtest.Module{}
			m.Func("proxy_abi_version_0_2_0", "")
			m.Func("malloc", "i>i", i32(0))
			return m.Bytes()
		}(), []string{"no memory"}},
		{"allocator of a wrong type", guest(func(m *wasmtest.Module) {
			m.Unexport("proxy_on_memory_allocate")
			m.Func("malloc", "I>i", i32(0))
		}), []string{"malloc has type (i64) -> i32, want (i32) -> i32"}},
		{"huge memory", guest(func(m *wasmtest.Module) { m.MinPages = 65536 }), []string{"65536 pages", "sandbox.memory"}},
		{"callback types", guest(func(m *wasmtest.Module) {
			m.Func("proxy_on_request_headers", "i>i", i32(0))
			m.Func("proxy_on_log", "I")
			m.Func("proxy_on_request_body", "iii>I", i64(0))
			m.Func("proxy_on_tick", "i>i", i32(0))
		}), []string{"4 problems", "proxy_on_request_headers has type (i32) -> i32, want (i32, i32, i32) -> i32", "proxy_on_log has type (i64), want (i32)", "proxy_on_request_body", "proxy_on_tick"}},
		{"import types", guest(func(m *wasmtest.Module) {
			m.Env("proxy_log", "ii>i")
			m.Env("proxy_continue_request", "i")
			m.Import("wasi_unstable", "fd_write", "i>i")
		}), []string{"3 problems", "env.proxy_log with the type (i32, i32) -> i32, want (i32, i32, i32) -> i32", "proxy_continue_request with the type (i32), want () or () -> i32", "wasi_unstable.fd_write"}},
		{"other modules", guest(func(m *wasmtest.Module) {
			m.Import("sys", "open", "i>i")
			m.ImportGlobal("env", "base")
		}), []string{"sys.open", `no module "sys"`, "global env.base"}},
		{"imported memory", func() []byte {
			m := &wasmtest.Module{}
			m.ImportMemory("env", "memory")
			m.Func("proxy_abi_version_0_2_0", "")
			m.Func("malloc", "i>i", i32(0))
			return m.Bytes()
		}(), []string{"memory env.memory: only functions", "no memory of its own"}},
		{"one name, two types", guest(func(m *wasmtest.Module) {
			m.Env("x", "i")
			m.Env("x", "ii")
		}), []string{"env.x twice, with the types (i32) and (i32, i32)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tryLoad(t, tt.wasm, host.PluginOptions{})
			if _, ok := errors.AsType[*host.LoadError](err); !ok {
				t.Fatalf("Load() = %v, want a LoadError", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("Load() = %q, want a message with %q", err, part)
				}
			}
		})
	}
}

func TestMarkers(t *testing.T) {
	for _, tt := range []struct {
		markers []string
		want    abi.Version
		pause   host.HeadersPause
	}{
		{[]string{"proxy_abi_version_0_1_0"}, abi.Version010, host.HeadersPauseStopAll},
		{[]string{"proxy_abi_version_0_2_0"}, abi.Version020, host.HeadersPauseStopAll},
		{[]string{"proxy_abi_version_0_2_1"}, abi.Version021, host.HeadersPauseStopAll},
		{[]string{"proxy_abi_version_0_2_100"}, abi.VersionHigress, host.HeadersPauseHold},
		{[]string{"proxy_abi_version_0_2_1", "proxy_abi_version_0_1_0"}, abi.Version021, host.HeadersPauseStopAll}, // the first counts
		{[]string{"proxy_abi_version_0_1_0", "proxy_abi_version_0_2_1"}, abi.Version010, host.HeadersPauseStopAll},
	} {
		m := &wasmtest.Module{MinPages: 1}
		for _, name := range tt.markers {
			m.Func(name, "")
		}
		m.Allocator("malloc")
		p, err := tryLoad(t, m.Bytes(), host.PluginOptions{})
		if err != nil {
			t.Errorf("%v: %v", tt.markers, err)
			continue
		}
		if p.Version() != tt.want || p.HeadersPause() != tt.pause {
			t.Errorf("%v: version %v, pause %v, want %v, %v", tt.markers, p.Version(), p.HeadersPause(), tt.want, tt.pause)
		}
	}
	p, err := tryLoad(t, wasmtest.NewGuestVersion("proxy_abi_version_0_2_100").Bytes(), host.PluginOptions{HeadersPause: host.HeadersPauseStopAll})
	if err != nil || p.HeadersPause() != host.HeadersPauseStopAll {
		t.Errorf("the option does not win over the marker: %v", err)
	}
}

// No memory becomes so large that its size does not fit into 32 bits.
func TestLargestMemory(t *testing.T) {
	m := wasmtest.NewGuest() // 2 pages
	m.Headers("request", sayID(m, "refused:", wasmtest.Eq(wasmtest.MemoryGrow(i32(65534)), i32(-1))), i32(0))
	s := start(t, m, options{plugin: host.PluginOptions{Memory: 4 << 30}})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Error(err)
	}
	_ = c.Finish(nil)
	wantLines(t, s.log.lines(true), "refused: 1")
}

func TestPluginOptions(t *testing.T) {
	for _, o := range []host.PluginOptions{
		{},
		{Name: "x", Memory: -1},
		{Name: "x", Memory: 5 << 30},
		{Name: "x", Instances: -1},
		{Name: "x", Instances: 1 << 20},
		{Name: "x", RestartMin: -1},
		{Name: "x", LogLevel: 6},
		{Name: "x", HeadersPause: 9},
		{Name: "x", Env: map[string]string{"A=B": "c"}},
		{Name: "x", Env: map[string]string{"A": "c\x00"}},
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("Validate(%+v) = nil", o)
		}
	}
	if _, err := host.NewHost(host.HostOptions{SharedBytes: -1}); err == nil {
		t.Error("NewHost takes a negative size")
	}
}

// An import that nobody knows is no reason to refuse a guest that never calls it.
func TestUnknownImport(t *testing.T) {
	m := wasmtest.NewGuest()
	junk := m.Env("__cxa_thread_atexit", "ii>I")
	old := m.Import("wasi_unstable", "strange_call", "")
	m.Headers("request", call(junk, i32(1), i32(2)), drop(), i32(0))
	m.Headers("response", call(old), i32(0))
	for side, want := range map[string]string{"request": "env.__cxa_thread_atexit", "response": "wasi_unstable.strange_call"} {
		s := start(t, m, options{})
		c := s.open(newStream())
		run := c.RequestHeaders
		if side == "response" {
			run = c.ResponseHeaders
		}
		_, err := run(1, true)
		var te *host.TrapError
		if !errors.As(err, &te) || te.Cause != host.CauseTrap || !strings.Contains(te.Detail, want) {
			t.Errorf("%s: %v, want a trap that names %s", side, err, want)
		}
		_ = c.Finish(nil)
	}
}

// Both kinds of a function that has two types link, without a result too.
func TestSignatureVariants(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Headers("request", call(m.Env("proxy_continue_request", "")), call(m.Env("proxy_clear_route_cache", "")), i32(0))
	s := start(t, m, options{})
	st := newStream()
	c := s.open(st)
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(st.events, ", "); got != "resume Request, clear route cache" {
		t.Errorf("events %q", got)
	}
	_ = c.Finish(nil)
}

func TestCacheDir(t *testing.T) {
	wasm := wasmtest.NewGuest().Bytes()
	run := func(dir string) *recorder {
		t.Helper()
		log := &recorder{}
		h, err := host.NewHost(host.HostOptions{CacheDir: dir, Log: log.log})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		p, err := h.Load(t.Context(), wasm, host.PluginOptions{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.NewRoot(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return log
	}
	files := func(dir string) int {
		n := 0
		_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				n++
			}
			return nil
		})
		return n
	}
	base := t.TempDir()
	private := filepath.Join(base, "private")
	for range 2 { // the second time the code comes from there
		if lines := run(private).lines(false); len(lines) > 0 {
			t.Errorf("a private directory: %q", lines)
		}
	}
	if st, err := os.Stat(private); err != nil || st.Mode().Perm() != 0o700 || files(private) == 0 {
		t.Errorf("the cache directory: %v, %v, %d files, want mode 0700 and files", st, err, files(private))
	}
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o770); err != nil {
		t.Fatal(err)
	}
	if log := run(open); !log.contains(false, "0770") || files(open) != 0 {
		t.Errorf("a directory open to others is used (%d files) or not reported: %q", files(open), log.lines(false))
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(private, link); err != nil {
		t.Fatal(err)
	}
	if log := run(link); !log.contains(false, "not a directory") {
		t.Errorf("a link is used: %q", log.lines(false))
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if log := run(file); !log.contains(false, "memory only") {
		t.Errorf("a file is used: %q", log.lines(false))
	}
}
