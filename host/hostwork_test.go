package host_test

import (
	"errors"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// hostWork has a guest that makes host calls without end on a budget of a millisecond. It
// has to be ended, with the cause cpu, in a time that has to do with the budget.
func hostWork(t *testing.T, m *wasmtest.Module, o options, st *fakeStream) {
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

// workSlack is how long a call may take whose budget is a millisecond, on a busy machine and with
// the race detector. What is not charged for takes seconds.
const workSlack = 500 * time.Millisecond

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
