package host_test

import (
	"bytes"
	"compress/flate"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// hostWork has a guest that makes host calls without end on a budget of a millisecond. It
// has to be ended, with the cause cpu, in a time that has to do with the budget.
func hostWork(t *testing.T, m *wasmtest.Module, o options, st host.Stream) {
	t.Helper()
	if o.plugin.CPU == 0 {
		o.plugin.CPU = time.Millisecond
	}
	if o.plugin.Memory == 0 {
		o.plugin.Memory = 80 << 20
	}
	if o.plugin.Grants == nil {
		o.plugin.Grants = append(allGrants, host.GrantCounters)
	}
	s := start(t, m, o)
	c := s.open(st)
	began := time.Now()
	_, err := c.RequestHeaders(5, true)
	took := time.Since(began)
	_ = c.Finish(nil)
	var trap *host.TrapError
	if !errors.As(err, &trap) || trap.Cause != host.CauseCPU {
		t.Errorf("%v, want a trap with the cause cpu", err)
	}
	t.Logf("%v of a budget of %v", took, o.plugin.CPU)
	if took > workSlack {
		t.Errorf("took %v of a budget of %v", took, o.plugin.CPU)
	}
}

// endless calls a function without end.
func endless(f *wasmtest.Func, args ...wasmtest.Instr) wasmtest.Instr {
	return wasmtest.Loop(i32(1), call(f, args...), drop())
}

// writer is a guest whose on_request_headers fills memory with a byte and writes it in many
// buffers, which are the same one, once or for ever.
func writer(fill, bufs, size int32, ever bool) *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.MinPages = 1024
	f := m.Import("wasi_snapshot_preview1", "fd_write", "iiii>i")
	code := []wasmtest.Instr{i32(2 << 20), i32(fill), i32(size), wasmtest.Raw(0xfc, 0x0b, 0)}
	for i := range bufs {
		code = append(code, wasmtest.Store32(i32(1<<20+8*i), i32(2<<20)), wasmtest.Store32(i32(1<<20+8*i+4), i32(size)))
	}
	write := []wasmtest.Instr{i32(1), i32(1 << 20), i32(bufs), i32(512)}
	if ever {
		code = append(code, endless(f, write...), i32(0))
	} else {
		code = append(code, call(f, write...), drop(), wasmtest.Load32(i32(512)))
	}
	m.Headers("request", wasmtest.Seq(code...))
	return m
}

func TestHostWorkWrite(t *testing.T) {
	for name, fill := range map[string]int32{"empty lines": '\n', "no line": 'x'} {
		t.Run(name, func(t *testing.T) {
			hostWork(t, writer(fill, 64, 32<<20, true), options{plugin: host.PluginOptions{CPU: 10 * time.Millisecond}}, newStream())
		})
	}
}

// TestShortWrite: a write of more than a call may take is short, as POSIX allows.
func TestShortWrite(t *testing.T) {
	for _, tt := range []struct{ bufs, size, want int32 }{
		{1, 100, 100},
		{4, 16 << 10, 64 << 10},
		{5, 16 << 10, 64 << 10},
		{3, 30_000, 64 << 10},
		{64, 32 << 20, 64 << 10},
	} {
		s := start(t, writer('x', tt.bufs, tt.size, false), options{plugin: host.PluginOptions{Memory: 80 << 20}})
		c := s.open(newStream())
		if n, err := c.RequestHeaders(5, true); err != nil || int32(n) != tt.want {
			t.Errorf("%d buffers of %d bytes: %d written, %v, want %d", tt.bufs, tt.size, n, err, tt.want)
		}
		_ = c.Finish(nil)
	}
}

// head is a stream whose request has many lines.
func head(n int) *fakeStream {
	st := newStream()
	m := st.maps[abi.MapRequestHeaders]
	for i := range n {
		m.pairs = append(m.pairs, abi.Pair{Name: fmt.Sprintf("x-%05d", i), Value: "v"})
	}
	return st
}

// foreignLoop is a guest that calls a foreign function without end.
func foreignLoop(name, args string) *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.MinPages = 40
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	at := m.Slot(16)
	m.Headers("request", endless(f, m.Str(name), m.Str(args), i32(at), i32(at+4)), i32(0))
	return m
}

// envLoop is a guest that calls a function of env without end.
func envLoop(name, sig string, args func(m *wasmtest.Module, at int32) []wasmtest.Instr) *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.MinPages = 128
	f := m.Env(name, sig)
	at := m.Slot(16)
	m.Headers("request", endless(f, args(m, at)...), i32(0))
	return m
}

