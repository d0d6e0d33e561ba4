package host_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// An out is an argument that names where a result goes: that many bytes into the
// result area.
type out int32

// A bad is an address, or length, passed as it is.
type raw uint32

// resultBytes is the size of the result area, filled with guard before the call.
const (
	resultBytes = 64
	guard       = 0xa5
)

// A probe is a guest that makes one host call in on_request_headers.
type probe struct {
	m      *wasmtest.Module
	status int32 // address of the status
	result int32 // address of the result area
}

// newProbe makes the guest. An int is a constant, an int64 one of 64 bits, a string
// an address and a length, and out and raw are what they say.
func newProbe(version, name, sig string, args ...any) *probe {
	p := &probe{m: wasmtest.NewGuestVersion(version)}
	p.status = p.m.Slot(8)
	p.result = p.m.Data(bytes.Repeat([]byte{guard}, resultBytes))
	f := p.m.Env(name, sig)
	p.m.Headers("request", wasmtest.Store32(i32(p.status), i32(-1)),
		wasmtest.Store32(i32(p.status), call(f, p.push(args)...)), i32(0))
	return p
}

func (p *probe) push(args []any) []wasmtest.Instr {
	var list []wasmtest.Instr
	for _, a := range args {
		switch a := a.(type) {
		case int:
			list = append(list, i32(int32(a)))
		case int64:
			list = append(list, i64(a))
		case string:
			list = append(list, p.m.Str(a))
		case out:
			list = append(list, i32(p.result+16+int32(a)))
		case raw:
			list = append(list, i32(int32(a)))
		default:
			panic(fmt.Sprintf("no argument of type %T", a))
		}
	}
	return list
}

// run makes the call and returns the status and the memory.
func (p *probe) run(t *testing.T, st *fakeStream, o options) (abi.Status, []byte, *setup) {
	t.Helper()
	s := start(t, p.m, o)
	c := s.open(st)
	if _, err := c.RequestHeaders(3, false); err != nil {
		t.Fatalf("RequestHeaders() = %v", err)
	}
	mem := c.Memory()
	if err := c.Finish(nil); err != nil {
		t.Fatalf("Finish() = %v", err)
	}
	return abi.Status(binary.LittleEndian.Uint32(mem[p.status:])), mem, s
}

// area returns the result area; the guards before and behind n result bytes are
// checked.
func (p *probe) area(t *testing.T, mem []byte, n int) []byte {
	t.Helper()
	return guarded(t, mem[p.result:p.result+resultBytes], n)
}

const v021 = "proxy_abi_version_0_2_1"

// A hostCallCase is one call of a host function, made from on_request_headers, and what
// comes of it.
type hostCallCase struct {
	name    string
	call    string
	sig     string
	args    []any
	version string
	want    abi.Status
	data    string // what the address and length at out 0 and out 4 name
	isData  bool   // there is data (possibly empty)
	bytes   string // what is at out 0, when there is no data
	events  string
	headers string
	body    string
	log     string // part of a line of the host
	guest   string // line of the guest
	beyond  string // what is behind address and length of data
	reply   string // the local reply
}

const (
	headersBefore = ":method=GET :path=/x accept=a accept=b empty="
	emptied       = "(none)"
)

