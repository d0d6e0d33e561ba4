package host_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// shapes has a call of each host function that is OK, as newCall takes it.
var shapes = map[string]struct{ args []any }{
	"proxy_log":                          {args: []any{2, "text"}},
	"proxy_get_log_level":                {args: []any{out(0)}},
	"proxy_get_current_time_nanoseconds": {args: []any{out(0)}},
	"proxy_set_tick_period_milliseconds": {args: []any{0}},
	"proxy_get_configuration":            {args: []any{out(0), out(4)}},
	"proxy_set_effective_context":        {args: []any{1}},
	"proxy_done":                         {},
	"proxy_get_buffer_bytes":             {args: []any{0, 0, 5, out(0), out(4)}},
	"proxy_set_buffer_bytes":             {args: []any{0, 0, 5, "data"}},
	"proxy_get_buffer_status":            {args: []any{0, out(0), out(4)}},
	"proxy_get_header_map_size":          {args: []any{0, out(0)}},
	"proxy_get_header_map_pairs":         {args: []any{0, out(0), out(4)}},
	"proxy_set_header_map_pairs":         {args: []any{0, "\x00\x00\x00\x00"}},
	"proxy_get_header_map_value":         {args: []any{0, "accept", out(0), out(4)}},
	"proxy_add_header_map_value":         {args: []any{0, "name", "value"}},
	"proxy_replace_header_map_value":     {args: []any{0, "name", "value"}},
	"proxy_remove_header_map_value":      {args: []any{0, "accept"}},
	"proxy_continue_stream":              {args: []any{0}},
	"proxy_close_stream":                 {args: []any{0}},
	"proxy_continue_request":             {},
	"proxy_continue_response":            {},
	"proxy_clear_route_cache":            {},
	"proxy_send_local_response":          {args: []any{403, "details", "body", "\x00\x00\x00\x00", -1}},
	"proxy_set_shared_data":              {args: []any{"key", "value", 0}},
	"proxy_get_shared_data":              {args: []any{"key", out(0), out(4), out(8)}},
	"proxy_register_shared_queue":        {args: []any{"other", out(0)}},
	"proxy_resolve_shared_queue":         {args: []any{"", "queue", out(0)}},
	"proxy_enqueue_shared_queue":         {args: []any{1, "data"}},
	"proxy_dequeue_shared_queue":         {args: []any{1, out(0), out(4)}},
	"proxy_define_metric":                {args: []any{0, "name", out(0)}},
	"proxy_increment_metric":             {args: []any{1, int64(1)}},
	"proxy_record_metric":                {args: []any{1, int64(1)}},
	"proxy_get_metric":                   {args: []any{1, out(0)}},
	"proxy_get_property":                 {args: []any{"plugin_name", out(0), out(4)}},
	"proxy_set_property":                 {args: []any{"name", "value"}},
	"proxy_get_status":                   {args: []any{out(0), out(4), out(8)}},
	"proxy_http_call": {args: []any{
		"u", string(abi.AppendPairs(nil, callHead)), "body", "\x00\x00\x00\x00", 1000, out(0),
	}},
	"proxy_grpc_call":   {args: []any{"u", "pkg.Svc", "Do", "\x00\x00\x00\x00", "message", 1000, out(0)}},
	"proxy_grpc_stream": {args: []any{"u", "pkg.Svc", "Do", "\x00\x00\x00\x00", out(0)}},
	"proxy_grpc_send":   {args: []any{10, "message", 0}},
	"proxy_grpc_cancel": {args: []any{10}},
	"proxy_grpc_close":  {args: []any{10}},
	"proxy_call_foreign_function": {args: []any{
		"declare_property", "\n\x01x", out(0), out(4),
	}},
}

// resultType returns the first type of a host function that has a result.
func resultType(name string) string {
	sigs := host.HostFuncTypes(name)
	i := slices.IndexFunc(sigs, func(s string) bool { return strings.Contains(s, ">") })
	return sigs[i]
}

// Every address and every length that a host function takes is checked: a bad one
// is answered with InvalidMemoryAccess, and nothing has happened.
func TestHostCallAddresses(t *testing.T) {
	const end = 2 * wasmtest.PageSize
	badBytes := [][2]raw{{0xffffffff, 2}, {end - 1, 2}, {16, 0xffffffff}, {end, 1}, {0xfffffff0, 0x20}}
	badOut := []raw{end - 3, end, 0xfffffffe, 0xffffffff}
	for _, name := range host.HostFuncNames() {
		shape, ok := shapes[name]
		if !ok {
			t.Errorf("%s has no shape here", name)
			continue
		}
		sig := resultType(name)
		run := func(what string, want abi.Status, args []any) {
			p := newCall(t, v021, name, sig, args...)
			st := newStream()
			before := fmt.Sprint(st.maps[0], string(st.buffers[0].data))
			status, mem, s := p.run(t, st, options{})
			if status != want {
				t.Errorf("%s, %s: status %v, want %v", name, what, status, want)
			}
			if want != abi.StatusInvalidMemoryAccess {
				return
			}
			if area := mem[atResult : atResult+resultBytes]; !bytes.Equal(area, bytes.Repeat([]byte{guard}, resultBytes)) {
				t.Errorf("%s, %s: results were written: %x", name, what, area)
			}
			if after := fmt.Sprint(st.maps[0], string(st.buffers[0].data)); after != before || st.reply != nil || len(st.set) > 0 {
				t.Errorf("%s, %s: the stream was changed", name, what)
			}
			if got := s.plugin.Stats().Misuse; got != 1 {
				t.Errorf("%s, %s: %d misuses counted, want 1", name, what, got)
			}
		}
		want := abi.StatusOK
		if name == "proxy_done" {
			want = abi.StatusNotFound
		}
		run("as it should be", want, shape.args)
		for i, arg := range shape.args {
			with := func(a ...any) []any { return slices.Concat(shape.args[:i], a, shape.args[i+1:]) }
			switch arg.(type) {
			case string:
				for _, b := range badBytes {
					run(fmt.Sprintf("argument %d at %#x, length %#x", i, b[0], b[1]), abi.StatusInvalidMemoryAccess, with(b[0], b[1]))
				}
			case out:
				for _, b := range badOut {
					run(fmt.Sprintf("result %d at %#x", i, b), abi.StatusInvalidMemoryAccess, with(b))
				}
			}
		}
	}
}