// TestHostWorkHeaders has calls on a head as large as one can be.
func TestHostWorkHeaders(t *testing.T) {
	edits := func(op abi.FieldOp, name string) string {
		return string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, slices.Repeat([]abi.FieldEdit{{Op: op, Name: name, Value: "v"}}, abi.MaxFieldEdits)))
	}
	many := string(abi.AppendPairs(nil, make([]abi.Pair, 300_000)))
	most := string(abi.AppendPairs(nil, make([]abi.Pair, abi.MaxPairs)))
	for name, m := range map[string]*wasmtest.Module{
		"edits that remove":         foreignLoop(abi.ForeignEditFields, edits(abi.FieldRemove, "x-99999")),
		"edits that set":            foreignLoop(abi.ForeignEditFields, edits(abi.FieldSet, "x-11999")),
		"edits that add if missing": foreignLoop(abi.ForeignEditFields, edits(abi.FieldAddIfMissing, "x-11999")),
		"value": envLoop("proxy_get_header_map_value", "iiiii>i", func(m *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), m.Str("x-99999"), i32(at), i32(at + 4)}
		}),
		"long name": envLoop("proxy_get_header_map_value", "iiiii>i", func(_ *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), i32(0), i32(8 << 20), i32(at), i32(at + 4)}
		}),
		"size": envLoop("proxy_get_header_map_size", "ii>i", func(_ *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), i32(at)}
		}),
		"remove": envLoop("proxy_remove_header_map_value", "iii>i", func(m *wasmtest.Module, _ int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), m.Str("x-99999")}
		}),
		"replace": envLoop("proxy_replace_header_map_value", "iiiii>i", func(m *wasmtest.Module, _ int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), m.Str("x-11999"), m.Str("y")}
		}),
		"too many pairs": envLoop("proxy_set_header_map_pairs", "iii>i", func(m *wasmtest.Module, _ int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), m.Str(many)}
		}),
		"most pairs": envLoop("proxy_set_header_map_pairs", "iii>i", func(m *wasmtest.Module, _ int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(0), m.Str(most)}
		}),
		"an HTTP call that is not made": envLoop("proxy_http_call", "iiiiiiiiii>i", func(m *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{m.Str("u"), m.Str(string(abi.AppendPairs(nil, slices.Repeat([]abi.Pair{{Name: "x"}}, 5000)))), i32(0), i32(0), i32(0), i32(0), i32(0), i32(at)}
		}),
	} {
		t.Run(name, func(t *testing.T) { hostWork(t, m, options{}, head(12_000)) })
	}
}

// TestHostWorkBuffer has looks at a body from outside of its direction, which copy it.
func TestHostWorkBuffer(t *testing.T) {
	st := newStream()
	st.buffers[abi.BufferResponseBody] = &fakeBuffer{data: make([]byte, 16<<20)}
	for name, m := range map[string]*wasmtest.Module{
		"status": envLoop("proxy_get_buffer_status", "iii>i", func(_ *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(1), i32(at), i32(at + 4)}
		}),
		"a change": envLoop("proxy_set_buffer_bytes", "iiiii>i", func(m *wasmtest.Module, _ int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(1), i32(0), i32(1), m.Str("x")}
		}),
		"bytes": envLoop("proxy_get_buffer_bytes", "iiiii>i", func(_ *wasmtest.Module, at int32) []wasmtest.Instr {
			return []wasmtest.Instr{i32(1), i32(0), i32(1), i32(at), i32(at + 4)}
		}),
	} {
		t.Run(name, func(t *testing.T) { hostWork(t, m, options{}, st) })
	}
}

// A slowStream takes as long for a property of the connection as a certificate takes to encode.
type slowStream struct{ *fakeStream }

func (s slowStream) Property(dst []byte, path string) ([]byte, bool) {
	if strings.HasPrefix(path, "connection") {
		for began := time.Now(); time.Since(began) < 200*time.Microsecond; {
		}
	}
	return s.fakeStream.Property(dst, path)
}

// TestHostWorkProperty: what takes long to make is charged by the time that it takes.
func TestHostWorkProperty(t *testing.T) {
	m := envLoop("proxy_get_property", "iiii>i", func(m *wasmtest.Module, at int32) []wasmtest.Instr {
		return []wasmtest.Instr{m.Str("connection\x00uri_san_peer_certificate"), i32(at), i32(at + 4)}
	})
	hostWork(t, m, options{}, slowStream{newStream()})
}

