package host_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

func TestEditFields(t *testing.T) {
	t.Parallel()
	edits := []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "Accept", Value: "c"},
		{Op: abi.FieldAdd, Name: "empty", Value: "2"},
		{Op: abi.FieldAddIfMissing, Name: "empty", Value: "3"},
		{Op: abi.FieldAddIfMissing, Name: "new", Value: "4"},
		{Op: abi.FieldRemove, Name: "nothing"},
	}
	st := newStream()
	_, status, _ := foreign(t, st, v021, abi.ForeignEditFields, string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, edits)))
	want := []abi.Pair{
		{Name: ":method", Value: "GET"},
		{Name: ":path", Value: "/x"},
		{Name: "accept", Value: "c"},
		{Name: "empty", Value: ""},
		{Name: "empty", Value: "2"},
		{Name: "new", Value: "4"},
	}
	if got := st.maps[abi.MapRequestHeaders].pairs; status != abi.StatusOK || !slices.Equal(got, want) {
		t.Errorf("%v, got %v, want %v", status, got, want)
	}
	for name, tt := range map[string]struct {
		args string
		want abi.Status
	}{
		"nothing at all":       {"", abi.StatusBadArgument},
		"no edits":             {"\x00\x00\x00\x00", abi.StatusOK},
		"an unknown map":       {"\x63\x00\x00\x00", abi.StatusBadArgument},
		"a map that is absent": {string(abi.AppendFieldEdits(nil, abi.MapResponseHeaders, edits)), abi.StatusOK},
		"cut short":            {string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, edits)[:20]), abi.StatusBadArgument},
		"a line break": {string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, []abi.FieldEdit{
			{Name: "x", Value: "a\r\nb: c"}, {Name: "after", Value: "it"},
		})), abi.StatusBadArgument},
		"too long to be looked at": {string(abi.AppendFieldEdits(nil, abi.MapRequestHeaders, []abi.FieldEdit{
			{Name: "x", Value: strings.Repeat("x", 4<<10)}, // more than is kept
		})), abi.StatusOK},
	} {
		st := newStream()
		if _, status, _ := foreign(t, st, v021, abi.ForeignEditFields, tt.args); status != tt.want {
			t.Errorf("%s: %v, want %v", name, status, tt.want)
		}
		if name == "a line break" {
			if _, ok := st.maps[abi.MapRequestHeaders].Get("after"); !ok {
				t.Error("the edit after one that was refused is not made")
			}
		}
	}
}

// skipGuest skips what its configuration names, and stores the status at 1024. Its
// request callbacks trap.
const skipGuest = `(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "wproxy.callbacks.v1.skip")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32) (i32.const 65536))
  (func $skip
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 1000) (i32.const 600) (i32.const 604)))
    (i32.store (i32.const 1024) (call $foreign (i32.const 512) (i32.const 24)
      (i32.load (i32.const 600)) (i32.load (i32.const 604)) (i32.const 608) (i32.const 612))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $skip) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (unreachable))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $skip) (i32.const 0)))`

func TestSkipCallbacks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config string
		status byte
		calls  host.Callbacks
	}{
		{"proxy_on_request_headers\x00proxy_on_request_body", 0, host.Callbacks{ResponseHeaders: true}},
		{"proxy_on_request_body", 0, host.Callbacks{RequestHeaders: true, ResponseHeaders: true}},
		{"proxy_on_response_trailers", 0, host.Callbacks{RequestHeaders: true, RequestBody: true, ResponseHeaders: true}}, // not exported
		{"proxy_on_done", 2, host.Callbacks{RequestHeaders: true, RequestBody: true, ResponseHeaders: true}},
		{"proxy_on_request_headers\x00nonsense", 2, host.Callbacks{RequestHeaders: true, RequestBody: true, ResponseHeaders: true}},
		{"", 2, host.Callbacks{RequestHeaders: true, RequestBody: true, ResponseHeaders: true}},
	} {
		s := startWasm(t, assemble(t, skipGuest), options{config: tt.config})
		if got := s.root.Callbacks(); got != tt.calls || s.plugin.Peek()[1024] != tt.status {
			t.Errorf("%q: status %d, callbacks %+v, want %d, %+v", tt.config, s.plugin.Peek()[1024], got, tt.status, tt.calls)
		}
		if !tt.calls.RequestHeaders {
			var c host.Context
			if err := s.root.Open(&c, newStream()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Errorf("a callback was made that was skipped: %v", err)
			}
			// In a stream's callback it is too late, and nothing changes.
			if _, err := c.ResponseHeaders(1, true); err != nil || s.plugin.Peek()[1024] != 2 || s.root.Callbacks() != tt.calls {
				t.Errorf("%v, status %d", err, s.plugin.Peek()[1024])
			}
			_ = c.Finish(nil)
		}
	}
}

func TestTakeCounter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	take := func(args string) (abi.Status, abi.TakeResult) {
		p := newCall(t, v021, "proxy_call_foreign_function", "iiiiii>i", abi.ForeignTakeCounter, args, out(0), out(4))
		status, mem, _ := p.run(t, newStream(), options{
			host:   host.HostOptions{ManualTicks: true, Now: func() time.Time { return now }},
			plugin: host.PluginOptions{Grants: []string{host.GrantCounters}},
		})
		if len(args) < abi.TakeRecordSize {
			return status, abi.TakeResult{}
		}
		at := bytes.Index(mem, []byte(args[8:abi.TakeRecordSize/2])) - 8 // what the host does not write
		return status, abi.TakeRecord(mem[at : at+abi.TakeRecordSize]).Result()
	}
	record := func(interval, burst, cost int64, key string) string {
		return string(abi.NewTakeRecord(interval, burst, cost)) + key
	}
	status, got := take(record(1e9, 5, 2, "key"))
	if want := (abi.TakeResult{Admitted: true, Remaining: 3, Full: 2e9}); status != abi.StatusOK || got != want {
		t.Errorf("%v, %+v, want %+v", status, got, want)
	}
	other := []byte(record(1e9, 5, 1, "key"))
	other[0] = 1 // an algorithm that is not there
	for name, args := range map[string]string{
		"no record": "", "a cut record": record(1, 1, 1, "")[:40], "no interval": record(0, 1, 1, "k"), "no burst": record(1, 0, 0, "k"),
		"a cost over the burst": record(1, 1, 2, "k"), "a negative cost": record(1, 1, -1, "k"),
		"too long a time": record(1<<40, 1<<40, 1, "k"), "an unknown algorithm": string(other),
	} {
		if status, _ := take(args); status != abi.StatusBadArgument {
			t.Errorf("%s: %v, want BadArgument", name, status)
		}
	}
	if status, _ := take(record(1e9, 5, 5, strings.Repeat("k", wasmtest.PageSize))); status != abi.StatusOK {
		t.Errorf("a long key: %v", status)
	}
}

// TestTakeCounterDenied: without the grant nothing is counted.
func TestTakeCounterDenied(t *testing.T) {
	t.Parallel()
	p := newCall(t, v021, "proxy_call_foreign_function", "iiiiii>i", abi.ForeignTakeCounter, string(abi.NewTakeRecord(1, 1, 1)), out(0), out(4))
	status, _, _ := p.run(t, newStream(), options{plugin: host.PluginOptions{Grants: []string{host.GrantLog}}})
	if status != abi.StatusInternalFailure {
		t.Errorf("%v, want InternalFailure", status)
	}
}
