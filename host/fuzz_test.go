package host_test

import (
	"errors"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// FuzzLoad feeds modules that are not quite right: they load, or are refused with a
// LoadError, and one that loads starts or fails with a StartError.
func FuzzLoad(f *testing.F) {
	f.Add(wasmtest.NewGuest().Bytes())
	f.Add(crasher().Bytes())
	m := wasmtest.NewGuest()
	m.ImportGlobal("env", "g")
	f.Add(m.Bytes())
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if len(wasm) > 1<<14 {
			t.Skip("the compiler's speed is not what is tested")
		}
		p, err := h.Load(t.Context(), wasm, host.PluginOptions{Name: "fuzz", Memory: 1 << 20, Start: time.Millisecond})
		if err != nil {
			var le *host.LoadError
			if !errors.As(err, &le) || len(le.Problems) == 0 {
				t.Fatalf("Load() = %v, want a LoadError", err)
			}
			return
		}
		root, err := p.NewRoot(t.Context(), nil)
		if err == nil {
			root.Close()
		} else if se := (*host.StartError)(nil); !errors.As(err, &se) {
			t.Fatalf("NewRoot() = %v, want a StartError", err)
		}
		p.Close()
	})
}
