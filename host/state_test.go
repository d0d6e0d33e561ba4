package host_test

import (
	"encoding/binary"
	"fmt"
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

// A seq is a guest that makes several host calls in on_request_headers and keeps
// their statuses.
type seq struct {
	*probe
	statuses int32
	n        int32
	body     []wasmtest.Instr
}

func newSeq() *seq {
	s := &seq{probe: &probe{m: wasmtest.NewGuest()}}
	s.result = s.m.Data(make([]byte, resultBytes)) - 16
	s.statuses = s.m.Slot(256)
	return s
}

func (s *seq) call(name, sig string, args ...any) {
	s.body = append(s.body, wasmtest.Store32(i32(s.statuses+4*s.n), call(s.m.Env(name, sig), s.push(args)...)))
	s.n++
}

// sayOut logs the data at out(at).
func (s *seq) sayOut(at int32) {
	s.body = append(s.body, call(logFunc(s.m), i32(2), wasmtest.Load32(i32(s.result+16+at)), wasmtest.Load32(i32(s.result+20+at))), drop())
}

func (s *seq) finish() { s.m.Headers("request", append(s.body, i32(0))...) }

// run runs one stream and returns the statuses and the memory.
func (s *seq) run(t *testing.T, set *setup) ([]abi.Status, []byte) {
	t.Helper()
	c := set.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	mem := c.Memory()
	if err := c.Finish(nil); err != nil {
		t.Fatal(err)
	}
	statuses := make([]abi.Status, s.n)
	for i := range statuses {
		statuses[i] = abi.Status(binary.LittleEndian.Uint32(mem[s.statuses+4*int32(i):]))
	}
	return statuses, mem
}

func (s *seq) u32(mem []byte, at int32) uint32 {
	return binary.LittleEndian.Uint32(mem[s.result+16+at:])
}

func TestSharedData(t *testing.T) {
	q := newSeq()
	q.call("proxy_set_shared_data", "iiiii>i", "k", "one", 0)
	q.call("proxy_get_shared_data", "iiiii>i", "k", out(0), out(4), out(8))
	q.sayOut(0)
	q.call("proxy_set_shared_data", "iiiii>i", "k", "two", 0)
	// With the cas of the first write: it has changed meanwhile.
	q.body = append(q.body, wasmtest.Store32(i32(q.statuses+4*q.n),
		call(q.m.Env("proxy_set_shared_data", "iiiii>i"), q.m.Str("k"), q.m.Str("three"), wasmtest.Load32(i32(q.result+24)))))
	q.n++
	q.call("proxy_get_shared_data", "iiiii>i", "k", out(0), out(4), out(8))
	q.sayOut(0)
	q.body = append(q.body, wasmtest.Store32(i32(q.statuses+4*q.n),
		call(q.m.Env("proxy_set_shared_data", "iiiii>i"), q.m.Str("k"), q.m.Str("four"), wasmtest.Load32(i32(q.result+24)))))
	q.n++
	q.call("proxy_get_shared_data", "iiiii>i", "k", out(0), out(4), out(8))
	q.sayOut(0)
	q.call("proxy_set_shared_data", "iiiii>i", "k", "", 0)
	q.call("proxy_get_shared_data", "iiiii>i", "k", out(16), out(20), out(8)) // empty, and there
	q.finish()
	s := start(t, q.m, options{})
	statuses, mem := q.run(t, s)
	if got, want := fmt.Sprint(statuses), "[OK OK OK CASMismatch OK OK OK OK OK]"; got != want {
		t.Errorf("statuses %s, want %s", got, want)
	}
	wantLines(t, s.log.lines(true), "one", "two", "four")
	if q.u32(mem, 16) != 0 || q.u32(mem, 20) != 0 || q.u32(mem, 8) == 0 {
		t.Errorf("an empty value: %d, %d, cas %d", q.u32(mem, 16), q.u32(mem, 20), q.u32(mem, 8))
	}
	// Another plugin with the same vm_id sees it, one with its own does not; and
	// it stays when the plugin is replaced.
	r := newSeq()
	r.call("proxy_get_shared_data", "iiiii>i", "k", out(0), out(4), out(8))
	r.finish()
	same, err := s.host.Load(t.Context(), r.m.Bytes(), host.PluginOptions{Name: "other", VMID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s.root.Close()
	s.plugin.Close()
	for _, tt := range []struct {
		plugin *host.Plugin
		want   abi.Status
	}{{same, abi.StatusOK}, {mustLoad(t, s.host, r.m, "alone"), abi.StatusNotFound}} {
		root, err := tt.plugin.NewRoot(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := r.run(t, &setup{t: t, root: root}); got[0] != tt.want {
			t.Errorf("%s: status %v, want %v", tt.plugin.Name(), got[0], tt.want)
		}
	}
}

func mustLoad(t *testing.T, h *host.Host, m *wasmtest.Module, name string) *host.Plugin {
	t.Helper()
	p, err := h.Load(t.Context(), m.Bytes(), host.PluginOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The data of one vm_id are bounded; what was used last stays.
func TestSharedDataBound(t *testing.T) {
	m := wasmtest.NewGuest()
	// on_request_headers(n): key and value are the number n, and key 1 is read.
	key, slot, status := m.Slot(8), m.Slot(16), m.Slot(8)
	one := m.Data([]byte{1, 0, 0, 0})
	set := m.Env("proxy_set_shared_data", "iiiii>i")
	get := m.Env("proxy_get_shared_data", "iiiii>i")
	m.Headers("request",
		wasmtest.Store32(i32(key), wasmtest.Local(1)),
		call(set, i32(key), i32(4), i32(key), i32(4), i32(0)), drop(),
		call(get, i32(one), i32(4), i32(slot), i32(slot+4), i32(slot+8)), drop(),
		i32(0))
	m.Body("request",
		wasmtest.Store32(i32(key), wasmtest.Local(1)),
		wasmtest.Store32(i32(status), call(get, i32(key), i32(4), i32(slot), i32(slot+4), i32(slot+8))),
		i32(0))
	s := start(t, m, options{host: host.HostOptions{SharedBytes: 2000}})
	c := s.open(newStream())
	for n := 1; n <= 1000; n++ {
		if _, err := c.RequestHeaders(n, false); err != nil {
			t.Fatal(err)
		}
		if st := s.plugin.Stats(); st.SharedBytes > 2000 {
			t.Fatalf("%d bytes after %d keys, want no more than 2000", st.SharedBytes, n)
		}
	}
	for n, want := range map[int]abi.Status{1: 0, 2: 1, 900: 1, 999: 0, 1000: 0} {
		if _, err := c.RequestBody(n, false); err != nil {
			t.Fatal(err)
		}
		if got := abi.Status(c.Memory()[status]); got != want {
			t.Errorf("key %d: %v, want %v", n, got, want)
		}
	}
	if st := s.plugin.Stats(); st.Evicted < 980 || st.Evicted >= 1000 {
		t.Errorf("%d entries evicted", st.Evicted)
	}
	_ = c.Finish(nil)
}

// Increments with compare and swap from many VMs lose nothing.
func TestSharedDataCAS(t *testing.T) {
	m := wasmtest.NewGuest()
	slot, val, again := m.Slot(16), m.Slot(8), m.Global(0)
	key := m.Str("count")
	get := m.Env("proxy_get_shared_data", "iiiii>i")
	set := m.Env("proxy_set_shared_data", "iiiii>i")
	m.Func("proxy_on_vm_start", "ii>i", // the first VM makes the entry
		wasmtest.If(call(get, key, i32(slot), i32(slot+4), i32(slot+8)), call(set, key, i32(val), i32(4), i32(0)), drop()), i32(1))
	m.Headers("request",
		wasmtest.Loop(wasmtest.Get(again),
			call(get, key, i32(slot), i32(slot+4), i32(slot+8)), drop(),
			wasmtest.Store32(i32(val), wasmtest.Add(wasmtest.Load32(wasmtest.Load32(i32(slot))), i32(1))),
			wasmtest.Set(again, call(set, key, i32(val), i32(4), wasmtest.Load32(i32(slot+8))))),
		i32(0))
	m.Func("proxy_on_log", "i", call(get, key, i32(slot), i32(slot+4), i32(slot+8)), drop())
	s := start(t, m, options{plugin: host.PluginOptions{Instances: 4}})
	const goroutines, each = 4, 200
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				var c host.Context
				if err := s.root.Open(&c, newStream()); err != nil {
					t.Error(err)
					return
				}
				if _, err := c.RequestHeaders(1, true); err != nil {
					t.Error(err)
				}
				_ = c.Finish(nil)
			}
		})
	}
	wg.Wait()
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	mem := c.Memory()
	if got := binary.LittleEndian.Uint32(mem[val:]); got != goroutines*each+1 {
		t.Errorf("count %d, want %d", got, goroutines*each+1)
	}
	_ = c.Finish(nil)
}

// A sink records what is exported.
type sink struct {
	mu   sync.Mutex
	seen []string
}

type sinkMetric struct {
	s    *sink
	name string
}

func (s *sink) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

func (s *sink) Metric(plugin, name string, kind abi.MetricKind) host.Metric {
	s.add("%s %s %v", plugin, name, kind)
	return &sinkMetric{s, name}
}
func (m *sinkMetric) Add(n int64, route string)    { m.s.add("%s add %d on %s", m.name, n, route) }
func (m *sinkMetric) Set(n int64, route string)    { m.s.add("%s set %d on %s", m.name, n, route) }
func (m *sinkMetric) Sample(n int64, route string) { m.s.add("%s sample %d on %s", m.name, n, route) }

func TestMetrics(t *testing.T) {
	q := newSeq()
	q.call("proxy_define_metric", "iiii>i", 0, "c;a=b", out(0))
	q.call("proxy_define_metric", "iiii>i", 1, "g", out(4))
	q.call("proxy_define_metric", "iiii>i", 2, "h", out(8))
	q.call("proxy_define_metric", "iiii>i", 0, "c;a=b", out(12)) // the same
	q.call("proxy_define_metric", "iiii>i", 1, "c;a=b", out(40)) // another kind
	q.call("proxy_increment_metric", "iI>i", 1, int64(5))
	q.call("proxy_increment_metric", "iI>i", 1, int64(0))
	q.call("proxy_increment_metric", "iI>i", 1, int64(-1))
	q.call("proxy_record_metric", "iI>i", 1, int64(2))
	q.call("proxy_increment_metric", "iI>i", 2, int64(-7))
	q.call("proxy_record_metric", "iI>i", 2, int64(9))
	q.call("proxy_increment_metric", "iI>i", 3, int64(1))
	q.call("proxy_record_metric", "iI>i", 3, int64(30))
	q.call("proxy_get_metric", "ii>i", 1, out(16))
	q.call("proxy_get_metric", "ii>i", 2, out(24))
	q.call("proxy_get_metric", "ii>i", 3, out(32))
	q.finish()
	k := &sink{}
	s := start(t, q.m, options{host: host.HostOptions{Metrics: k}})
	statuses, mem := q.run(t, s)
	want := "[OK OK OK OK BadArgument OK OK BadArgument OK OK OK BadArgument OK OK OK BadArgument]"
	if got := fmt.Sprint(statuses); got != want {
		t.Errorf("statuses %s, want %s", got, want)
	}
	for at, want := range map[int32]uint32{0: 1, 4: 2, 8: 3, 12: 1, 16: 7, 24: 9, 32: 0, 40: 0} {
		if got := q.u32(mem, at); got != want {
			t.Errorf("result at %d is %d, want %d", at, got, want)
		}
	}
	wantSeen := []string{
		"test c;a=b Counter", "test g Gauge", "test h Histogram",
		"c;a=b add 5 on r1", "c;a=b add 2 on r1", "g add -7 on r1", "g set 9 on r1", "h sample 30 on r1",
	}
	if !slices.Equal(k.seen, wantSeen) {
		t.Errorf("exported\n\t%s\nwant\n\t%s", strings.Join(k.seen, "\n\t"), strings.Join(wantSeen, "\n\t"))
	}
	// Another generation of the plugin goes on with the same values.
	next := mustLoad(t, s.host, q.m, "test")
	s.root.Close()
	s.plugin.Close()
	root, err := next.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, mem = q.run(t, &setup{t: t, root: root}); q.u32(mem, 16) != 14 {
		t.Errorf("the counter is %d after a reload, want 14", q.u32(mem, 16))
	}
}

// A guest that makes up metrics for ever gets ids that count nothing.
func TestMetricBound(t *testing.T) {
	m := wasmtest.NewGuest()
	name, id, status := m.Slot(8), m.Slot(8), m.Slot(8)
	define := m.Env("proxy_define_metric", "iiii>i")
	m.Headers("request", wasmtest.Store32(i32(name), wasmtest.Local(1)),
		wasmtest.Store32(i32(status), call(define, i32(0), i32(name), i32(4), i32(id))), i32(0))
	k := &sink{}
	s := start(t, m, options{host: host.HostOptions{Metrics: k}})
	c := s.open(newStream())
	var last uint32
	for n := range host.MaxMetrics + 5 {
		if _, err := c.RequestHeaders(n, true); err != nil {
			t.Fatal(err)
		}
		mem := c.Memory()
		if mem[status] != 0 {
			t.Fatalf("metric %d: status %d", n, mem[status])
		}
		last = binary.LittleEndian.Uint32(mem[id:])
	}
	if len(k.seen) != host.MaxMetrics || last != host.MaxMetrics+1 {
		t.Errorf("%d metrics exported, last id %d, want %d and %d", len(k.seen), last, host.MaxMetrics, host.MaxMetrics+1)
	}
	if !s.log.contains(false, "too many metrics") {
		t.Errorf("not reported: %q", s.log.lines(false))
	}
	_ = c.Finish(nil)
}

func TestProperties(t *testing.T) {
	m := wasmtest.NewGuest()
	slot, status := m.Slot(16), m.Slot(8)
	set := m.Env("proxy_set_property", "iiii>i")
	get := m.Env("proxy_get_property", "iiii>i")
	m.Func("proxy_on_configure", "ii>i", call(set, m.Str("own"), m.Str("of the root")), drop(),
		call(get, m.Str("own"), i32(slot), i32(slot+4)), drop(),
		call(logFunc(m), i32(2), wasmtest.Load32(i32(slot)), wasmtest.Load32(i32(slot+4))), drop(),
		sayID(m, "request.path answers", call(get, m.Str("request\x00path"), i32(slot), i32(slot+4))),
		i32(1))
	m.Headers("request", call(set, m.Str("wproxy\x00log\x00k"), m.Str("v")), drop(),
		wasmtest.Store32(i32(status), call(get, m.Str("own"), i32(slot), i32(slot+4))), i32(0))
	s := start(t, m, options{})
	wantLines(t, s.log.lines(true), "of the root", "request.path answers 1")
	st := newStream()
	c := s.open(st)
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	if st.set["wproxy\x00log\x00k"] != "v" || len(st.set) != 1 {
		t.Errorf("set %q", st.set)
	}
	if got := c.Memory()[status]; got != 1 {
		t.Errorf("a stream reads the root's property: status %d", got)
	}
	_ = c.Finish(nil)
}

func TestLocalResponse(t *testing.T) {
	headers := string(abi.AppendPairs(nil, []abi.Pair{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}))
	for _, tt := range []struct {
		name string
		args []any
		want string
	}{
		{"all", []any{429, "too many", "body", headers, 8}, `429 "too_many" "body" [{x-a 1} {x-a 2}] 8`},
		{"nothing", []any{204, "", "", "", -1}, `204 "" "" [] -1`},
		{"status 0", []any{0, "", "", "", 17}, `500 "" "" [] -1`},
		{"status 101", []any{101, "", "", "", -2}, `500 "" "" [] -1`},
		{"malformed headers", []any{403, "a\r\nb", "x", headers[:7], 0}, `403 "a__b" "x" [] 0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProbe(v021, "proxy_send_local_response", "iiiiiiii>i", tt.args...)
			st := newStream()
			status, _, _ := p.run(t, st, options{})
			if status != abi.StatusOK || st.reply == nil {
				t.Fatalf("status %v, reply %v", status, st.reply)
			}
			r := st.reply
			if got := fmt.Sprintf("%d %q %q %v %d", r.Status, r.Details, r.Body, r.Fields, r.GRPCStatus); got != tt.want {
				t.Errorf("reply %s, want %s", got, tt.want)
			}
		})
	}
}

// repliedStream is a stream that takes one reply, and says so.
type repliedStream struct{ *fakeStream }

func (s *repliedStream) Replied() bool { return s.reply != nil }

// The body of a local response is cut before it is copied, and those that have no effect
// are not copied at all.
func TestLocalResponseLarge(t *testing.T) {
	m := wasmtest.NewGuest()
	m.MinPages = 320 // 20 MiB
	f := m.Env("proxy_send_local_response", "iiiiiiii>i")
	failed := m.Slot(4)
	m.Headers("request", slices.Concat(slices.Repeat([]wasmtest.Instr{
		wasmtest.If(call(f, i32(403), m.Str(""), i32(1<<20), i32(18<<20), m.Str(""), i32(-1)), wasmtest.Store32(i32(failed), i32(1))),
	}, 20), []wasmtest.Instr{i32(0)})...)
	s := start(t, m, options{plugin: host.PluginOptions{CPU: time.Second}})
	st := &repliedStream{newStream()}
	c := s.open(st)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.RequestHeaders(1, true)
	runtime.ReadMemStats(&after)
	if err != nil || st.reply == nil || u32(c.Memory(), failed) != 0 {
		t.Fatalf("error %v, reply %t", err, st.reply != nil)
	}
	if b := st.reply.Body; len(b) != host.MaxReplyBody || cap(b) > host.MaxReplyBody+1<<16 {
		t.Errorf("a body of %d bytes in %d, want %d", len(b), cap(b), host.MaxReplyBody)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 2*host.MaxReplyBody {
		t.Errorf("%d MiB were allocated", n>>20)
	}
	if !slices.ContainsFunc(s.log.lines(false), func(l string) bool { return strings.Contains(l, "was cut") }) {
		t.Errorf("log %q, want a warning", s.log.lines(false))
	}
	_ = c.Finish(nil)
}

// TestSetLogLevel: the level of a running guest can be changed, and it can tell.
func TestSetLogLevel(t *testing.T) {
	m := wasmtest.NewGuest()
	get := m.Env("proxy_get_log_level", "i>i")
	at := m.Slot(4)
	m.Headers("request", call(logFunc(m), i32(1), m.Str("debug")), drop(), call(get, i32(at)), drop(),
		wasmtest.If(wasmtest.Eq(wasmtest.Load32(i32(at)), i32(int32(abi.LogInfo))), call(logFunc(m), i32(2), m.Str("info it is")), drop()),
		i32(0))
	s := start(t, m, options{})
	for _, tt := range []struct {
		level abi.LogLevel
		want  []string
	}{
		{abi.LogTrace, []string{"debug"}},
		{abi.LogInfo, []string{"debug", "info it is"}},
		{abi.LogDebug, []string{"debug", "info it is", "debug"}},
	} {
		s.host.SetLogLevel(tt.level)
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		_ = c.Finish(nil)
		if got := s.log.lines(true); !slices.Equal(got, tt.want) {
			t.Errorf("at %v: the lines are %q, want %q", tt.level, got, tt.want)
		}
	}
}

func TestLogs(t *testing.T) {
	m := wasmtest.NewGuest()
	long := m.Data([]byte(strings.Repeat("é", host.MaxLogLine)))
	debug := m.Str("debug")
	count := m.Global(0)
	m.Headers("request",
		call(logFunc(m), i32(2), i32(long), i32(2*host.MaxLogLine)), drop(),
		call(logFunc(m), i32(1), debug), drop(),
		wasmtest.Loop(wasmtest.LtU(wasmtest.Get(count), i32(3*host.LogBurst)),
			wasmtest.Set(count, wasmtest.Add(wasmtest.Get(count), i32(1))), say(m, "spam")),
		i32(0))
	s := start(t, m, options{plugin: host.PluginOptions{LogLevel: abi.LogInfo}})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	_ = c.Finish(nil)
	lines := s.log.lines(true)
	if len(lines) != host.LogBurst {
		t.Errorf("%d lines got through, want %d", len(lines), host.LogBurst)
	}
	if n := len(lines[0]); n > host.MaxLogLine+50 || !strings.HasSuffix(lines[0], "é... (8192 bytes more)") {
		t.Errorf("a long line has %d bytes and ends in %q", n, lines[0][n-30:])
	}
	if slices.Contains(lines, "debug") {
		t.Error("a line below the level got through")
	}
	if got := s.plugin.Stats().LogDropped; got != 2*host.LogBurst+1 {
		t.Errorf("LogDropped = %d, want %d", got, 2*host.LogBurst+1)
	}
	if e := s.log.entries[0]; e.Plugin != "test" || e.Level != abi.LogInfo || e.Context != 2 || !e.Guest || e.Time.IsZero() {
		t.Errorf("entry %+v", e)
	}
}

// A guest that floods the log and ends its VM has no fresh burst in the next one.
func TestLogsOfNextVM(t *testing.T) {
	m := wasmtest.NewGuest()
	count := m.Global(0)
	m.Headers("request",
		wasmtest.Loop(wasmtest.LtU(wasmtest.Get(count), i32(2*host.LogBurst)),
			wasmtest.Set(count, wasmtest.Add(wasmtest.Get(count), i32(1))), say(m, "spam")),
		wasmtest.Unreachable())
	s := start(t, m, options{plugin: host.PluginOptions{Instances: 4}})
	for range 3 {
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err == nil {
			t.Fatal("the guest has not trapped")
		}
		_ = c.Finish(nil)
	}
	spam := 0
	for _, line := range s.log.lines(true) {
		if line == "spam" {
			spam++
		}
	}
	if spam < host.LogBurst || spam > host.LogBurst+host.LogBurst/2 {
		t.Errorf("%d lines got through, want about %d", spam, host.LogBurst)
	}
}
