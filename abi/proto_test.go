package abi_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"testing"

	"wproxy/abi"
)

func TestProtoFields(t *testing.T) {
	for _, tt := range []struct {
		name, message, want string
	}{
		{"empty", "", ""},
		{"varint", "089601", "1=150"},
		{"largest", "08ffffffffffffffffff01", fmt.Sprintf("1=%d", uint64(math.MaxUint64))},
		{"bytes", "12027879", "2=xy"},
		{"empty bytes", "1200", "2="},
		{"fixed", "0d01000000" + "090200000000000000", "1=1 1=2"},
		{"last wins is the reader's", "08010802", "1=1 1=2"},
		{"high field", "f8ffffff0f01", "536870911=1"},
		{"field 0", "0001", "bad"},
		{"group", "0b0c", "bad"},
		{"short varint", "08ff", "bad"},
		{"long varint", "08ffffffffffffffffff02", "bad"},
		{"short bytes", "120378", "bad"},
		{"huge bytes", "12ffffffffffffffffff01", "bad"},
		{"short fixed", "0d0100", "bad"},
		{"short fixed64", "0901000000", "bad"},
		{"good, then bad", "080108", "1=1 bad"},
	} {
		message, err := hex.DecodeString(tt.message)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for f, ok := range abi.ProtoFields(string(message)) {
			if got != "" {
				got += " "
			}
			switch {
			case !ok:
				got += "bad"
			case f.Bytes != "" || message[0]&7 == 2:
				got += fmt.Sprintf("%d=%s", f.Number, f.Bytes)
			default:
				got += fmt.Sprintf("%d=%d", f.Number, f.Value)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAppendProto(t *testing.T) {
	b := abi.AppendProtoBytes(nil, 1, "")
	b = abi.AppendProtoUint(b, 2, 0)
	b = abi.AppendProtoBytes(b, 5, "xy")
	b = abi.AppendProtoUint(b, 16, 300)
	if want := "2a0278798001ac02"; hex.EncodeToString(b) != want {
		t.Errorf("got %x, want %s", b, want)
	}
}

// The encoding is that of protoc for the same struct.
func TestAppendStruct(t *testing.T) {
	got := abi.AppendStruct(nil, map[string]any{
		"a": "x", "b": true, "c": int64(1), "d": []any{"y", false}, "e": map[string]any{"f": 0.5}, "g": "", "h": struct{}{},
	}, 8, func(any) string { return "other" })
	want := "0a080a01611203" + "1a0178" +
		"0a070a01621202" + "2001" +
		"0a0e0a01631209" + "11000000000000f03f" +
		"0a100a0164120b" + "32090a031a01790a022000" +
		"0a170a01651212" + "2a100a0e0a0166120911000000000000e03f" +
		"0a070a01671202" + "1a00" +
		"0a0c0a01681207" + "1a056f74686572"
	if hex.EncodeToString(got) != want {
		t.Errorf("got\n%x, want\n%s", got, want)
	}
	deep := map[string]any{}
	for range 100 {
		deep = map[string]any{"x": deep}
	}
	if n := len(abi.AppendStruct(nil, deep, 8, nil)); n > 100 {
		t.Errorf("a deep struct has %d bytes", n)
	}
}

// Reading never fails otherwise than by saying so, and what is written is read.
func FuzzProtoFields(f *testing.F) {
	f.Add([]byte("\x0a\x03abc\x10\x01"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		n := 0
		for field, ok := range abi.ProtoFields(string(b)) {
			if n++; n > len(b)+1 || ok && len(field.Bytes) > len(b) {
				panic("more fields than bytes")
			}
		}
		written := abi.AppendProtoBytes(abi.AppendProtoUint(nil, 3, uint64(len(b))), 4, string(b))
		var number uint64
		var text string
		for field, ok := range abi.ProtoFields(string(written)) {
			if !ok {
				panic("does not read what it writes")
			}
			if field.Number == 3 {
				number = field.Value
			} else {
				text = field.Bytes
			}
		}
		if number != uint64(len(b)) || !bytes.Equal([]byte(text), b) {
			panic("reads something else than it writes")
		}
	})
}