func hostCallCases() []hostCallCase {
	pairs := func(kv ...string) string {
		var p []abi.Pair
		for i := 0; i < len(kv); i += 2 {
			p = append(p, abi.Pair{Name: kv[i], Value: kv[i+1]})
		}
		return string(abi.AppendPairs(nil, p))
	}
	request := pairs(":method", "GET", ":path", "/x", "accept", "a", "accept", "b", "empty", "")
	const headers = headersBefore
	u32 := func(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }
	u64 := func(v uint64) string { return string(binary.LittleEndian.AppendUint64(nil, v)) }
	big := strings.Repeat("x", 200_000)

	return []hostCallCase{
		{name: "log", call: "proxy_log", sig: "iii>i", args: []any{2, "hi there"}, guest: "hi there"},
		{name: "log nothing", call: "proxy_log", sig: "iii>i", args: []any{5, raw(0), raw(0)}},
		{name: "log bad level", call: "proxy_log", sig: "iii>i", args: []any{6, "hi"}, want: 2},
		{name: "log level", call: "proxy_get_log_level", sig: "i>i", args: []any{out(0)}, bytes: u32(0)},
		{name: "time", call: "proxy_get_current_time_nanoseconds", sig: "i>i", args: []any{out(0)}, bytes: u64(42_000_000_007)},
		{name: "tick off", call: "proxy_set_tick_period_milliseconds", sig: "i>i", args: []any{0}},
		{name: "done, not pending", call: "proxy_done", sig: ">i", want: 1},
		{name: "effective context, unknown", call: "proxy_set_effective_context", sig: "i>i", args: []any{99}, want: 2},
		{name: "effective context, the VM", call: "proxy_set_effective_context", sig: "i>i", args: []any{0}, want: 2},
		{name: "effective context, root", call: "proxy_set_effective_context", sig: "i>i", args: []any{1}},
		{name: "effective context, itself", call: "proxy_set_effective_context", sig: "i>i", args: []any{2}},

		{name: "body", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{0, 0, 0x7fffffff, out(0), out(4)}, isData: true, data: "hello body"},
		{name: "body, middle", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{0, 2, 3, out(0), out(4)}, isData: true, data: "llo"},
		{name: "body, both sums overflow", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{0, 0x7fffffff, raw(0xffffffff), out(0), out(4)}, isData: true},
		{name: "body, start at the end", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{0, 10, 5, out(0), out(4)}, isData: true},
		{name: "body that is not there", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{1, 0, 5, out(0), out(4)}, isData: true},
		{name: "VM configuration", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{6, 0, 99, out(0), out(4)}, isData: true, data: "the vm"},
		{name: "plugin configuration", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{7, 0, 99, out(0), out(4)}, isData: true, data: "the plugin"},
		{name: "call data", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{8, 0, 99, out(0), out(4)}, want: 1},
		{name: "call response", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{4, 0, 99, out(0), out(4)}, want: 1},
		{name: "unknown buffer", call: "proxy_get_buffer_bytes", sig: "iiiii>i", args: []any{9, 0, 99, out(0), out(4)}, want: 2},

		{name: "body replaced", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 0, 0x7fffffff, "new"}, body: "new"},
		{name: "body replaced, all ones", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 0, -1, "new"}, body: "new"},
		{name: "body prepended", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 0, 0, "> "}, body: "> hello body"},
		{name: "body appended", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 0x7fffffff, 0, "!"}, body: "hello body!"},
		{name: "body, middle replaced", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 5, 1, "-"}, body: "hello-body"},
		{name: "body, end deleted", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 5, 99, ""}, body: "hello"},
		{name: "set a body that is not there", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{1, 0, 0, "x"}, want: 1},
		{name: "set the configuration", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{7, 0, 0, "x"}, want: 2},
		{name: "set an unknown buffer", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{99, 0, 0, "x"}, want: 2},
		{name: "body status", call: "proxy_get_buffer_status", sig: "iii>i", args: []any{0, out(0), out(4)}, bytes: u32(10) + u32(1)},
		{name: "configuration status", call: "proxy_get_buffer_status", sig: "iii>i", args: []any{7, out(0), out(4)}, bytes: u32(10) + u32(0)},
		{name: "status of a body that is not there", call: "proxy_get_buffer_status", sig: "iii>i", args: []any{1, out(0), out(4)}, want: 1},
		{name: "status of an unknown buffer", call: "proxy_get_buffer_status", sig: "iii>i", args: []any{44, out(0), out(4)}, want: 2},

		{name: "map size", call: "proxy_get_header_map_size", sig: "ii>i", args: []any{0, out(0)}, bytes: u32(uint32(len(request)))},
		{name: "map size, not there", call: "proxy_get_header_map_size", sig: "ii>i", args: []any{2, out(0)}, bytes: u32(0)},
		{name: "map size, unknown", call: "proxy_get_header_map_size", sig: "ii>i", args: []any{8, out(0)}, want: 2},
		{name: "map", call: "proxy_get_header_map_pairs", sig: "iii>i", args: []any{0, out(0), out(4)}, isData: true, data: request},
		{name: "map, not there", call: "proxy_get_header_map_pairs", sig: "iii>i", args: []any{3, out(0), out(4)}, isData: true},
		{name: "map, unknown", call: "proxy_get_header_map_pairs", sig: "iii>i", args: []any{8, out(0), out(4)}, want: 2},
		{name: "set map", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{0, pairs("B", "1", "a", "2", "a", "")}, headers: "b=1 a=2 a="},
		{name: "set map, empty", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{0, u32(0)}, headers: emptied},
		{name: "set map, malformed", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{0, pairs("b", "1")[:9]}, headers: headers, log: "not replaced"},
		{name: "set map, many", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{0, u32(abi.MaxPairs + 1)}, headers: headers + " (too large)"},
		{name: "set map, CR", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{0, pairs("b", "1\r")}, headers: headers, want: 2},
		{name: "set map, not there", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{2, pairs("b", "1")}, log: "not there"},
		{name: "set map, unknown", call: "proxy_set_header_map_pairs", sig: "iii>i", args: []any{9, pairs("b", "1")}, want: 2},

		{name: "get", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "accept", out(0), out(4)}, isData: true, data: "a"},
		{name: "get, upper case", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "Accept", out(0), out(4)}, isData: true, data: "a"},
		{name: "get, empty value", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "empty", out(0), out(4)}, isData: true},
		{name: "get, absent", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "nope", out(0), out(4)}, want: 1},
		{name: "get, empty name", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "", out(0), out(4)}, want: 1},
		{name: "get, absent, 0.1.0", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{0, "nope", out(0), out(4)}, version: "proxy_abi_version_0_1_0", isData: true},
		{name: "get, map not there", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{2, "accept", out(0), out(4)}, want: 1},
		{name: "get, map unknown", call: "proxy_get_header_map_value", sig: "iiiii>i", args: []any{8, "accept", out(0), out(4)}, want: 2},
		{name: "add", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{0, "X-New", "V"}, headers: headers + " x-new=V"},
		{name: "add, big", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{0, "b", big}, headers: headers + " b=" + big},
		{name: "add, LF", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{0, "x", "a\nb"}, headers: headers, want: 2, log: "refused"},
		{name: "add, not there", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{2, "x", "y"}, headers: headers, log: "not there"},
		{name: "add, unknown", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{88, "x", "y"}, headers: headers, want: 2},
		{name: "replace", call: "proxy_replace_header_map_value", sig: "iiiii>i", args: []any{0, ":PATH", "/y"}, headers: ":method=GET :path=/y accept=a accept=b empty="},
		{name: "replace, NUL", call: "proxy_replace_header_map_value", sig: "iiiii>i", args: []any{0, "a\x00", "/y"}, headers: headers, want: 2},
		{name: "remove", call: "proxy_remove_header_map_value", sig: "iii>i", args: []any{0, "Accept"}, headers: ":method=GET :path=/x empty="},
		{name: "remove, absent", call: "proxy_remove_header_map_value", sig: "iii>i", args: []any{0, "nope"}, headers: headers},
		{name: "remove, pseudo", call: "proxy_remove_header_map_value", sig: "iii>i", args: []any{0, ":path"}, headers: headers, log: "pseudo"},
		{name: "remove, unknown", call: "proxy_remove_header_map_value", sig: "iii>i", args: []any{8, "x"}, headers: headers, want: 2},

		{name: "continue request", call: "proxy_continue_stream", sig: "i>i", args: []any{0}, events: "resume Request"},
		{name: "continue upstream", call: "proxy_continue_stream", sig: "i>i", args: []any{3}, events: "resume Upstream"},
		{name: "continue unknown", call: "proxy_continue_stream", sig: "i>i", args: []any{4}, want: 2},
		{name: "close response", call: "proxy_close_stream", sig: "i>i", args: []any{1}, events: "close Response"},
		{name: "close unknown", call: "proxy_close_stream", sig: "i>i", args: []any{-1}, want: 2},
		{name: "0.1.0 continue request", call: "proxy_continue_request", sig: ">i", version: "proxy_abi_version_0_1_0", events: "resume Request"},
		{name: "0.1.0 continue response", call: "proxy_continue_response", sig: ">i", events: "resume Response"},
		{name: "clear route cache", call: "proxy_clear_route_cache", sig: ">i", events: "clear route cache"},

		{name: "shared data, absent", call: "proxy_get_shared_data", sig: "iiiii>i", args: []any{"k", out(0), out(4), out(8)}, want: 1},
		{name: "shared data, set", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"k", "v", 0}},
		{name: "shared data, set with a cas for nothing", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"k", "v", 77}},
		{name: "shared data, set nothing", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"k", raw(0), raw(0), 0}},
		{name: "shared data, too big", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"k", big, 0}, want: 10},

		{name: "define metric", call: "proxy_define_metric", sig: "iiii>i", args: []any{1, "m;a=b", out(0)}, bytes: u32(1)},
		{name: "define metric of a bad kind", call: "proxy_define_metric", sig: "iiii>i", args: []any{3, "m", out(0)}, want: 2},
		{name: "increment nothing", call: "proxy_increment_metric", sig: "iI>i", args: []any{9, int64(1)}, want: 1},
		{name: "record nothing", call: "proxy_record_metric", sig: "iI>i", args: []any{0, int64(1)}, want: 1},
		{name: "get nothing", call: "proxy_get_metric", sig: "ii>i", args: []any{5, out(0)}, want: 1},

		{name: "property", call: "proxy_get_property", sig: "iiii>i", args: []any{"request\x00path", out(0), out(4)}, isData: true, data: "/x"},
		{name: "property, NUL at the end", call: "proxy_get_property", sig: "iiii>i", args: []any{"request\x00path\x00", out(0), out(4)}, isData: true, data: "/x"},
		{name: "property, unknown", call: "proxy_get_property", sig: "iiii>i", args: []any{"request", out(0), out(4)}, want: 1},
		{name: "property, no path", call: "proxy_get_property", sig: "iiii>i", args: []any{"", out(0), out(4)}, want: 1},
		{name: "property plugin_name", call: "proxy_get_property", sig: "iiii>i", args: []any{"plugin_name", out(0), out(4)}, isData: true, data: "probe"},
		{name: "property plugin_root_id", call: "proxy_get_property", sig: "iiii>i", args: []any{"plugin_root_id", out(0), out(4)}, isData: true},
		{name: "property plugin_vm_id", call: "proxy_get_property", sig: "iiii>i", args: []any{"plugin_vm_id", out(0), out(4)}, isData: true, data: "vm7"},
		{name: "set property", call: "proxy_set_property", sig: "iiii>i", args: []any{"a\x00b", "c"}},
		{name: "set property, no path", call: "proxy_set_property", sig: "iiii>i", args: []any{"", "c"}},
		{name: "set property, big", call: "proxy_set_property", sig: "iiii>i", args: []any{"a", big}, log: "too long"},

		{name: "foreign, unknown", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"nope", "", out(0), out(4)}, want: 1},
		{name: "foreign, clear_route_cache", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"clear_route_cache", "", out(0), out(4)}, isData: true, events: "clear route cache"},
		{name: "foreign, declare_property", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"declare_property", "\n\x01a\x10\x01", out(0), out(4)}, isData: true},
		{name: "configuration 0.1.0", call: "proxy_get_configuration", sig: "ii>i", args: []any{out(0), out(4)}, version: "proxy_abi_version_0_1_0", isData: true, data: "the vm"},

		{name: "get status, outside of an answer", call: "proxy_get_status", sig: "iii>i", args: []any{out(0), out(4), out(8)}, bytes: strings.Repeat("\x00", 12)},
		{name: "shared data", call: "proxy_get_shared_data", sig: "iiiii>i", args: []any{"key", out(0), out(4), out(8)}, isData: true, data: "value", beyond: u32(1)},
		{name: "shared data, another cas", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"key", "v", 77}, want: 8},
		{name: "shared data, the cas", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"key", "v", 1}},
		{name: "shared data, empty key", call: "proxy_set_shared_data", sig: "iiiii>i", args: []any{"", "v", 0}},

		{name: "register queue", call: "proxy_register_shared_queue", sig: "iii>i", args: []any{"q", out(0)}, bytes: u32(1)},
		{name: "register queue, no name", call: "proxy_register_shared_queue", sig: "iii>i", args: []any{"", out(0)}, bytes: u32(1)},
		{name: "register queue, long name", call: "proxy_register_shared_queue", sig: "iii>i", args: []any{big, out(0)}, want: 10, log: "too long"},
		{name: "resolve queue, own", call: "proxy_resolve_shared_queue", sig: "iiiii>i", args: []any{"", "queue", out(0)}, bytes: u32(1)},
		{name: "resolve queue, own by name", call: "proxy_resolve_shared_queue", sig: "iiiii>i", args: []any{"vm7", "queue", out(0)}, bytes: u32(1)},
		{name: "resolve queue, unknown", call: "proxy_resolve_shared_queue", sig: "iiiii>i", args: []any{"", "q", out(0)}, want: 1},
		{name: "resolve queue, unknown VM", call: "proxy_resolve_shared_queue", sig: "iiiii>i", args: []any{big, "queue", out(0)}, want: 1},
		{name: "enqueue", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{1, "x"}},
		{name: "enqueue, big", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{1, big}},
		{name: "enqueue, nothing", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{1, ""}},
		{name: "enqueue, too much", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{1, strings.Repeat("x", host.MaxQueueBytes)}, want: 10, log: "full"},
		{name: "enqueue, unknown", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{2, "x"}, want: 1},
		{name: "enqueue, token 0", call: "proxy_enqueue_shared_queue", sig: "iii>i", args: []any{0, "x"}, want: 1},
		{name: "dequeue", call: "proxy_dequeue_shared_queue", sig: "iii>i", args: []any{1, out(0), out(4)}, isData: true, data: "queue"},
		{name: "dequeue, empty", call: "proxy_dequeue_shared_queue", sig: "iii>i", args: []any{2, out(0), out(4)}, want: 7},
		{name: "dequeue, unknown", call: "proxy_dequeue_shared_queue", sig: "iii>i", args: []any{3, out(0), out(4)}, want: 1},

		{name: "define metric, the same", call: "proxy_define_metric", sig: "iiii>i", args: []any{2, "", out(0)}, bytes: u32(1)},
		{name: "increment a counter", call: "proxy_increment_metric", sig: "iI>i", args: []any{1, int64(1)}},
		{name: "increment a counter by nothing", call: "proxy_increment_metric", sig: "iI>i", args: []any{1, int64(0)}},
		{name: "increment a counter down", call: "proxy_increment_metric", sig: "iI>i", args: []any{1, int64(-1)}, want: 2},
		{name: "increment a gauge down", call: "proxy_increment_metric", sig: "iI>i", args: []any{2, int64(-1)}},
		{name: "increment a histogram", call: "proxy_increment_metric", sig: "iI>i", args: []any{3, int64(1)}, want: 2},
		{name: "record a counter", call: "proxy_record_metric", sig: "iI>i", args: []any{1, int64(1)}},
		{name: "record a gauge", call: "proxy_record_metric", sig: "iI>i", args: []any{2, int64(-1 << 40)}},
		{name: "record a histogram", call: "proxy_record_metric", sig: "iI>i", args: []any{3, int64(1)}},
		{name: "get a counter", call: "proxy_get_metric", sig: "ii>i", args: []any{1, out(0)}, bytes: u64(0)},
		{name: "get a histogram", call: "proxy_get_metric", sig: "ii>i", args: []any{3, out(0)}, want: 2},

		{name: "property plugin_vm_memory", call: "proxy_get_property", sig: "iiii>i", args: []any{"plugin_vm_memory", out(0), out(4)}, isData: true, data: u64(2 * wasmtest.PageSize)},
		{name: "property, big path", call: "proxy_get_property", sig: "iiii>i", args: []any{big, out(0), out(4)}, want: 1},
		{name: "foreign, uncompress", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"uncompress", "\x78\x9c\x03\x00\x00\x00\x00\x01", out(0), out(4)}, isData: true},
		{name: "foreign, uncompress garbage", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"uncompress", "x", out(0), out(4)}, want: 3},
		{name: "foreign, declare nothing", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"declare_property", "", out(0), out(4)}, want: 2},
		{name: "foreign, no name", call: "proxy_call_foreign_function", sig: "iiiiii>i", args: []any{"", "", out(0), out(4)}, want: 1},
		{name: "local response", call: "proxy_send_local_response", sig: "iiiiiiii>i", args: []any{403, "why", "body", pairs("a", "b"), -1}, reply: "403 why body [{a b}] -1"},
		{name: "local response, nothing", call: "proxy_send_local_response", sig: "iiiiiiii>i", args: []any{204, "", "", "", 3}, reply: "204   [] 3"},
		{name: "local response, no status", call: "proxy_send_local_response", sig: "iiiiiiii>i", args: []any{99, "a b", "", "bad", 17}, reply: "500 a_b  [] -1", log: "left out"},
		{name: "done, without a wish to wait", call: "proxy_done", sig: ">i", args: []any{0}, want: 1},
		{name: "add, empty value", call: "proxy_add_header_map_value", sig: "iiiii>i", args: []any{0, "x", ""}, headers: headers + " x="},
		{name: "replace, not there", call: "proxy_replace_header_map_value", sig: "iiiii>i", args: []any{1, "x", "y"}, log: "not there"},
		{name: "remove, not there", call: "proxy_remove_header_map_value", sig: "iii>i", args: []any{3, "x"}, log: "not there"},
		{name: "replace, unknown", call: "proxy_replace_header_map_value", sig: "iiiii>i", args: []any{1 << 30, "x", "y"}, want: 2},
		{name: "body appended, big", call: "proxy_set_buffer_bytes", sig: "iiiii>i", args: []any{0, 10, 0, big}, body: "hello body" + big},
		{name: "tick, the longest", call: "proxy_set_tick_period_milliseconds", sig: "i>i", args: []any{-1}},

		{name: "http call", call: "proxy_http_call", sig: "iiiiiiiiii>i", args: []any{"u", string(abi.AppendPairs(nil, callHead)), "", "", 0, out(0)}, bytes: u32(4)},
		{name: "http call, nothing", call: "proxy_http_call", sig: "iiiiiiiiii>i", args: []any{"u", "", "", "", 0, out(0)}, want: 2, log: ":authority"},
		{name: "http call, not granted", call: "proxy_http_call", sig: "iiiiiiiiii>i", args: []any{"v", string(abi.AppendPairs(nil, callHead)), "", "", 0, out(0)}, want: 10, log: "call:v"},
		{name: "grpc call", call: "proxy_grpc_call", sig: "iiiiiiiiiiii>i", args: []any{"u", "pkg.Svc", "Do", pairs("X-A", "1"), "message", 0, out(0)}, bytes: u32(5)},
		{name: "grpc call, early", call: "proxy_grpc_call", sig: "iiiiiiiiii>i", args: []any{"u", "pkg.Svc", "Do", "message", 0, out(0)}, bytes: u32(5)},
		{name: "grpc call, unknown upstream", call: "proxy_grpc_call", sig: "iiiiiiiiiiii>i", args: []any{"x", "pkg.Svc", "Do", "", "", 0, out(0)}, want: 4, log: `"x"`},
		{name: "grpc call, not granted", call: "proxy_grpc_call", sig: "iiiiiiiiiiii>i", args: []any{"v", "pkg.Svc", "Do", "", "", 0, out(0)}, want: 10, log: "call:v"},
		{name: "grpc call, negative timeout", call: "proxy_grpc_call", sig: "iiiiiiiiiiii>i", args: []any{"u", "pkg.Svc", "Do", "", "", -1, out(0)}, want: 4, log: "negative"},
		{name: "grpc call, large message", call: "proxy_grpc_call", sig: "iiiiiiiiiiii>i", args: []any{"u", "pkg.Svc", "Do", "", strings.Repeat("x", host.MaxGRPCMessage+1), 0, out(0)}, want: 10, log: "too large"},
		{name: "grpc stream", call: "proxy_grpc_stream", sig: "iiiiiiiii>i", args: []any{"u", "pkg.Svc", "Do", "", out(0)}, bytes: u32(6)},
		{name: "grpc stream, early", call: "proxy_grpc_stream", sig: "iiiiiii>i", args: []any{"u", "pkg.Svc", "Do", out(0)}, bytes: u32(6)},
		{name: "grpc stream, no service", call: "proxy_grpc_stream", sig: "iiiiiiiii>i", args: []any{"u", "", "Do", "", out(0)}, want: 4, log: "service or method"},
		{name: "grpc stream, not granted", call: "proxy_grpc_stream", sig: "iiiiiiiii>i", args: []any{"v", "pkg.Svc", "Do", "", out(0)}, want: 10, log: "call:v"},
		{name: "grpc send", call: "proxy_grpc_send", sig: "iiii>i", args: []any{10, "x", 0}},
		{name: "grpc send, nothing, and close", call: "proxy_grpc_send", sig: "iiii>i", args: []any{10, "", 1}},
		{name: "grpc send, unknown", call: "proxy_grpc_send", sig: "iiii>i", args: []any{14, "x", 0}, want: 1},
		{name: "grpc send, to a call", call: "proxy_grpc_send", sig: "iiii>i", args: []any{5, "x", 0}, want: 2},
		{name: "grpc cancel", call: "proxy_grpc_cancel", sig: "i>i", args: []any{10}},
		{name: "grpc cancel, a call", call: "proxy_grpc_cancel", sig: "i>i", args: []any{5}},
		{name: "grpc cancel, unknown", call: "proxy_grpc_cancel", sig: "i>i", args: []any{6}, want: 1},
		{name: "grpc close", call: "proxy_grpc_close", sig: "i>i", args: []any{10}},
		{name: "grpc close, a call", call: "proxy_grpc_close", sig: "i>i", args: []any{5}},
		{name: "grpc close, unknown", call: "proxy_grpc_close", sig: "i>i", args: []any{0}, want: 1},
		{name: "pthread_equal", call: "pthread_equal", sig: "ii>i", args: []any{7, 7}, want: 1},
	}
}

