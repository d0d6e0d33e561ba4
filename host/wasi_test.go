package host_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// Every WASI function links under both names and answers what it should.
func TestWASI(t *testing.T) {
	const text = "one\n\ntwo\nthree"
	vec := func(p *probe) wasmtest.Instr { // an iovec for text at out(16)
		at := p.m.Data([]byte(text))
		return wasmtest.Seq(wasmtest.Store32(i32(p.result+32), i32(at)), wasmtest.Store32(i32(p.result+36), i32(int32(len(text)))))
	}
	le32 := func(v ...uint32) string {
		var b []byte
		for _, v := range v {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return string(b)
	}
	for _, tt := range []struct {
		name  string
		args  []any
		want  uint32
		bytes string // at out(0)
		lines []string
	}{
		{name: "args_sizes_get", args: []any{out(0), out(4)}, bytes: le32(0, 0)},
		{name: "args_sizes_get", args: []any{raw(0xfffffffd), out(4)}, want: 21},
		{name: "args_get", args: []any{0, 0}},
		{name: "environ_sizes_get", args: []any{out(0), out(4)}, bytes: le32(2, 7)},
		{name: "environ_get", args: []any{out(8), out(0)}, bytes: "A=b\x00C=\x00"},
		{name: "environ_get", args: []any{raw(2*65536 - 4), out(0)}, want: 21},
		{name: "environ_get", args: []any{out(0), raw(2*65536 - 4)}, want: 21},
		{name: "clock_time_get", args: []any{0, int64(1), out(0)}, bytes: le32(7, 0)},
		{name: "clock_time_get", args: []any{2, int64(1), out(0)}, want: 58},
		{name: "clock_time_get", args: []any{1, int64(1), raw(0xffffffff)}, want: 21},
		{name: "clock_res_get", args: []any{1, out(0)}, bytes: le32(1, 0)},
		{name: "random_get", args: []any{out(0), 65537}, want: 28},
		{name: "random_get", args: []any{raw(0xffffff00), 8}, want: 21},
		{name: "random_get", args: []any{raw(0xffffff00), 0}},
		{name: "sched_yield"},
		{name: "poll_oneoff", args: []any{0, 0, 0, out(0)}, bytes: le32(0)},
		{name: "fd_write", args: []any{1, out(16), 1, out(0)}, bytes: le32(uint32(len(text))), lines: []string{"one", "two", "three"}},
		{name: "fd_write", args: []any{2, out(16), 1, out(0)}, bytes: le32(uint32(len(text))), lines: []string{"one", "two", "three"}},
		{name: "fd_write", args: []any{3, out(16), 1, out(0)}, want: 8},
		{name: "fd_write", args: []any{1, out(16), 1, raw(0xfffffffe)}, want: 21},
		{name: "fd_write", args: []any{1, raw(0xfffffffe), 1, out(0)}, want: 21},
		{name: "fd_write", args: []any{1, out(16), 0x20000001, out(0)}, want: 28},
		{name: "fd_pwrite", args: []any{1, out(16), 1, int64(0), out(0)}, bytes: le32(uint32(len(text))), lines: []string{"one", "two", "three"}},
		{name: "fd_read", args: []any{0, 0, 0, out(0)}, bytes: le32(0)},
		{name: "fd_read", args: []any{1, 0, 0, out(0)}, want: 52},
		{name: "fd_fdstat_get", args: []any{1, out(0)}, bytes: "\x02" + strings.Repeat("\x00", 7) + "\x40"},
		{name: "fd_fdstat_get", args: []any{0, out(0)}, want: 8},
		{name: "fd_fdstat_set_flags", args: []any{1, 0}, want: 52},
		{name: "fd_prestat_get", args: []any{3, out(0)}, want: 8},
		{name: "fd_prestat_dir_name", args: []any{3, 0, 0}, want: 52},
		{name: "fd_seek", args: []any{1, int64(0), 0, out(0)}},
		{name: "fd_close", args: []any{1}},
		{name: "fd_filestat_get", args: []any{1, out(0)}, want: 8},
		{name: "fd_sync", args: []any{1}},
		{name: "fd_sync", args: []any{7}, want: 8},
		{name: "fd_readdir", args: []any{3, 0, 0, int64(0), out(0)}, want: 54},
		{name: "path_open", args: []any{3, 0, 0, 0, 0, int64(0), int64(0), 0, out(0)}, want: 44},
		{name: "sock_send", args: []any{3, 0, 0, 0, out(0)}, want: 58},
	} {
		for _, module := range []string{"wasi_snapshot_preview1", "wasi_unstable"} {
			p := &probe{m: wasmtest.NewGuest()}
			p.status = p.m.Slot(8)
			p.result = p.m.Data(bytes.Repeat([]byte{guard}, resultBytes))
			f := p.m.Import(module, tt.name, host.WASINames()[tt.name])
			p.m.Headers("request", vec(p), wasmtest.Store32(i32(p.status), call(f, p.push(tt.args)...)), i32(0))
			status, mem, s := p.run(t, newStream(), options{
				host:   host.HostOptions{Now: func() time.Time { return time.Unix(0, 7) }},
				plugin: host.PluginOptions{Env: map[string]string{"C": "", "A": "b"}},
			})
			if uint32(status) != tt.want {
				t.Errorf("%s.%s%v: errno %d, want %d", module, tt.name, tt.args, status, tt.want)
			}
			if got := mem[p.result+16:][:len(tt.bytes)]; string(got) != tt.bytes {
				t.Errorf("%s.%s%v: wrote %q, want %q", module, tt.name, tt.args, got, tt.bytes)
			}
			if tt.bytes == "" && tt.want != 21 && mem[p.result+16] != guard {
				t.Errorf("%s.%s%v: wrote something", module, tt.name, tt.args)
			}
			wantLines(t, s.log.lines(true), tt.lines...)
		}
	}
}

// Every WASI function that is known can be imported with its type.
func TestWASILinks(t *testing.T) {
	m := wasmtest.NewGuest()
	for name, sig := range host.WASINames() {
		m.Import("wasi_snapshot_preview1", name, sig)
		m.Import("wasi_unstable", name, sig)
	}
	start(t, m, options{})
}

func TestRandom(t *testing.T) {
	m := wasmtest.NewGuest()
	at := m.Slot(32)
	random := m.Import("wasi_snapshot_preview1", "random_get", "ii>i")
	m.Headers("request", call(random, i32(at), i32(32)))
	s := start(t, m, options{})
	c := s.open(newStream())
	var last []byte
	for range 2 {
		if errno, err := c.RequestHeaders(1, true); errno != 0 || err != nil {
			t.Fatal(errno, err)
		}
		got := c.Memory()[at : at+32]
		if bytes.Equal(got, last) || bytes.Equal(got, make([]byte, 32)) {
			t.Errorf("random bytes %x after %x", got, last)
		}
		last = got
	}
	_ = c.Finish(nil)
}

// A line that is written in pieces, over several calls, is one line; what has no
// end when the callback returns is logged then.
func TestPartialLines(t *testing.T) {
	m := wasmtest.NewGuest()
	write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii>i")
	slot := m.Slot(8)
	piece := func(fd int32, s string) wasmtest.Instr {
		vec := m.Slot(8)
		return wasmtest.Seq(wasmtest.Store32(i32(vec), i32(m.Data([]byte(s)))), wasmtest.Store32(i32(vec+4), i32(int32(len(s)))),
			call(write, i32(fd), i32(vec), i32(1), i32(slot)), drop())
	}
	m.Headers("request", piece(1, "a"), piece(2, "x"), piece(1, "b"), piece(1, "c\nd"), piece(2, "y\n"), i32(0))
	s := start(t, m, options{})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	_ = c.Finish(nil)
	wantLines(t, s.log.lines(true), "abc", "xy", "d")
}