// TestHostWorkForeign has foreign functions whose work is not told by the size of their argument.
func TestHostWorkForeign(t *testing.T) {
	// A deflate stream of many blocks, each of which begins with a Huffman code.
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, _ = w.Write([]byte("abcdefghijklmnopqrstuvwxyz0123456789 the quick brown fox jumps"))
		_ = w.Flush()
	}
	blocks := "x\x9c" + strings.Repeat(b.String(), (900<<10)/b.Len())
	for name, m := range map[string]*wasmtest.Module{
		"compress nothing":   foreignLoop("compress", ""),
		"uncompress nothing": foreignLoop("uncompress", "x\x9c\x03\x00\x00\x00\x00\x01"),
		"uncompress garbage": foreignLoop("uncompress", "x\x9c\x07"),
		"uncompress blocks":  foreignLoop("uncompress", blocks),
		"verify with P-521":  foreignLoop("verify_signature", ecdsaArgs(t)),
		"sign with garbage":  foreignLoop("sign", message(1, "sha256", 2, "x", 3, "y")),
		"unknown":            foreignLoop(strings.Repeat("x", 1<<20), ""),
		"many fields":        foreignLoop("set_envoy_filter_state", strings.Repeat("\x20\x01", 1<<19)),
	} {
		t.Run(name, func(t *testing.T) { hostWork(t, m, options{}, newStream()) })
	}
}

func ecdsaArgs(t *testing.T) string {
	t.Helper()
	k, err1 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	pub, err2 := x509.MarshalPKIXPublicKey(k.Public())
	sum := sha512.Sum512([]byte("x"))
	sig, err3 := ecdsa.SignASN1(rand.Reader, k, sum[:])
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return message(1, "sha512", 2, string(pub), 3, string(sig), 4, "x")
}

// TestHostWorkStubs: calls that do nothing are calls.
func TestHostWorkStubs(t *testing.T) {
	two := func(_ *wasmtest.Module, _ int32) []wasmtest.Instr { return []wasmtest.Instr{i32(1), i32(0)} }
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.Loop(i32(1), call(m.Env("emscripten_notify_memory_growth", "i"), i32(0))), i32(0))
	for name, tt := range map[string]struct {
		m *wasmtest.Module
		o host.PluginOptions
	}{
		"denied":                          {envLoop("proxy_get_metric", "ii>i", two), host.PluginOptions{Grants: []string{}}},
		"pthread_equal":                   {envLoop("pthread_equal", "ii>i", two), host.PluginOptions{}},
		"emscripten_notify_memory_growth": {m, host.PluginOptions{}},
		"a denied foreign function": {
			foreignLoop(abi.ForeignTakeCounter, string(abi.NewTakeRecord(1000, 10, 0))), host.PluginOptions{Grants: []string{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tt.m, options{plugin: tt.o})
			_, err := s.open(newStream()).RequestHeaders(5, true)
			var trap *host.TrapError
			if !errors.As(err, &trap) || trap.Cause != host.CauseCPU {
				t.Fatalf("%v, want a trap with the cause cpu", err)
			}
		})
	}
}

// TestHostWorkQueue takes, from a long queue, an item that there is never room for.
func TestHostWorkQueue(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Unexport("proxy_on_memory_allocate")
	m.Func("proxy_on_memory_allocate", "i>i", i32(0))
	register := m.Env("proxy_register_shared_queue", "iii>i")
	enqueue := m.Env("proxy_enqueue_shared_queue", "iii>i")
	dequeue := m.Env("proxy_dequeue_shared_queue", "iii>i")
	at := m.Slot(16)
	m.Func("proxy_on_configure", "ii>i", call(register, m.Str("q"), i32(at)), drop(),
		wasmtest.Raw(0x41, 0, 0x21, 1, 0x03, 0x40), // a loop of 60,000
		call(enqueue, wasmtest.Load32(i32(at)), m.Str("x")), drop(),
		wasmtest.Raw(0x20, 1, 0x41, 1, 0x6a, 0x22, 1, 0x41, 0xe0, 0xd4, 0x03, 0x49, 0x0d, 0, 0x0b), i32(1))
	m.Headers("request", endless(dequeue, wasmtest.Load32(i32(at)), i32(at+4), i32(at+8)), i32(0))
	hostWork(t, m, options{}, newStream())
}