func TestHostCalls(t *testing.T) {
	for _, tt := range hostCallCases() {
		t.Run(tt.call+"/"+tt.name, func(t *testing.T) {
			version := tt.version
			if version == "" {
				version = v021
			}
			p := newCall(t, version, tt.call, tt.sig, tt.args...)
			st := newStream()
			st.buffers[abi.BufferRequestBody].end = true
			status, mem, s := p.run(t, st, options{
				host:   host.HostOptions{Now: func() time.Time { return time.Unix(42, 7) }, SharedBytes: 100_000},
				plugin: host.PluginOptions{Name: "probe", VMID: "vm7", VMConfig: []byte("the vm")},
				config: "the plugin",
			})
			if status != tt.want {
				t.Errorf("status %v, want %v", status, tt.want)
			}
			if tt.isData {
				area := p.area(t, mem, 8+len(tt.beyond))
				if got := string(area[8:]); got != tt.beyond {
					t.Errorf("behind the data %x, want %x", got, tt.beyond)
				}
				ptr, n := binary.LittleEndian.Uint32(area), binary.LittleEndian.Uint32(area[4:])
				if got := string(mem[ptr : ptr+n]); got != tt.data {
					t.Errorf("data %q, want %q", got, tt.data)
				}
				if (ptr == 0) != (tt.data == "") {
					t.Errorf("address %d for %d bytes", ptr, n)
				}
			} else if got := p.area(t, mem, len(tt.bytes)); string(got) != tt.bytes {
				t.Errorf("result %x, want %x", got, tt.bytes)
			}
			if got := strings.Join(st.events, ", "); got != tt.events {
				t.Errorf("events %q, want %q", got, tt.events)
			}
			want := tt.headers
			if want == "" {
				want = headersBefore
			}
			if got := st.maps[abi.MapRequestHeaders].String(); got != want && (got != "" || want != emptied) {
				t.Errorf("headers %q, want %q", got, want)
			}
			if got := string(st.buffers[abi.BufferRequestBody].data); tt.body != "" && got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
			reply := ""
			if r := st.reply; r != nil {
				reply = fmt.Sprintf("%d %s %s %v %d", r.Status, r.Details, r.Body, r.Fields, r.GRPCStatus)
			}
			if reply != tt.reply {
				t.Errorf("local reply %q, want %q", reply, tt.reply)
			}
			if tt.log != "" && !s.log.contains(false, tt.log) {
				t.Errorf("the host logged %q, want a line with %q", s.log.lines(false), tt.log)
			}
			if tt.guest != "" && !slices.Contains(s.log.lines(true), tt.guest) {
				t.Errorf("the guest logged %q, want %q", s.log.lines(true), tt.guest)
			}
		})
	}
}
