package host_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// hostileName clears a terminal, forges a line and turns text around.
const hostileName = "a\x1b[2J\nb\u202ec"

// What a module calls its functions neither fills the log nor gets at a terminal.
func TestTrapNames(t *testing.T) {
	long := strings.Repeat("n", 1<<20)
	fn := func(name string) func(*wasmtest.Module) *wasmtest.Func {
		return func(m *wasmtest.Module) *wasmtest.Func { return m.Func(name, "", wasmtest.Unreachable()) }
	}
	imp := func(name string) func(*wasmtest.Module) *wasmtest.Func {
		return func(m *wasmtest.Module) *wasmtest.Func { return m.Env(name, "") }
	}
	for _, tt := range []struct {
		name   string
		callee func(*wasmtest.Module) *wasmtest.Func
		want   string // part of the error
	}{
		{"plain function", fn("inner"), "unreachable in inner"},
		{"long function", fn(long), "unreachable in nnnn"},
		{"hostile function", fn("\x1b[2J\u202e"), `unreachable in "\x1b[2J\u202e"`},
		{"a function called like what the runtime says", fn("x (recovered by wazero)"), "unreachable in x"},
		{"plain import", imp("nothing"), "it called env.nothing, which this host does not have"},
		{"long import", imp(long), "it called env.nnnn"},
		{"hostile import", imp(hostileName), `it called env."a\x1b[2J\nb\u202ec", which`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			m.Headers("request", call(tt.callee(m)), i32(0))
			s := start(t, m, options{})
			_, err := s.open(newStream()).RequestHeaders(1, true)
			trap, ok := errors.AsType[*host.TrapError](err)
			if !ok || trap.Cause != host.CauseTrap || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %.300q, want a trap with %q", err, tt.want)
			}
			for _, text := range append(slices.Concat(trap.Stack, s.log.lines(false)), err.Error()) {
				if len(text) > 1<<10 {
					t.Errorf("a text of %d bytes: %.80q", len(text), text)
				}
				if strings.ContainsAny(text, "\x1b\n\u202e") {
					t.Errorf("a text with control characters: %q", text)
				}
			}
		})
	}
}

// Neither does what a module that is refused calls its imports and exports.
func TestLoadErrorNames(t *testing.T) {
	long := strings.Repeat("n", 1<<20)
	for _, tt := range []struct {
		name string
		make func(*wasmtest.Module)
		want string
	}{
		{"module", func(m *wasmtest.Module) { m.Import(hostileName, "f", "i") }, `it imports "a\x1b[2J\nb\u202ec".f: there is no module "a\x1b`},
		{"function", func(m *wasmtest.Module) { m.Import("sys", hostileName, "i") }, `sys."a\x1b[2J\nb\u202ec"`},
		{"long module", func(m *wasmtest.Module) { m.Import(long, "f", "i") }, `there is no module "nnnn`},
		{"long function", func(m *wasmtest.Module) { m.Import("sys", long, "i") }, `sys.nnnn`},
		{"global", func(m *wasmtest.Module) { m.ImportGlobal("env", hostileName) }, `global env."a\x1b[2J\nb\u202ec"`},
		{"two types", func(m *wasmtest.Module) { m.Env(hostileName, "i"); m.Env(hostileName, "ii") }, `env."a\x1b[2J\nb\u202ec" twice`},
		{"two names that look like one", func(m *wasmtest.Module) { m.Import("a.b", "c", "i"); m.Import("a", "b.c", "ii") }, `no module "a.b"`},
		{"marker", func(m *wasmtest.Module) { // of the guest's own kind only
			m.Unexport("proxy_abi_version_0_2_1")
			m.Func("proxy_abi_version_"+hostileName, "")
		}, `its ABI marker "proxy_abi_version_a\x1b[2J\nb\u202ec" is of no version`},
		{"two exports of a name", func(m *wasmtest.Module) { m.Func(hostileName, ""); m.Func(hostileName, "") }, `a\x1b[2J\nb\u202ec`},
		{"invalid code", func(m *wasmtest.Module) { m.Func(hostileName, ">i", wasmtest.Drop()) }, `does not compile`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			tt.make(m)
			_, err := tryLoad(t, m.Bytes(), host.PluginOptions{})
			e, ok := errors.AsType[*host.LoadError](err)
			if !ok || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %.300v, want a LoadError with %q", err, tt.want)
			}
			for _, p := range e.Problems {
				if len(p) > 1<<10 || strings.ContainsAny(p, "\x1b\n\u202e") {
					t.Errorf("a problem of %d bytes: %.300q", len(p), p)
				}
			}
		})
	}
}

// Nor does what a guest says before it refuses to start.
func TestStartErrorLog(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Func("proxy_on_configure", "ii>i", say(m, "no: "+hostileName), i32(0))
	s := load(t, m, options{})
	_, err := s.plugin.NewRoot(t.Context(), nil)
	if err == nil || !strings.HasSuffix(err.Error(), "\n\tno: a\\x1b[2J\\nb\\u202ec") {
		t.Errorf("error %q", err)
	}
}
