package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// grantOf is the whole table: which grant a host function takes.
func grantOf(name string) string {
	switch {
	case name == "proxy_log":
		return host.GrantLog
	case strings.HasSuffix(name, "_metric"):
		return host.GrantMetrics
	case strings.HasSuffix(name, "_shared_data"):
		return host.GrantSharedData
	case strings.HasSuffix(name, "_shared_queue"):
		return host.GrantQueue
	case name == "proxy_http_call", strings.HasPrefix(name, "proxy_grpc_"):
		return host.GrantCall
	}
	return ""
}

// Each host function is there without any grant, and answers InternalFailure if it is
// beyond the plugin's own stream: nothing has been read or written then, whatever the
// arguments. The log tells once.
func TestWithoutGrants(t *testing.T) {
	t.Parallel()
	for _, name := range host.HostFuncNames() {
		sigs := host.HostFuncTypes(name)
		sig := sigs[len(sigs)-1]
		m := wasmtest.NewGuest()
		f := m.Env(name, sig)
		at := m.Slot(8)
		params, _, _ := strings.Cut(sig, ">")
		var args []wasmtest.Instr
		for i := range params {
			if params[i] == 'I' {
				args = append(args, i64(0))
			} else {
				args = append(args, i32(0))
			}
		}
		m.Headers("request", wasmtest.Store32(i32(at), call(f, args...)), wasmtest.Store32(i32(at+4), call(f, args...)), i32(0))
		s := start(t, m, options{plugin: host.PluginOptions{Grants: []string{}}})
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mem := c.Memory()
		first, second := abi.Status(mem[at]), abi.Status(mem[at+4])
		grant := grantOf(name)
		denied := first == abi.StatusInternalFailure && second == first
		if denied != (grant != "") {
			t.Errorf("%s answers %v, %v without grants; it takes %q", name, first, second, grant)
		}
		want := []host.DeniedImport{{Module: "env", Name: name, Grant: grant}}
		if grant == "" {
			want = nil
		}
		if got := s.plugin.Denied(); !slices.Equal(got, want) {
			t.Errorf("%s: Denied() = %v, want %v", name, got, want)
		}
		lines := slices.DeleteFunc(s.log.lines(false), func(l string) bool { return !strings.Contains(l, "without being granted") })
		if grant == "" && len(lines) > 0 || grant != "" && (len(lines) != 1 || !strings.Contains(lines[0], name) || !strings.Contains(lines[0], grant)) {
			t.Errorf("%s: the host logged %q", name, lines)
		}
		if n := s.plugin.Stats().Misuse; grant != "" && n != 0 {
			t.Errorf("%s: %d misuses: a denied call has nothing wrong with it", name, n)
		}
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
	}
}

// A grant opens what it names and nothing else.
func TestGrants(t *testing.T) {
	t.Parallel()
	functions := map[string]struct {
		sig  string
		args []any
	}{
		host.GrantLog:        {"iii>i", []any{2, "text"}},
		host.GrantMetrics:    {"iiii>i", []any{0, "name", out(0)}},
		host.GrantSharedData: {"iiiii>i", []any{"key", "value", 0}},
	}
	names := map[string]string{
		host.GrantLog: "proxy_log", host.GrantMetrics: "proxy_define_metric", host.GrantSharedData: "proxy_set_shared_data",
	}
	for grant, f := range functions {
		for _, grants := range [][]string{nil, {}, {host.GrantLog}, {host.GrantMetrics}, {host.GrantSharedData}, {host.GrantQueue, host.GrantEnv, "call:x"}} {
			want := abi.StatusInternalFailure
			if grants == nil || slices.Contains(grants, grant) {
				want = abi.StatusOK
			}
			p := newProbe(v021, names[grant], f.sig, f.args...)
			o := options{plugin: host.PluginOptions{Grants: grants}, defaultGrants: true}
			if status, _, _ := p.run(t, newStream(), o); status != want {
				t.Errorf("%s with %q: %v, want %v", names[grant], grants, status, want)
			}
		}
	}
}

// Without its grant the environment is empty, not forbidden: guests in Go end at once
// when they may not ask for it. What is written to fd 1 and 2 is a log.
func TestWASIGrants(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		grants     []string
		vars, fd   byte
		hasWritten bool
	}{
		{[]string{host.GrantLog, host.GrantEnv}, 1, 0, true},
		{[]string{host.GrantLog}, 0, 0, true},
		{[]string{host.GrantEnv}, 1, 76, false},
		{[]string{}, 0, 76, false},
	} {
		m := wasmtest.NewGuest()
		sizes := m.Import("wasi_snapshot_preview1", "environ_sizes_get", "ii>i")
		write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii>i")
		at, written, iov := m.Slot(8), m.Slot(8), m.Slot(8)
		text := m.Data([]byte("hello\n"))
		m.Headers("request",
			wasmtest.Store32(i32(iov), i32(text)), wasmtest.Store32(i32(iov+4), i32(6)),
			call(sizes, i32(at), i32(at+4)), drop(),
			wasmtest.Store32(i32(at+4), call(write, i32(1), i32(iov), i32(1), i32(written))), i32(0))
		s := start(t, m, options{plugin: host.PluginOptions{Env: map[string]string{"A": "b"}, Grants: tt.grants}})
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		mem := c.Memory()
		if mem[at] != tt.vars || mem[at+4] != tt.fd || s.log.contains(true, "hello") != tt.hasWritten {
			t.Errorf("%q: %d variables, fd_write answers %d, logged %q", tt.grants, mem[at], mem[at+4], s.log.lines(true))
		}
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
	}
}

func TestGrantNames(t *testing.T) {
	t.Parallel()
	for g, ok := range map[string]bool{
		"log": true, "metrics": true, "shared-data": true, "queue": true, "env": true, "call:x": true, "call:a|80||b:c": true,
		"": false, "call:": false, "call": false, "logs": false, "objects": true, "upstream:x": true, "upstream:": false,
	} {
		o := host.PluginOptions{Name: "p", Grants: []string{g}}
		if err := o.Validate(); (err == nil) != ok {
			t.Errorf("grant %q: %v", g, err)
		} else if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", g)) {
			t.Errorf("grant %q: the error does not name it: %v", g, err)
		}
	}
}
