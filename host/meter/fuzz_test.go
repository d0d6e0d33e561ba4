package meter_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wproxy/host/meter"
)

// FuzzSame makes a module and wants the same from it plain and rewritten: results,
// memory, globals and traps, call after call; and that all it did was charged.
func FuzzSame(f *testing.F) {
	for seed := range uint64(300) { // they are run by every test
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 40<<(seed%4))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 2000 {
			t.Skip("the compiler's speed is not what is tested")
		}
		same(t, (&gen{src: src}).module())
	})
}

func same(t *testing.T, wasm []byte) {
	t.Helper()
	ctx := t.Context()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithDebugInfoEnabled(false))
	defer rt.Close(context.Background())
	k := &tank{left: -1}
	k.link(t, rt)
	config := wazero.NewModuleConfig().WithName("")
	was, err := rt.InstantiateWithConfig(ctx, wasm, config)
	if err != nil {
		t.Fatalf("the generator is wrong: %v", err)
	}
	now, err := rt.InstantiateWithConfig(ctx, rewrite(t, wasm), config)
	if err != nil {
		t.Fatalf("rewritten: %v", err)
	}
	now.ExportedGlobal(meter.Room).(api.MutableGlobal).Set(1 << 40)
	args := []uint64{3, 77}
	for i := range genFuncs {
		name := strconv.Itoa(i)
		params := args[:genTypes[i%len(genTypes)][0]]
		r1, err1 := was.ExportedFunction(name).Call(ctx, params...)
		r2, err2 := now.ExportedFunction(name).Call(ctx, params...)
		if a, b := firstLine(err1), firstLine(err2); a != b {
			t.Fatalf("%s: plain: %s; rewritten: %s", name, a, b)
		}
		for j := range r1 {
			if uint32(r1[j]) != uint32(r2[j]) {
				t.Fatalf("%s: result %d: plain %d, rewritten %d", name, j, uint32(r1[j]), uint32(r2[j]))
			}
		}
		for g := range 4 {
			a, b := was.ExportedGlobal("g"+strconv.Itoa(g)).Get(), now.ExportedGlobal("g"+strconv.Itoa(g)).Get()
			if uint32(a) != uint32(b) {
				t.Fatalf("%s: global %d: plain %d, rewritten %d", name, g, uint32(a), uint32(b))
			}
		}
		m1, _ := was.Memory().Read(0, was.Memory().Size())
		m2, _ := now.Memory().Read(0, now.Memory().Size())
		if !bytes.Equal(m1, m2) {
			t.Fatalf("%s: the memories differ", name)
		}
		if err1 == nil {
			if room := now.ExportedGlobal(meter.Room).Get(); room != 1<<40 {
				t.Fatalf("%s: room is %d after the call, want what it was", name, room)
			}
		} else {
			now.ExportedGlobal(meter.Room).(api.MutableGlobal).Set(1 << 40)
		}
		// Each statement counts itself with four instructions; a function that its
		// callers pay for is free when it is called from here, and a little too cheap
		// through the table.
		if work := int64(uint32(now.ExportedGlobal("g1").Get())); 2*k.used(now)+32*int64(i+1) < 4*work {
			t.Fatalf("%s: %d units for %d statements", name, k.used(now), work)
		}
	}
}

// FuzzRewrite feeds any bytes: they are refused, or what comes out is as valid as
// what went in.
func FuzzRewrite(f *testing.F) {
	f.Add(loops().Bytes())
	f.Add((&gen{src: []byte("seeds of a module, and some more of them")}).module())
	ctx := context.Background()
	// As the host compiles: with debug information, wazero refuses an empty custom section
	// at the very end of a module, and Rewrite moves it from there.
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().
		WithMemoryLimitPages(16).WithDebugInfoEnabled(false))
	f.Cleanup(func() { _ = rt.Close(ctx) })
	f.Fuzz(func(t *testing.T, wasm []byte) {
		out, _, err := meter.Rewrite(wasm, meter.Options{})
		if err != nil || len(wasm) > 1<<14 {
			return
		}
		was, err1 := rt.CompileModule(ctx, wasm)
		now, err2 := rt.CompileModule(ctx, out)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("plain: %v; rewritten: %v", err1, err2)
		}
		if err1 == nil {
			_, _ = was.Close(ctx), now.Close(ctx)
		}
	})
}
