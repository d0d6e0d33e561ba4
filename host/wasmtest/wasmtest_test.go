package wasmtest_test

import (
	"testing"

	"github.com/tetratelabs/wazero"

	"wproxy/host/wasmtest"
)

// The encoder is right if an independent decoder accepts what it makes and the
// code does what it says.
func TestModuleRuns(t *testing.T) {
	ctx := t.Context()
	m := wasmtest.NewGuest()
	at := m.Data([]byte{40, 0, 0, 0})
	g := m.Global(-7)
	sum := m.FuncLocals("", "ii>i", "i", wasmtest.SetLocal(2, wasmtest.Add(wasmtest.Local(0), wasmtest.Local(1))), wasmtest.Local(2))
	m.Func("answer", ">i", wasmtest.Call(sum, wasmtest.Load32(wasmtest.I32(at)), wasmtest.I32(2)))
	m.Func("global", ">i", wasmtest.Get(g))
	count := m.Global(0)
	m.Func("loop", ">i",
		wasmtest.Loop(wasmtest.LtU(wasmtest.Get(count), wasmtest.I32(10)), wasmtest.Set(count, wasmtest.Add(wasmtest.Get(count), wasmtest.I32(1)))),
		wasmtest.IfElse(wasmtest.Eq(wasmtest.Get(count), wasmtest.I32(10)), wasmtest.Set(g, wasmtest.I32(1)), wasmtest.Set(g, wasmtest.I32(2))),
		wasmtest.Get(g))
	m.Custom("note", []byte("hello"))

	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	mod, err := rt.Instantiate(ctx, m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want int32
	}{{"answer", 42}, {"global", -7}, {"loop", 1}} {
		res, err := mod.ExportedFunction(tt.name).Call(ctx)
		if err != nil || int32(res[0]) != tt.want {
			t.Errorf("%s() = %v, %v, want %d", tt.name, res, err, tt.want)
		}
	}
	alloc := mod.ExportedFunction("proxy_on_memory_allocate")
	var last uint64
	for _, n := range []uint64{1, 8, 3 * wasmtest.PageSize, 5} {
		res, err := alloc.Call(ctx, n)
		if err != nil || res[0] <= last || res[0]+n > uint64(mod.Memory().Size()) {
			t.Errorf("allocate(%d) = %v, %v; last %d, memory %d", n, res, err, last, mod.Memory().Size())
			continue
		}
		last = res[0] + n - 1
	}
	if res, err := alloc.Call(ctx, 1<<32-70000); err != nil || res[0] != 0 {
		t.Errorf("allocate(4 GiB) = %v, %v, want 0", res, err)
	}
}
