package meter_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"wproxy/host/meter"
	"wproxy/host/wasmtest"
)

var raw = wasmtest.Raw

// TestHostile has modules that reach for what is not theirs: with indices that are
// one beyond their own, which is where the pass puts what it adds.
func TestHostile(t *testing.T) {
	body := func(b ...byte) *wasmtest.Module {
		m := &wasmtest.Module{MinPages: 1}
		m.Global(0)
		m.Func("f", "", raw(b...))
		return m
	}
	imports := func(module, name string) *wasmtest.Module {
		m := body()
		m.Import(module, name, "")
		return m
	}
	exports := func(name string) *wasmtest.Module {
		m := body()
		m.ExportMemory(name)
		return m
	}
	ifs := func(n int) []byte { return bytes.Repeat([]byte{0x41, 0, 0x04, 0x40, 0x0b}, n) }
	long := func(n int) *wasmtest.Module {
		m := new(wasmtest.Module)
		for range n {
			m.Func("", "", raw(ifs(16000)...))
		}
		return m
	}
	for _, tt := range []struct {
		name string
		m    *wasmtest.Module
		want string
	}{
		{"reads the fuel", body(0x23, 1, 0x1a), "the instruction 0x23"},
		{"sets the fuel", body(0x42, 0, 0x24, 1), "the instruction 0x24"},
		{"sets the room", body(0x42, 0, 0x24, 2), "the instruction 0x24"},
		{"calls what is added", body(0x10, 1), "the instruction 0x10"},
		{"takes what is added", body(0xd2, 1, 0x1a), "the instruction 0xd2"},
		{"uses an added local", body(0x20, 0, 0x1a), "the instruction 0x20"},
		{"sets an added local", body(0x42, 0, 0x21, 0), "the instruction 0x21"},
		{"a block of an added type", body(0x02, 1, 0x0b), "the instruction 0x02"},
		{"branches around the exit", body(0x0c, 1), "the instruction 0x0c"},
		{"branches around the exit, by table", body(0x41, 0, 0x0e, 1, 0, 1), "the instruction 0x0e"},
		{"calls through a table that is not there", body(0x41, 0, 0x11, 0, 0), "the instruction 0x11"},
		{"imports refill", imports(meter.Module, meter.Refill), "the host's own"},
		{"imports another name of the module", imports(meter.Module, "x"), "the host's own"},
		{"exports the fuel", exports(meter.Fuel), "the host's own"},
		{"exports the room", exports(meter.Room), "the host's own"},
		{"a tail call", body(0x12, 0), "a tail call (0x12) is not supported"},
		{"an atomic instruction", body(0x41, 0, 0x41, 0, 0xfe, 0, 2, 0, 0x1a), "an atomic instruction (0xfe) is not supported"},
		{"exception handling", body(0x08, 0), "exception handling (0x08) is not supported"},
		{"garbage collection", body(0xfb, 0), "garbage collection (0xfb) is not supported"},
		{"an unknown instruction", body(0x27), "unknown instruction 0x27 is not supported"},
		{"an unknown vector instruction", body(0xfd, 0x9a, 1), "0xfd 0x9a is unknown"},
		{"a relaxed vector instruction", body(0xfd, 0x80, 2), "0xfd 0x80 is unknown"},
		{"an unknown instruction of the second page", body(0xfc, 0x12, 0), "0xfc 0x12 is unknown"},
		{"a long br_table", body(0x41, 0, 0x0e, 0xf1, 0xff, 0x03), "a br_table has 65521 targets"},
		{"code behind the end", body(0x0b, 0x01), "the instruction"},
		{"many blocks", body(ifs(16<<10 + 1)...), "function 0 has 16385 blocks, loops and branches"},
		{"many loops", body(bytes.Repeat([]byte{0x03, 0x40, 0x0b}, 3300)...), "function 0 has 16500 blocks, loops and branches"},
		{"many long functions", long(4), "function 3 has 16000 blocks, loops and branches, and with those before it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := meter.Rewrite(tt.m.Bytes(), meter.Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Rewrite() = %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(tt.want, "instruction") && !strings.Contains(err.Error(), "offset 0x") {
				t.Errorf("%v does not tell where", err)
			}
		})
	}
}

