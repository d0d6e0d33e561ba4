package host_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/host"
)

// Whatever a guest passes to a host function, it is answered with a status that the
// function has, and lives: nothing that it passes is a panic of the host.
func FuzzHostCalls(f *testing.F) {
	h, err := host.NewHost(host.HostOptions{ManualTicks: true, GRPC: quickGRPC{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	names := host.HostFuncNames()
	slices.Sort(names)
	roots := make([]*host.Root, len(names))
	for i, name := range names {
		p, err := h.Load(f.Context(), callGuest(f, v021, name, resultType(name)), host.PluginOptions{Name: name, Instances: 1, Memory: 4 << 20, Grants: allGrants})
		if err != nil {
			f.Fatal(err)
		}
		if roots[i], err = p.NewRoot(f.Context(), []byte("configuration")); err != nil {
			f.Fatal(err)
		}
		for _, arg := range []uint64{0, 1, 5, atText, atResult, 0xffffffff} {
			f.Add(byte(i), slices.Repeat(binary.LittleEndian.AppendUint64(nil, arg), 8), "text")
		}
		var args []byte
		for range 5 {
			args = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(args, atText), 4)
		}
		f.Add(byte(i), args, "\x01\x00\x00\x00")
		f.Add(byte(i), args, "compress")
	}
	f.Fuzz(func(t *testing.T, call byte, args []byte, text string) {
		i := int(call) % len(names)
		p := roots[i].Plugin()
		p.Poke(atStatus, []byte{0xff, 0xff, 0xff, 0xff})
		p.Poke(atArgs, append(make([]byte, 0, 96), args[:min(len(args), 96)]...))
		p.Poke(atText, []byte(text[:min(len(text), atHeap-atText)]))
		var c host.Context
		if err := roots[i].Open(&c, newStream()); err != nil {
			t.Fatal(err)
		}
		_, err := c.RequestHeaders(1, true)
		if err == nil {
			err = c.Finish(nil)
		}
		if err != nil {
			t.Fatalf("%s: %v", names[i], err)
		}
		status := fmt.Sprint(binary.LittleEndian.Uint32(p.Peek()[atStatus:]))
		if !slices.Contains(strings.Fields(callStatuses[names[i]]), status) {
			t.Errorf("%s: status %s, want one of %s", names[i], status, callStatuses[names[i]])
		}
	})
}
