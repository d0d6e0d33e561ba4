package host_test

import (
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// TestMain fails if a goroutine of the package is left.
func TestMain(m *testing.M) {
	code := m.Run()
	var left string
	for range 1000 { // goroutines that have just been released take a moment
		if left = leaked(); left == "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func leaked() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "wproxy/host.") && !strings.Contains(g, "TestMain") {
			return g
		}
	}
	return ""
}

// A recorder keeps log entries.
type recorder struct {
	mu      sync.Mutex
	entries []host.LogEntry
}

func (r *recorder) log(e host.LogEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
}

// lines returns the messages of the guest, or those of the host about it.
func (r *recorder) lines(guest bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, e := range r.entries {
		if e.Guest == guest {
			lines = append(lines, e.Message)
		}
	}
	return lines
}

func (r *recorder) contains(guest bool, part string) bool {
	return slices.ContainsFunc(r.lines(guest), func(s string) bool { return strings.Contains(s, part) })
}

// A setup is a plugin that runs, with what surrounds it.
type setup struct {
	t      *testing.T
	log    *recorder
	caller *fakeCaller // of calls; nil: the test has another
	grpc   *fakeGRPC   // the same of gRPC
	host   *host.Host
	plugin *host.Plugin
	root   *host.Root
}

type options struct {
	host   host.HostOptions
	plugin host.PluginOptions
	config string

	defaultGrants bool // leave PluginOptions.Grants nil
}

// allGrants is what plugins of tests may use, unless the test says otherwise.
var allGrants = append(host.DefaultGrants(), host.GrantQueue, host.GrantEnv, host.GrantCall+"u")

// load loads m; the plugin has no root yet.
func load(t *testing.T, m *wasmtest.Module, o options) *setup {
	t.Helper()
	return loadWasm(t, m.Bytes(), o)
}

// loadWasm is load for an encoded module.
func loadWasm(t *testing.T, wasm []byte, o options) *setup {
	t.Helper()
	s := &setup{t: t, log: &recorder{}}
	if o.host.Log == nil {
		o.host.Log = s.log.log
	}
	if o.host.Caller == nil {
		s.caller = newFakeCaller()
		o.host.Caller = s.caller
	}
	if o.host.GRPC == nil {
		s.grpc = newFakeGRPC()
		o.host.GRPC = s.grpc
	}
	if o.plugin.Name == "" {
		o.plugin.Name = "test"
	}
	if o.plugin.Instances == 0 {
		o.plugin.Instances = 1
	}
	if o.plugin.Grants == nil && !o.defaultGrants {
		o.plugin.Grants = allGrants
	}
	var err error
	if s.host, err = host.NewHost(o.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.host.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	if s.plugin, err = s.host.Load(t.Context(), wasm, o.plugin); err != nil {
		t.Fatal(err)
	}
	return s
}

// start loads m and starts a root.
func start(t *testing.T, m *wasmtest.Module, o options) *setup {
	t.Helper()
	return startWasm(t, m.Bytes(), o)
}

// startWasm is start for an encoded module.
func startWasm(t *testing.T, wasm []byte, o options) *setup {
	t.Helper()
	s := loadWasm(t, wasm, o)
	var err error
	if s.root, err = s.plugin.NewRoot(t.Context(), []byte(o.config)); err != nil {
		t.Fatal(err)
	}
	return s
}

// open opens a stream.
func (s *setup) open(st host.Stream) *host.Context {
	s.t.Helper()
	c := new(host.Context)
	if err := s.root.Open(c, st); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A fakeStream is an exchange without a network.
type fakeStream struct {
	picked  picked
	maps    map[abi.MapType]*fakeMap
	buffers map[abi.BufferType]*fakeBuffer
	props   map[string]string
	set     map[string]string
	events  []string
	reply   *host.Reply
	failed  error
	woken   chan struct{} // closed by Failed
	over    time.Time     // see Deadline
}

func (s *fakeStream) Deadline() time.Time { return s.over }

func newStream() *fakeStream {
	return &fakeStream{
		maps: map[abi.MapType]*fakeMap{
			abi.MapRequestHeaders: {pairs: []abi.Pair{
				{Name: ":method", Value: "GET"},
				{Name: ":path", Value: "/x"},
				{Name: "accept", Value: "a"},
				{Name: "accept", Value: "b"},
				{Name: "empty", Value: ""},
			}},
		},
		buffers: map[abi.BufferType]*fakeBuffer{abi.BufferRequestBody: {data: []byte("hello body")}},
		props:   map[string]string{"route_name": "r1", "request\x00path": "/x"},
		set:     map[string]string{},
		woken:   make(chan struct{}),
	}
}

func (s *fakeStream) Map(kind abi.MapType) host.Map {
	if m := s.maps[kind]; m != nil {
		return m
	}
	return nil
}

func (s *fakeStream) Buffer(kind abi.BufferType) host.Buffer {
	if b := s.buffers[kind]; b != nil {
		return b
	}
	return nil
}

func (s *fakeStream) Property(dst []byte, path string) ([]byte, bool) {
	v, ok := s.props[path]
	return append(dst, v...), ok
}
func (s *fakeStream) SetProperty(path string, value []byte) { s.set[path] = string(value) }
func (s *fakeStream) Resume(side abi.StreamType) {
	s.events = append(s.events, "resume "+side.String())
}

func (s *fakeStream) Close(side abi.StreamType) { s.events = append(s.events, "close "+side.String()) }
func (s *fakeStream) Reply(r host.Reply)        { s.reply = &r }
func (s *fakeStream) ClearRouteCache()          { s.events = append(s.events, "clear route cache") }
func (s *fakeStream) Tell() (route, id string)  { return s.props["route_name"], "id1" }
func (s *fakeStream) Failed(err error)          { s.failed = err; close(s.woken) }

type fakeMap struct {
	pairs    []abi.Pair
	tooLarge bool
}

// Overflow implements host.Overflower.
func (m *fakeMap) Overflow() { m.tooLarge = true }

func bad(s string) bool { return strings.ContainsAny(s, "\r\n\x00") }

func (m *fakeMap) Len() int { return len(m.pairs) }
func (m *fakeMap) Get(name string) (string, bool) {
	for i := range m.pairs {
		if m.pairs[i].Name == name {
			return m.pairs[i].Value, true
		}
	}
	return "", false
}

func (m *fakeMap) Set(name, value string) bool {
	if bad(name) || bad(value) {
		return false
	}
	i := slices.IndexFunc(m.pairs, func(p abi.Pair) bool { return p.Name == name })
	if i < 0 {
		return m.Add(name, value)
	}
	m.pairs[i].Value = value
	rest := slices.DeleteFunc(m.pairs[i+1:], func(p abi.Pair) bool { return p.Name == name })
	m.pairs = m.pairs[:i+1+len(rest)]
	return true
}

func (m *fakeMap) Add(name, value string) bool {
	if bad(name) || bad(value) {
		return false
	}
	m.pairs = append(m.pairs, abi.Pair{Name: name, Value: value})
	return true
}

func (m *fakeMap) Remove(name string) bool {
	if strings.HasPrefix(name, ":") {
		return false
	}
	m.pairs = slices.DeleteFunc(m.pairs, func(p abi.Pair) bool { return p.Name == name })
	return true
}

func (m *fakeMap) Replace(pairs []abi.Pair) bool {
	if slices.ContainsFunc(pairs, func(p abi.Pair) bool { return bad(p.Name) || bad(p.Value) }) {
		return false
	}
	m.pairs = pairs
	return true
}

func (m *fakeMap) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, p := range m.pairs {
			if !yield(p.Name, p.Value) {
				return
			}
		}
	}
}