// TestHostileSections has such indices outside of the code.
func TestHostileSections(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00"
	const code = "\x0a\x04\x01\x02\x00\x0b"
	for _, tt := range []struct{ name, sections string }{
		{"exports refill", "\x07\x05\x01\x01x\x00\x01" + code},
		{"exports the fuel", "\x07\x05\x01\x01x\x03\x00" + code},
		{"starts with refill", "\x08\x01\x01" + code},
		{"puts refill into a table", "\x04\x04\x01\x70\x00\x01\x09\x07\x01\x00\x41\x00\x0b\x01\x01" + code},
		{"begins with the fuel", "\x06\x06\x01\x7e\x00\x23\x00\x0b" + code},
		{"two tables of many entries", "\x04\x0b\x02\x70\x00\xff\xff\x3f\x70\x00\xff\xff\x3f" + code},
		{"sections twice", code + code},
		{"sections in another order", code + "\x08\x01\x00"},
		{"more functions than code", "\x0a\x01\x00"},
	} {
		if _, _, err := meter.Rewrite([]byte(head+tt.sections), meter.Options{}); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if _, _, err := meter.Rewrite([]byte(head+code), meter.Options{}); err != nil {
		t.Errorf("without any of it: %v", err)
	}
}

// TestTruncated: what is good must not be when it ends early.
func TestTruncated(t *testing.T) {
	wasm := loops().Bytes()
	whole := 0
	for n := range wasm {
		if _, _, err := meter.Rewrite(wasm[:n], meter.Options{}); err == nil {
			whole++ // one that ends between sections may be
		}
	}
	if whole > 8 {
		t.Errorf("%d of %d truncated modules are taken for whole ones", whole, len(wasm))
	}
}

// TestUnits wants exact prices: what a call costs is what the regions that it runs
// cost, and nothing is paid twice but small regions by others.
func TestUnits(t *testing.T) {
	nops := func(n int) wasmtest.Instr { // 2 units each
		return wasmtest.Seq(slices.Repeat([]wasmtest.Instr{wasmtest.Seq(i32(0), wasmtest.Drop())}, n)...)
	}
	for _, tt := range []struct {
		name string
		body []wasmtest.Instr
		arg  uint64
		want int64
	}{
		{"straight", []wasmtest.Instr{nops(50)}, 0, 1 + 100},
		{"free when small", []wasmtest.Instr{nops(10)}, 0, 0},
		{"small arm is paid ahead", []wasmtest.Instr{nops(50), wasmtest.If(get(0), nops(5))}, 0, 1 + 100 + 2 + 10},
		{"large arm, not run", []wasmtest.Instr{nops(20), wasmtest.If(get(0), nops(100))}, 0, 1 + 40 + 2},
		{"large arm, run", []wasmtest.Instr{nops(20), wasmtest.If(get(0), nops(100))}, 1, 1 + 40 + 2 + 200},
		{"two large arms", []wasmtest.Instr{nops(20), wasmtest.IfElse(get(0), nops(100), nops(200))}, 0, 1 + 40 + 2 + 400},
		{"behind an if", []wasmtest.Instr{nops(20), wasmtest.If(get(0), nops(100)), nops(7)}, 0, 1 + 40 + 2 + 14},
		{
			"behind a return, not run",
			[]wasmtest.Instr{nops(20), wasmtest.If(get(0), wasmtest.Return()), nops(100)},
			1, 1 + 40 + 2 + 1,
		},
		{
			"loop", // each turn: 1, nops, local.get, i32.const, i32.sub, local.set, local.get, br_if
			[]wasmtest.Instr{nops(4), wasmtest.Loop(get(0), nops(3), set(0, wasmtest.Sub(get(0), i32(1)))), nops(2)},
			10, 1 + 8 + 4 + 10*(1+6+6),
		},
		{"dead code is free", []wasmtest.Instr{nops(20), wasmtest.Return(), nops(500)}, 0, 1 + 40 + 1},
		{"division", []wasmtest.Instr{nops(20), get(0), i32(3), raw(0x6d), wasmtest.Drop()}, 1, 1 + 40 + 2 + 40 + 1},
		{"memory.grow", []wasmtest.Instr{wasmtest.MemoryGrow(i32(0)), wasmtest.Drop()}, 1, 1 + 1 + 4000 + 1},
		{"small memory.fill", []wasmtest.Instr{i32(0), i32(0), i32(100), raw(0xfc, 0x0b, 0)}, 1, 1 + 3 + 20 + 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &wasmtest.Module{MinPages: 1}
			m.Func("f", "i", tt.body...)
			mod, k := metered(t, m.Bytes(), -1)
			before := k.used(mod)
			if _, err := mod.ExportedFunction("f").Call(t.Context(), tt.arg); err != nil {
				t.Fatal(err)
			}
			if got := k.used(mod) - before; got != tt.want {
				t.Errorf("%d units, want %d", got, tt.want)
			}
		})
	}
}

