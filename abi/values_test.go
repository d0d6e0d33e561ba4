package abi_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"wproxy/abi"
)

func TestReadRecord(t *testing.T) {
	r := abi.NewReadRecord(8, abi.ReadValue{Kind: abi.MapRequestHeaders, Name: "accept"}, abi.ReadValue{Kind: abi.ReadProperty, Name: "a\x00b"})
	n, room, ok := r.Parse()
	if !ok || n != 2 || room != len(r)-8 {
		t.Fatalf("%d values, room at %d of %d, %t", n, room, len(r), ok)
	}
	if kind, size := r.Asked(1); kind != abi.ReadProperty || string(r[r.Names(n)+6:][:size]) != "a\x00b" {
		t.Errorf("the second is %v, of %d bytes", kind, size)
	}
	copy(r[room:], "value")
	r.SetValue(0, room, 5)
	r.SetValue(1, 0, 99)
	if v, ok, _ := r.Value(0); string(v) != "value" || !ok {
		t.Errorf("the first value is %q, %t", v, ok)
	}
	if v, ok, large := r.Value(1); v != nil || ok || !large {
		t.Errorf("the second value is %q, %t, large %t", v, ok, large)
	}
	r.SetValue(1, 0, 0)
	if _, ok, large := r.Value(1); ok || large {
		t.Error("a value that is not there is there, or large")
	}

	count := func(n uint32) abi.ReadRecord {
		return append(binary.LittleEndian.AppendUint32(nil, n), make([]byte, 16*min(n, 20))...)
	}
	long := func(n uint32) abi.ReadRecord {
		r := abi.NewReadRecord(0, abi.ReadValue{Name: "abc"}, abi.ReadValue{Name: "def"})
		binary.LittleEndian.PutUint32(r[4+16+4:], n)
		return r
	}
	for name, bad := range map[string]abi.ReadRecord{
		"nothing":                    {},
		"too many":                   count(abi.MaxReadValues + 1),
		"a count beyond the end":     count(16)[:4+16*15],
		"a count that wraps":         count(1 << 28),
		"a name beyond the end":      long(4),
		"a name beyond all integers": long(1<<32 - 1),
		"too long":                   abi.NewReadRecord(abi.MaxReadBytes),
	} {
		if _, _, ok := bad.Parse(); ok {
			t.Errorf("%s: it is taken", name)
		}
	}
	for i := range r {
		if _, _, ok := r[:i].Parse(); ok && i < room {
			t.Errorf("cut at %d of %d: it is taken", i, len(r))
		}
	}
	if _, _, ok := abi.NewReadRecord(abi.MaxReadBytes-4-16-3, abi.ReadValue{Name: strings.Repeat("x", 3)}).Parse(); !ok {
		t.Error("the largest record is refused")
	}
}
