package host_test

import (
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// slotTracer is a tracer that knows the extension; it logs ids as slot and use, both a digit.
func slotTracer() *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.Func(abi.ExportStreamSlots, "", say(m, "slots"))
	at := m.Data([]byte("? ?.?"))
	log := logFunc(m)
	for _, cb := range []struct {
		letter, name, sig string
		result            []wasmtest.Instr
	}{
		{"c", "context_create", "ii", nil},
		{"q", "request_headers", "iii>i", []wasmtest.Instr{i32(0)}},
		{"p", "response_headers", "iii>i", []wasmtest.Instr{i32(0)}},
		{"o", "done", "i>i", []wasmtest.Instr{i32(1)}},
		{"l", "log", "i", nil},
		{"d", "delete", "i", nil},
	} {
		digit := func(b wasmtest.Instr) wasmtest.Instr { return wasmtest.Add(b, i32('0')) }
		id := m.Slot(4)
		m.Func("proxy_on_"+cb.name, cb.sig, append([]wasmtest.Instr{
			wasmtest.Store32(i32(id), wasmtest.Local(0)),
			wasmtest.Store8(i32(at), i32(int32(cb.letter[0]))),
			wasmtest.Store8(i32(at+2), digit(wasmtest.Load8(i32(id)))),
			wasmtest.Store8(i32(at+4), digit(wasmtest.ShrU(wasmtest.Load32(i32(id)), i32(abi.StreamSlotBits)))),
			call(log, i32(2), i32(at), i32(5)), drop(),
		}, cb.result...)...)
	}
	return m
}

func TestStreamSlots(t *testing.T) {
	s := start(t, slotTracer(), options{})
	ask := func(c *host.Context) {
		t.Helper()
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Error(err)
		}
	}
	end := func(c *host.Context) {
		t.Helper()
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
	}
	a, b := s.open(newStream()), s.open(newStream())
	ask(a)
	ask(b)
	end(a)
	end(b)
	c := s.open(newStream()) // in the place of b
	if _, err := c.ResponseHeaders(1, true); err != nil {
		t.Error(err)
	}
	d := s.open(newStream()) // in the place of a
	ask(d)
	e := s.open(newStream())
	ask(e)
	end(d)
	end(c)
	end(e)

	// Another root begins with slots of its own; what a root leaves behind is used again.
	root, err := s.plugin.NewRoot(t.Context(), []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	s.root.Close()
	s.root = root
	f := s.open(newStream())
	ask(f)
	end(f)
	root.Close()
	s.plugin.Close()
	wantLines(t, s.log.lines(true),
		"slots", "c 1.0",
		"c 1.1", "q 1.1", "c 2.1", "q 2.1", "o 1.1", "l 1.1", "o 2.1", "l 2.1",
		"p 2.2", "q 1.2", "c 3.1", "q 3.1",
		"o 1.2", "l 1.2", "o 2.2", "l 2.2", "o 3.1", "l 3.1",
		"slots", "c 1.0", "o 1.0", "d 1.0", // the spare VM
		"c 2.0", "o 1.0", "d 1.2", "d 2.2", "d 3.1", "d 1.0",
		"c 3.2", "q 3.2", "o 3.2", "l 3.2", "o 2.0", "d 3.2", "d 2.0")
}

// An id that a guest has kept from an ended stream is that of no other.
func TestStaleStreamID(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Func(abi.ExportStreamSlots, "")
	first := m.Slot(4)
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	m.Func("proxy_on_request_headers", "iii>i",
		wasmtest.If(wasmtest.Eq(wasmtest.Load32(i32(first)), i32(0)), wasmtest.Store32(i32(first), wasmtest.Local(0))),
		wasmtest.IfElse(call(effective, wasmtest.Load32(i32(first))), say(m, "gone"), say(m, "there")), i32(0))
	s := start(t, m, options{})
	for range 2 {
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Error(err)
		}
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
	}
	wantLines(t, s.log.lines(true), "there", "gone")
}
