package host_test

import (
	"bytes"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// readInGuest has a guest read values in on_request_headers, and returns the record as it leaves it and
// the status.
func readInGuest(t *testing.T, st *fakeStream, record abi.ReadRecord) (abi.ReadRecord, abi.Status) {
	t.Helper()
	m := wasmtest.NewGuest()
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	before, behind := "[record", "drocer]" // what is around it is not touched
	at := m.Data([]byte(before+string(record)+behind)) + int32(len(before))
	out, status := m.Slot(8), m.Slot(4)
	m.Headers("request",
		wasmtest.Store32(i32(status), call(f, m.Str(abi.ForeignReadValues), i32(at), i32(int32(len(record))), i32(out), i32(out+4))),
		i32(0))
	s := start(t, m, options{})
	c := s.open(st)
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	mem := bytes.Clone(c.Memory())
	end := int(at) + len(record)
	if string(mem[int(at)-len(before):at]) != before || string(mem[end:][:len(behind)]) != behind {
		t.Fatal("bytes around the record have changed")
	}
	return mem[at:end], abi.Status(u32(mem, status))
}

func TestReadValues(t *testing.T) {
	t.Parallel()
	header := func(name string) abi.ReadValue { return abi.ReadValue{Kind: abi.MapRequestHeaders, Name: name} }
	property := func(path string) abi.ReadValue { return abi.ReadValue{Kind: abi.ReadProperty, Name: path} }
	type got struct {
		value     string
		ok, large bool
	}
	there := func(v string) got { return got{value: v, ok: true} }
	for _, tt := range []struct {
		name   string
		room   int
		asked  []abi.ReadValue
		want   []got
		status abi.Status
	}{
		{"nothing", 10, nil, nil, abi.StatusOK},
		{
			"headers and properties", 64,
			[]abi.ReadValue{header(":path"), property("plugin_name"), header("x-none"), property("no\x00such"), header("empty"), property("")},
			[]got{there("/x"), there("test"), {}, {}, there(""), {}},
			abi.StatusOK,
		},
		{"a map that is not there", 64, []abi.ReadValue{{Kind: abi.MapResponseHeaders, Name: "a"}}, []got{{}}, abi.StatusOK},
		{
			"no room for the first, but for the second", 3,
			[]abi.ReadValue{header(":method"), header(":path"), header(":method")},
			[]got{there("GET"), {large: true}, {large: true}},
			abi.StatusOK,
		},
		{"just enough room", 5, []abi.ReadValue{header(":method"), header(":path")}, []got{there("GET"), there("/x")}, abi.StatusOK},
		{"upper case", 64, []abi.ReadValue{header("Accept")}, nil, abi.StatusBadArgument},
		{"an unknown map", 64, []abi.ReadValue{{Kind: 99, Name: "a"}}, nil, abi.StatusBadArgument},
		{"too many", 64, make([]abi.ReadValue, abi.MaxReadValues+1), nil, abi.StatusBadArgument},
	} {
		r, status := readInGuest(t, newStream(), abi.NewReadRecord(tt.room, tt.asked...))
		if status != tt.status {
			t.Errorf("%s: status %v, want %v", tt.name, status, tt.status)
			continue
		}
		for i, want := range tt.want {
			v, ok, large := r.Value(i)
			if g := (got{string(v), ok, large}); g != want {
				t.Errorf("%s: value %d is %+v, want %+v", tt.name, i, g, want)
			}
		}
	}
}

func TestReadValuesMalformed(t *testing.T) {
	t.Parallel()
	r := abi.NewReadRecord(8, abi.ReadValue{Kind: abi.MapRequestHeaders, Name: "accept"})
	for i := range len(r) - 8 {
		if _, status := readInGuest(t, newStream(), r[:i]); status != abi.StatusBadArgument {
			t.Errorf("cut at %d: status %v", i, status)
		}
	}
}

// TestHostWorkRead: reading a lot, where there is no room for it, uses the budget up.
func TestHostWorkRead(t *testing.T) {
	many := func(v abi.ReadValue) (list []abi.ReadValue) {
		for range abi.MaxReadValues {
			list = append(list, v)
		}
		return list
	}
	large := newStream()
	large.props = map[string]string{"large": strings.Repeat("x", 64<<10)}
	for name, tt := range map[string]struct {
		st   *fakeStream
		read abi.ReadValue
	}{
		"lines":      {head(10_000), abi.ReadValue{Kind: abi.MapRequestHeaders, Name: "x-none"}},
		"properties": {large, abi.ReadValue{Kind: abi.ReadProperty, Name: "large"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			f := m.Env("proxy_call_foreign_function", "iiiiii>i")
			out := m.Slot(8)
			m.Headers("request", endless(f, m.Str(abi.ForeignReadValues), m.Str(string(abi.NewReadRecord(0, many(tt.read)...))), i32(out), i32(out+4)), i32(0))
			hostWork(t, m, options{}, tt.st)
		})
	}
}

// TestReadValuesFuel: reading several values at once costs as much as reading each does, but for what a
// call is by itself.
func TestReadValuesFuel(t *testing.T) {
	t.Parallel()
	property := func(size int) *fakeStream {
		st := newStream()
		st.props = map[string]string{"p": strings.Repeat("x", size)}
		return st
	}
	for name, tt := range map[string]struct {
		sized     func(size int) *fakeStream
		few, many int
		read      abi.ReadValue
	}{
		"lines":      {head, 10, 10_000, abi.ReadValue{Kind: abi.MapRequestHeaders, Name: "x-none"}},
		"properties": {property, 1, 64 << 10, abi.ReadValue{Kind: abi.ReadProperty, Name: "p"}},
	} {
		single := func(size int) int64 {
			m := wasmtest.NewGuest()
			m.MinPages = 4
			out := m.Slot(8)
			path := m.Str(tt.read.Name)
			get := call(m.Env("proxy_get_property", "iiii>i"), path, i32(out), i32(out+4))
			if tt.read.Kind != abi.ReadProperty {
				get = call(m.Env("proxy_get_header_map_value", "iiiii>i"), i32(int32(tt.read.Kind)), path, i32(out), i32(out+4))
			}
			return fuelOf(t, m, tt.sized(size), get)
		}
		together := func(size int) int64 {
			m := wasmtest.NewGuest()
			out := m.Slot(8)
			var list []abi.ReadValue
			for range abi.MaxReadValues {
				list = append(list, tt.read)
			}
			return fuelOf(t, m, tt.sized(size), call(m.Env("proxy_call_foreign_function", "iiiiii>i"), m.Str(abi.ForeignReadValues),
				m.Str(string(abi.NewReadRecord(0, list...))), i32(out), i32(out+4)))
		}
		want := abi.MaxReadValues * (single(tt.many) - single(tt.few))
		if got := together(tt.many) - together(tt.few); got < want*9/10 || want == 0 {
			t.Errorf("%s: %d units for what is more of %d values, want %d", name, got, abi.MaxReadValues, want)
		}
	}
}

// fuelOf returns the units of work of an on_request_headers that makes a call.
func fuelOf(t *testing.T, m *wasmtest.Module, st *fakeStream, call wasmtest.Instr) int64 {
	t.Helper()
	m.Headers("request", call, drop(), i32(0))
	s := start(t, m, options{plugin: host.PluginOptions{OnFuel: func(int64) {}}})
	c := s.open(st)
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	_, fuel := c.GuestCost()
	return fuel
}