// Empty and huge values, and numbers beyond all enums, are answered with one of the
// statuses that the call has, and never end the guest.
func TestHostCallExtremes(t *testing.T) {
	for _, name := range host.HostFuncNames() {
		args := shapes[name].args
		for i, arg := range args {
			var extremes []any
			switch arg.(type) {
			case string:
				extremes = []any{"", strings.Repeat("x", 1<<20), strings.Repeat("\x00", 100), strings.Repeat("\xff", 5000)}
			case int:
				extremes = []any{-1, 0, 9, 99, -1 << 31, 1<<31 - 1}
			case int64:
				extremes = []any{int64(-1 << 63), int64(1<<63 - 1), int64(0)}
			}
			for _, x := range extremes {
				with := slices.Clone(args)
				with[i] = x
				status, _, s := newCall(t, v021, name, resultType(name), with...).run(t, newStream(), options{})
				if !slices.Contains(strings.Fields(callStatuses[name]), fmt.Sprint(uint32(status))) {
					t.Errorf("%s, argument %d is %.20q: status %v, want one of %s", name, i, fmt.Sprint(x), status, callStatuses[name])
				}
				if n := len(s.plugin.Stats().Traps); n != 0 {
					t.Errorf("%s, argument %d is %.20q: the guest died", name, i, fmt.Sprint(x))
				}
			}
		}
	}
}

// An empty slice may have any address.
func TestEmptyAtAnyAddress(t *testing.T) {
	p := newProbe(v021, "proxy_replace_header_map_value", "iiiii>i", 0, "accept", raw(0xffffffff), raw(0))
	st := newStream()
	status, _, _ := p.run(t, st, options{})
	if v, _ := st.maps[abi.MapRequestHeaders].Get("accept"); status != abi.StatusOK || v != "" {
		t.Errorf("status %v, value %q, want OK and an empty value", status, v)
	}
}

// The allocator is asked once for a value, for exactly its size, and never for
// nothing; 0 and an address outside of memory are answered with
// InvalidMemoryAccess.
func TestAllocator(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result int32
		start  int
		want   abi.Status
		asked  uint32
	}{
		{"good", 4096, 0, abi.StatusOK, 10},
		{"nothing to allocate", 4096, 10, abi.StatusOK, 0xffffffff},
		{"out of memory", 0, 0, abi.StatusInvalidMemoryAccess, 10},
		{"outside of memory", -4, 0, abi.StatusInvalidMemoryAccess, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProbe(v021, "proxy_get_buffer_bytes", "iiiii>i", 0, tt.start, 99, out(0), out(4))
			p.m.Unexport("proxy_on_memory_allocate")
			asked := p.m.Slot(8)
			p.m.Func("malloc", "i>i", // the other name
				wasmtest.Store32(i32(asked), wasmtest.Local(0)),
				wasmtest.Store32(i32(asked+4), wasmtest.Add(wasmtest.Load32(i32(asked+4)), i32(1))), i32(tt.result))
			status, mem, _ := p.run(t, newStream(), options{})
			if status != tt.want {
				t.Errorf("status %v, want %v", status, tt.want)
			}
			calls := mem[asked+4]
			if tt.asked == 0xffffffff {
				if calls != 0 {
					t.Errorf("the allocator was called for nothing")
				}
				return
			}
			if calls != 1 || mem[asked] != byte(tt.asked) {
				t.Errorf("%d calls, the last for %d bytes, want 1 for %d", calls, mem[asked], tt.asked)
			}
		})
	}
}

// Memory grows while a host function has views of it.
func TestMemoryGrowsDuringCall(t *testing.T) {
	p := newProbe(v021, "proxy_get_buffer_bytes", "iiiii>i", 0, 0, 0x7fffffff, out(0), out(4))
	st := newStream()
	body := bytes.Repeat([]byte("0123456789abcdef"), 3*wasmtest.PageSize/16)
	st.buffers[abi.BufferRequestBody].data = body
	status, mem, s := p.run(t, st, options{})
	if status != abi.StatusOK || len(mem) <= 2*wasmtest.PageSize {
		t.Fatalf("status %v, memory of %d bytes", status, len(mem))
	}
	area := p.area(t, mem, 8)
	ptr := uint32(area[0]) | uint32(area[1])<<8 | uint32(area[2])<<16
	if !bytes.Equal(mem[ptr:int(ptr)+len(body)], body) {
		t.Errorf("the body did not arrive as it is")
	}
	if got := s.plugin.Stats().MemoryBytes; got != int64(len(mem)) {
		t.Errorf("MemoryBytes = %d, want %d", got, len(mem))
	}
}