// TestEnds has code that would never end, or nearly never, and is ended.
func TestEnds(t *testing.T) {
	const copies = 64 << 20
	for _, tt := range []struct {
		name string
		make func(m *wasmtest.Module, f *wasmtest.Func)
		want error
	}{
		{"a loop", func(_ *wasmtest.Module, f *wasmtest.Func) { f.Body(raw(0x03, 0x40, 0x0c, 0, 0x0b)) }, errFuel},
		{"recursion", func(_ *wasmtest.Module, f *wasmtest.Func) { f.Body(call(f)) }, errRoom},
		{"recursion in two", func(m *wasmtest.Module, f *wasmtest.Func) { f.Body(call(m.Func("", "", call(f)))) }, errRoom},
		{"a tree of calls", func(m *wasmtest.Module, f *wasmtest.Func) {
			last := m.Func("", "", wasmtest.Seq(slices.Repeat([]wasmtest.Instr{i32(0), wasmtest.Drop()}, 20)...))
			for range 30 {
				last = m.Func("", "", call(last), call(last))
			}
			f.Body(call(last))
		}, errFuel},
		{"large copies", func(_ *wasmtest.Module, f *wasmtest.Func) {
			f.Body(wasmtest.Loop(i32(1), i32(0), i32(8), i32(copies-8), raw(0xfc, 0x0a, 0, 0)))
		}, errFuel},
		{"one large fill", func(_ *wasmtest.Module, f *wasmtest.Func) {
			f.Body(i32(0), i32(8), i32(copies), raw(0xfc, 0x0b, 0))
		}, errFuel},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &wasmtest.Module{MinPages: copies / wasmtest.PageSize}
			f := m.Func("f", "")
			tt.make(m, f)
			mod, k := metered(t, m.Bytes(), 3_000_000)
			_, err := mod.ExportedFunction("f").Call(t.Context())
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if used := k.used(mod); errors.Is(tt.want, errFuel) && (used < 3_000_000 || used > 3_200_000) {
				t.Errorf("%d units were used", used)
			}
		})
	}
}

// TestInfo wants what the host needs to know, and names that fit the functions.
func TestInfo(t *testing.T) {
	m := wasmtest.NewGuest()
	imported := m.Env("proxy_done", ">i")
	m.Func("a", "", call(imported), wasmtest.Drop())
	crash := m.Func("b", "", i32(0), i32(0), i32(-1), raw(0xfc, 0x0b, 0))
	m.Func("c", "", call(crash))
	m.Unexport("b")
	wasm := m.Bytes()
	_, info, err := meter.Rewrite(wasm, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []meter.Import{{Module: "env", Name: "proxy_done"}}; !slices.Equal(info.Imports, want) {
		t.Errorf("imports %v, want %v", info.Imports, want)
	}
	if want := []string{"proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "a", "c"}; !slices.Equal(info.Exports, want) {
		t.Errorf("exports %v, want %v", info.Exports, want)
	}
	if !info.Memory || info.MinPages != 2 || info.Functions != 5 || info.Helpers != 1 {
		t.Errorf("%+v", info)
	}

	m = &wasmtest.Module{MinPages: 1}
	crash = m.Func("crash", "", i32(0), i32(0), i32(-1), raw(0xfc, 0x0b, 0))
	m.Func("outer", "", call(crash))
	mod, _ := metered(t, m.Bytes(), -1)
	_, err = mod.ExportedFunction("outer").Call(t.Context())
	if err == nil || !strings.Contains(err.Error(), "memory.fill") || !strings.Contains(err.Error(), "crash") || !strings.Contains(err.Error(), "outer") {
		t.Errorf("%v, want a stack with memory.fill, crash and outer", err)
	}
}
