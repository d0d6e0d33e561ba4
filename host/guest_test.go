package host_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// Where the guests of testdata/wat expect things, and leave them.
const (
	atStatus = 1024 // the status of the call, or how often the callback was called
	atArgs   = 1032 // arguments, 8 bytes each
	atAnswer = 1096 // what the callback returns
	atResult = 2048 // results of the call, between guards
	atText   = 4096 // what arguments point at
	atHeap   = 65536
	atEnd    = 2 * wasmtest.PageSize
)

// watGuest assembles a guest of testdata/wat with an ABI marker.
func watGuest(tb testing.TB, name, version string) []byte {
	tb.Helper()
	return assemble(tb, strings.Replace(readGuest(tb, name), v021, version, 1))
}

// readGuest returns the text of a guest.
func readGuest(tb testing.TB, name string) string {
	tb.Helper()
	src, err := os.ReadFile("../testdata/wat/" + name + ".wat")
	if err != nil {
		tb.Fatal(err)
	}
	return string(src)
}

func assemble(tb testing.TB, src string) []byte {
	tb.Helper()
	wasm, err := wasmtest.WAT(src)
	if err != nil {
		tb.Fatal(err)
	}
	return wasm
}

// callGuest returns the guest that makes a call. Those that are not there as text are
// made: of functions that do nothing yet, and of types that only early SDKs use.
func callGuest(tb testing.TB, version, name, sig string) []byte {
	tb.Helper()
	if types := host.HostFuncTypes(name); len(types) > 0 && sig == resultType(name) {
		_, err := os.Stat("../testdata/wat/call/" + name + ".wat")
		if err == nil {
			return watGuest(tb, "call/"+name, version)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			tb.Fatal(err)
		}
	}
	m := wasmtest.NewGuestVersion(version)
	m.Slot(atHeap - atStatus)
	params, _, _ := strings.Cut(sig, ">")
	var args []wasmtest.Instr
	for i := range params {
		args = append(args, wasmtest.Load32(i32(atArgs+8*int32(i)))) // none of these has another type
	}
	m.Headers("request", wasmtest.Store32(i32(atStatus), call(m.Env(name, sig), args...)), i32(0))
	return m.Bytes()
}

// A guestCall is a call of a host function by a guest of testdata/wat.
type guestCall struct {
	wasm []byte
	args []any
}

// newCall returns a call. An int is a constant, an int64 one of 64 bits, a string an
// address and a length; out and raw are what they say.
func newCall(tb testing.TB, version, name, sig string, args ...any) *guestCall {
	tb.Helper()
	return &guestCall{wasm: callGuest(tb, version, name, sig), args: args}
}

// poke puts the arguments and a fresh result area into the guest's memory.
func (g *guestCall) poke(p *host.Plugin) {
	p.Poke(atStatus, binary.LittleEndian.AppendUint32(nil, 0xffffffff))
	p.Poke(atResult, bytes.Repeat([]byte{guard}, resultBytes))
	var args []byte
	next, beyond := uint32(atText), uint32(atEnd)
	add := func(v uint64) { args = binary.LittleEndian.AppendUint64(args, v) }
	for _, a := range g.args {
		switch a := a.(type) {
		case int:
			add(uint64(uint32(int32(a))))
		case int64:
			add(uint64(a))
		case out:
			add(uint64(uint32(atResult + 16 + a)))
		case raw:
			add(uint64(a))
		case string:
			at := &next
			if uint32(len(a)) > atHeap-next {
				at = &beyond // behind everything, where the guest has no memory yet
			}
			p.Poke(*at, []byte(a))
			add(uint64(*at))
			add(uint64(len(a)))
			*at += uint32(len(a)+7) &^ 7
		default:
			panic(fmt.Sprintf("no argument of type %T", a))
		}
	}
	p.Poke(atArgs, args)
}

// run makes the call and returns the status and the memory.
func (g *guestCall) run(t *testing.T, st *fakeStream, o options) (abi.Status, []byte, *setup) {
	t.Helper()
	s := startWasm(t, g.wasm, o)
	g.poke(s.plugin)
	c := s.open(st)
	if _, err := c.RequestHeaders(3, false); err != nil {
		t.Fatalf("RequestHeaders() = %v", err)
	}
	mem := c.Memory()
	if err := c.Finish(nil); err != nil {
		t.Fatalf("Finish() = %v", err)
	}
	return abi.Status(binary.LittleEndian.Uint32(mem[atStatus:])), mem, s
}

// area returns n bytes of results; the guards before and behind them are checked.
func (*guestCall) area(t *testing.T, mem []byte, n int) []byte {
	t.Helper()
	return guarded(t, mem[atResult:atResult+resultBytes], n)
}

// guarded returns the n bytes between the guards.
func guarded(t *testing.T, area []byte, n int) []byte {
	t.Helper()
	for i, b := range area {
		if (i < 16 || i >= 16+n) && b != guard {
			t.Errorf("byte %d of the result area was written", i-16)
		}
	}
	return area[16 : 16+n]
}
