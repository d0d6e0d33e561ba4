package meter_test

import (
	"testing"

	"wproxy/host/wasmtest"
)

// Short names of instructions.
var (
	i32  = wasmtest.I32
	get  = wasmtest.Local
	set  = wasmtest.SetLocal
	call = wasmtest.Call
)

// loops has loop(n), which does next to nothing n times; hash(n), an FNV hash of n
// bytes of memory; fib(n), which calls itself; leaf(n), a loop that calls a function
// of a few instructions; and calls(n), one that calls a larger one.
func loops() *wasmtest.Module {
	m := &wasmtest.Module{MinPages: 16}
	more := func(body ...wasmtest.Instr) wasmtest.Instr {
		return wasmtest.Loop(get(0), append(body, set(0, wasmtest.Sub(get(0), i32(1))))...)
	}
	m.FuncLocals("loop", "i>i", "i", more(set(1, wasmtest.Add(get(1), get(0)))), get(1))
	m.FuncLocals("hash", "i>i", "i",
		set(1, i32(-2128831035)),
		more(set(1, wasmtest.Seq(get(1), wasmtest.Load8(wasmtest.And(get(0), i32(0xffff))), wasmtest.Raw(0x73), i32(16777619), wasmtest.Raw(0x6c)))),
		get(1))
	fib := m.Func("fib", "i>i")
	fib.Body(wasmtest.If(wasmtest.LtU(get(0), i32(2)), get(0), wasmtest.Return()),
		wasmtest.Add(call(fib, wasmtest.Sub(get(0), i32(1))), call(fib, wasmtest.Sub(get(0), i32(2)))))
	small := m.Func("", "i>i", wasmtest.Add(get(0), i32(7)))
	m.FuncLocals("leaf", "i>i", "i", more(set(1, wasmtest.Add(get(1), call(small, get(1))))), get(1))
	var long []wasmtest.Instr
	for range 12 {
		long = append(long, set(0, wasmtest.Add(wasmtest.Shl(get(0), i32(1)), i32(3))))
	}
	large := m.Func("", "i>i", append(long, get(0))...)
	m.FuncLocals("calls", "i>i", "i", more(set(1, wasmtest.Add(get(1), call(large, get(1))))), get(1))
	return m
}

// BenchmarkCost shows what counting costs: nanoseconds per turn of a loop, or per call,
// in the plain and in the rewritten module.
func BenchmarkCost(b *testing.B) {
	wasm := loops().Bytes()
	was := plain(b, wasm)
	now, k := metered(b, wasm, -1)
	for _, tt := range []struct {
		name  string
		arg   uint64
		count float64 // turns or calls
	}{
		{"loop", 1 << 20, 1 << 20},
		{"hash", 1 << 20, 1 << 20},
		{"fib", 25, 242785},
		{"leaf", 1 << 20, 1 << 20},
		{"calls", 1 << 20, 1 << 20},
	} {
		f, g := was.ExportedFunction(tt.name), now.ExportedFunction(tt.name)
		stack := make([]uint64, 1)
		b.Run(tt.name+"/plain", func(b *testing.B) {
			for b.Loop() {
				stack[0] = tt.arg
				if err := f.CallWithStack(b.Context(), stack); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/tt.count, "ns/turn")
		})
		b.Run(tt.name+"/metered", func(b *testing.B) {
			from := k.used(now)
			for b.Loop() {
				stack[0] = tt.arg
				if err := g.CallWithStack(b.Context(), stack); err != nil {
					b.Fatal(err)
				}
			}
			turns := float64(b.N) * tt.count
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/turns, "ns/turn")
			b.ReportMetric(float64(k.used(now)-from)/turns, "units/turn")
			b.ReportMetric(float64(k.used(now)-from)/float64(b.Elapsed().Nanoseconds())*1e6, "units/ms")
		})
	}
}
