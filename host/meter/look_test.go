package meter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wproxy/host/meter"
	"wproxy/host/wasmtest"
)

// An overdraft is a refill that notes how far below zero the fuel was, which is what can
// have run since the last look. It hands out nothing, so that every look is seen.
type overdraft struct {
	looks int
	worst int64
	left  int64 // looks until the guest is ended
}

func (o *overdraft) refill(_ context.Context, mod api.Module, _ []uint64) {
	fuel := mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
	if int64(mod.ExportedGlobal(meter.Room).Get()) < 0 {
		panic(errRoom)
	}
	if o.left--; o.left < 0 {
		panic(errFuel)
	}
	o.note(fuel)
}

func (o *overdraft) note(fuel api.MutableGlobal) {
	o.looks++
	o.worst = max(o.worst, -int64(fuel.Get()))
	fuel.Set(0)
}

// mostBelow is what one look may find: twice what runs unchecked, as small arms are paid
// whether they run or not, on both sides of a call, and what returning from a stack of
// InitialRoom does.
const mostBelow = 2*(3000+3000) + meter.InitialRoom/4

// wantLooks runs a function of a module and wants it to be looked at often enough, and
// what it has run to be charged: ran is that in units, if it is known.
func wantLooks(t *testing.T, m *wasmtest.Module, ran int64) {
	t.Helper()
	rt := wazero.NewRuntime(t.Context())
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	o := &overdraft{left: 20_000}
	_, err := rt.NewHostModuleBuilder(meter.Module).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(o.refill), nil, nil).Export(meter.Refill).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mod, err := rt.Instantiate(t.Context(), rewrite(t, m.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = mod.ExportedFunction("f").Call(t.Context())
	if o.left >= 0 && err == nil {
		o.note(mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal))
	}
	if o.worst > mostBelow {
		t.Errorf("%d units between two looks, want at most %d", o.worst, mostBelow)
	}
	if err == nil && int64(o.looks) < ran/mostBelow {
		t.Errorf("%d looks in %d units", o.looks, ran)
	}
}

// TestLooks has much work without a loop.
func TestLooks(t *testing.T) {
	divisions := func(n int) wasmtest.Instr {
		b := []byte{0x42, 7}
		for range n {
			b = append(b, 0x42, 3, 0x80)
		}
		return raw(append(b, 0x1a)...)
	}
	for _, tt := range []struct {
		name string
		make func(m *wasmtest.Module, f *wasmtest.Func)
		ran  int64
	}{
		{"straight", func(_ *wasmtest.Module, f *wasmtest.Func) { f.Body(divisions(5000)) }, 325_000},
		{"square roots", func(_ *wasmtest.Module, f *wasmtest.Func) {
			b := append([]byte{0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}, slices.Repeat([]byte{0x9f}, 20_000)...)
			f.Body(raw(append(b, 0x1a)...))
		}, 960_000},
		{"calls of a long function", func(m *wasmtest.Module, f *wasmtest.Func) {
			long := m.Func("", "", divisions(3000))
			f.Body(slices.Repeat([]wasmtest.Instr{call(long)}, 20)...)
		}, 3_900_000},
		{"calls of short functions", func(m *wasmtest.Module, f *wasmtest.Func) {
			short := m.Func("", "", divisions(10))
			f.Body(slices.Repeat([]wasmtest.Instr{call(short)}, 2000)...)
		}, 1_300_000},
		{"behind an arm that is not run", func(m *wasmtest.Module, f *wasmtest.Func) {
			f.Body(slices.Repeat([]wasmtest.Instr{divisions(20), wasmtest.If(i32(0), divisions(60))}, 200)...)
		}, 260_000},
		{"behind loops", func(m *wasmtest.Module, f *wasmtest.Func) {
			f.Body(slices.Repeat([]wasmtest.Instr{divisions(40), wasmtest.Loop(i32(0))}, 200)...)
		}, 520_000},
		{"behind nested loops", func(m *wasmtest.Module, f *wasmtest.Func) {
			in := divisions(1)
			for range 100 {
				in = wasmtest.Seq(wasmtest.Loop(i32(0), divisions(1), in, divisions(40)), divisions(1))
			}
			f.Body(in)
		}, 260_000},
		{"as calls return", func(m *wasmtest.Module, f *wasmtest.Func) {
			deep := m.Func("", "i>i")
			deep.Body(wasmtest.If(get(0), call(deep, wasmtest.Sub(get(0), i32(1))), divisions(3), wasmtest.Return()), i32(0))
			f.Body(call(deep, i32(200)), wasmtest.Drop())
		}, 39_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &wasmtest.Module{MinPages: 1}
			f := m.Func("f", "")
			tt.make(m, f)
			wantLooks(t, m, tt.ran)
		})
	}
}

// TestLooksAnywhere has calls of any functions by any, and code of any length between.
func TestLooksAnywhere(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			m := &wasmtest.Module{MinPages: 1}
			fs := []*wasmtest.Func{m.Func("f", "")}
			for range 12 {
				fs = append(fs, m.Func("", ""))
			}
			var code func(f, depth int) []wasmtest.Instr
			code = func(f, depth int) (list []wasmtest.Instr) {
				for range 1 + r.IntN(6) {
					switch k := r.IntN(12); {
					case k < 5:
						n := 1 << r.IntN(12)
						list = append(list, slices.Repeat([]wasmtest.Instr{wasmtest.Seq(i32(1), wasmtest.Drop())}, n)...)
					case k < 8: // mostly of later functions, so that it ends
						to := f + 1 + r.IntN(3)
						if r.IntN(12) == 0 {
							to = r.IntN(len(fs))
						}
						if to < len(fs) {
							list = append(list, call(fs[to]))
						}
					case depth > 3:
					case k < 10:
						list = append(list, wasmtest.If(i32(int32(r.IntN(2))), code(f, depth+1)...))
					case k < 11:
						list = append(list, wasmtest.IfElse(i32(int32(r.IntN(2))), wasmtest.Seq(code(f, depth+1)...), wasmtest.Seq(code(f, depth+1)...)))
					default:
						list = append(list, wasmtest.Loop(i32(0), code(f, depth+1)...))
					}
				}
				return list
			}
			for i, f := range fs {
				f.Body(code(i, 0)...)
			}
			wantLooks(t, m, 0)
		})
	}
}
