package meter_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wproxy/host/meter"
)

// slice is the fuel that a test's refill hands out at a time.
const slice = 100_000

// Faults of a test's refill.
var (
	errFuel = errors.New("out of fuel")
	errRoom = errors.New("too deep")
)

// A tank refills guests until it is empty.
type tank struct {
	left    int64 // fuel to hand out; negative: without end
	refills int
	granted int64
}

// refill is the function that rewritten modules import.
func (k *tank) refill(_ context.Context, mod api.Module, _ []uint64) {
	k.refills++
	if int64(mod.ExportedGlobal(meter.Room).Get()) < 0 {
		panic(errRoom)
	}
	fuel := mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
	if k.left == 0 {
		panic(errFuel)
	}
	n := slice - int64(fuel.Get()) // it is negative
	if k.left > 0 {
		n = min(n, k.left)
		k.left -= n
	}
	k.granted += n
	fuel.Set(uint64(int64(fuel.Get()) + n))
}

// link makes the module that rewritten guests import from.
func (k *tank) link(t testing.TB, rt wazero.Runtime) {
	t.Helper()
	_, err := rt.NewHostModuleBuilder(meter.Module).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(k.refill), nil, nil).Export(meter.Refill).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

// used is the fuel that an instance has used.
func (k *tank) used(mod api.Module) int64 {
	return k.granted - int64(mod.ExportedGlobal(meter.Fuel).Get())
}

// rewrite rewrites a module that has to be fine.
func rewrite(t testing.TB, wasm []byte) []byte {
	t.Helper()
	b, _, err := meter.Rewrite(wasm, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// metered instantiates a rewritten module.
func metered(t testing.TB, wasm []byte, fuel int64) (api.Module, *tank) {
	t.Helper()
	rt := wazero.NewRuntime(t.Context())
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	k := &tank{left: fuel}
	k.link(t, rt)
	mod, err := rt.InstantiateWithConfig(t.Context(), rewrite(t, wasm), wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	return mod, k
}

// plain instantiates a module as it is.
func plain(t testing.TB, wasm []byte) api.Module {
	t.Helper()
	rt := wazero.NewRuntime(t.Context())
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	mod, err := rt.InstantiateWithConfig(t.Context(), wasm, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	return mod
}