// TestRecordArgs: what a guest gives to an extension is bounded, and not kept.
func TestRecordArgs(t *testing.T) {
	m := wasmtest.NewGuest()
	m.MinPages = 1024
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	at := m.Slot(16)
	m.Headers("request", // sets a to 60 MiB
		wasmtest.Store32(i32(1<<20+8), i32(1)), wasmtest.Store32(i32(1<<20+12), i32(60<<20)),
		wasmtest.Store32(i32(1<<20+16), i32('a')),
		call(f, m.Str(abi.ForeignEditFields), i32(1<<20), i32(17+60<<20), i32(at), i32(at+4)))
	s := start(t, m, options{plugin: host.PluginOptions{Memory: 80 << 20, CPU: time.Second}})
	c := s.open(newStream())
	if status, err := c.RequestHeaders(5, true); err != nil || abi.Status(status) != abi.StatusBadArgument {
		t.Errorf("60 MiB of edits: %v, %v", abi.Status(status), err)
	}
	_ = c.Finish(nil)

	big := wasmtest.NewGuest()
	big.MinPages = 32
	f = big.Env("proxy_call_foreign_function", "iiiiii>i")
	at = big.Slot(16)
	args := string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, []abi.FieldEdit{{Op: abi.FieldAddIfMissing, Name: "accept", Value: strings.Repeat("v", 900<<10)}}))
	big.Headers("request", call(f, big.Str(abi.ForeignEditFields), big.Str(args), i32(at), i32(at+4)))
	s = start(t, big, options{})
	c = s.open(newStream())
	if status, err := c.RequestHeaders(5, true); err != nil || status != 0 {
		t.Errorf("900 KiB of edits: %v, %v", status, err)
	}
	if n := s.plugin.KeptEdits(); n != 0 {
		t.Errorf("%d bytes of a long list of edits are kept", n)
	}
	_ = c.Finish(nil)
}

// takeLoop is a guest that takes, without end, from buckets of limits in turn.
func takeLoop(m *wasmtest.Module, limits int, interval, cost int64, key string) []wasmtest.Instr {
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	at := m.Slot(16)
	var code []wasmtest.Instr
	for i := range limits {
		code = append(code, call(f, m.Str(abi.ForeignTakeCounter), m.Str(string(abi.NewTakeRecord(interval+int64(i), 10, cost))+key), i32(at), i32(at+4)), drop())
	}
	return code
}

// TestHostWorkCounters: limits that nobody counts in, and limits that find no room, cost little.
func TestHostWorkCounters(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.Loop(i32(1), takeLoop(m, 20, 1000, 0, "")...), i32(0))
	t.Run("cost 0", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		hostWork(t, m, options{}, newStream())
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%d MiB allocated", n>>20)
		}
	})
	m = wasmtest.NewGuest()
	m.MinPages = 20
	m.Func("proxy_on_configure", "ii>i", append(takeLoop(m, 4500, 1e15, 1, "key"), i32(1))...)
	m.Headers("request", wasmtest.Loop(i32(1), takeLoop(m, 1, 1, 1, "")...), i32(0))
	t.Run("no room", func(t *testing.T) { hostWork(t, m, options{}, newStream()) })
}

// TestCounterSplit: two plugins of one vm_id count in the same buckets, also when one of them
// has used so many other limits meanwhile that the table had to make room.
func TestCounterSplit(t *testing.T) {
	var ns atomic.Int64
	h, err := host.NewHost(host.HostOptions{ManualTicks: true, Now: func() time.Time { return time.Unix(0, ns.Add(1000)) }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m := wasmtest.NewGuest() // takes from a bucket with a token every so many nanoseconds as there are headers
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	at := m.Slot(16)
	record := append(abi.NewTakeRecord(0, 10, 0), "key"...)
	p := m.Data(record)
	m.Headers("request",
		wasmtest.Store32(i32(p+8), wasmtest.Local(1)), wasmtest.Store32(i32(p+24), wasmtest.Local(2)),
		call(f, m.Str(abi.ForeignTakeCounter), i32(p), i32(int32(len(record))), i32(at), i32(at+4)), drop(),
		wasmtest.Load32(i32(p+4)))
	root := func(name string) *host.Root {
		p, err := h.Load(t.Context(), m.Bytes(), host.PluginOptions{Name: name, VMID: "v", Instances: 1, Grants: []string{host.GrantCounters}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.NewRoot(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	take := func(r *host.Root, interval int, cost bool) bool {
		var c host.Context
		if err := r.Open(&c, newStream()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Finish(nil) }()
		flags, err := c.RequestHeaders(interval, cost)
		if err != nil {
			t.Fatal(err)
		}
		return flags&1 != 0
	}
	const limit = 1_000_000_000 // a token a second
	a, b := root("a"), root("b")
	take(a, limit, true) // a remembers the table
	ns.Add(2e9)          // all its buckets are full again
	for i := range 4500 {
		take(b, 2+i, true)
	}
	admitted := 0
	for range 20 {
		for _, r := range []*host.Root{a, b} {
			if take(r, limit, true) {
				admitted++
			}
		}
	}
	if admitted != 10 {
		t.Errorf("%d admitted of a burst of 10", admitted)
	}
}