func (m *fakeMap) String() string {
	var s []string
	for _, p := range m.pairs {
		s = append(s, p.Name+"="+p.Value)
	}
	if m.tooLarge {
		s = append(s, "(too large)")
	}
	return strings.Join(s, " ")
}

type fakeBuffer struct {
	data     []byte
	end      bool
	readOnly bool
	copies   int
}

func (b *fakeBuffer) Bytes() []byte { return b.data }
func (b *fakeBuffer) End() bool     { return b.end }
func (b *fakeBuffer) Append(dst []byte) []byte {
	b.copies++
	return append(dst, b.data...)
}

func (b *fakeBuffer) Replace(start, size int, data []byte) bool {
	if b.readOnly {
		return false
	}
	start = min(start, len(b.data))
	end := min(start+size, len(b.data))
	b.data = slices.Concat(b.data[:start], data, b.data[end:])
	return true
}

// Short names for what nearly every guest needs.
var (
	i32  = wasmtest.I32
	i64  = wasmtest.I64
	call = wasmtest.Call
	drop = wasmtest.Drop
)

// say logs text at level info.
func say(m *wasmtest.Module, text string) wasmtest.Instr {
	return wasmtest.Seq(call(logFunc(m), i32(2), m.Str(text)), drop())
}

// logFunc imports proxy_log; several imports of it in one module are fine.
func logFunc(m *wasmtest.Module) *wasmtest.Func { return m.Env("proxy_log", "iii>i") }

// sayID logs a prefix and the last digit of what id pushes.
func sayID(m *wasmtest.Module, prefix string, id wasmtest.Instr) wasmtest.Instr {
	at := m.Data([]byte(prefix + " ?"))
	return wasmtest.Seq(
		wasmtest.Store8(i32(at+int32(len(prefix))+1), wasmtest.Add(id, i32('0'))),
		call(logFunc(m), i32(2), i32(at), i32(int32(len(prefix))+2)), drop())
}
