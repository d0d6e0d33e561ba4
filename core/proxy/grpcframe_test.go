package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

func testReader(most int) (*grpcReader, *int) {
	held := new(int)
	return &grpcReader{
		most: most,
		hold: func(n int) bool { *held += n; return true },
		free: func(n int) { *held -= n },
	}, held
}

// Messages come out as they went in, however the body is cut; what is held is let go.
func TestGRPCReader(t *testing.T) {
	t.Parallel()
	want := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), 300), []byte("y"), {}}
	var body []byte
	for _, m := range want {
		body = appendGRPCMessage(body, m)
	}
	for size := 1; size <= len(body); size++ {
		r, held := testReader(300)
		var got [][]byte
		for p := range slices.Chunk(body, size) {
			if err := r.push(p, func(m []byte) error { got = append(got, bytes.Clone(m)); return nil }); err != nil {
				t.Fatalf("pieces of %d: %v", size, err)
			}
		}
		if len(got) != len(want) || !r.whole() || *held != 0 {
			t.Fatalf("pieces of %d: %d messages, whole %v, %d held", size, len(got), r.whole(), *held)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("pieces of %d: message %d is %q", size, i, got[i])
			}
		}
	}
}

// What cannot be read ends with a status, and what is announced takes no memory.
func TestGRPCReaderRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		body string
		code int
		full bool
	}{
		{"giant length", "\x00\xff\xff\xff\xff", grpcResourceExhausted, false},
		{"a byte too large", "\x00\x00\x00\x01\x01", grpcResourceExhausted, false},
		{"compressed", "\x01\x00\x00\x00\x00", grpcInternal, false},
		{"unknown flag", "\x80\x00\x00\x00\x00", grpcInternal, false},
		{"no room", "\x00\x00\x00\x01\x00x", grpcResourceExhausted, true},
	} {
		r, _ := testReader(256)
		if tt.full {
			r.hold = func(int) bool { return false }
		}
		err := r.push([]byte(tt.body), func([]byte) error { t.Errorf("%s: there is a message", tt.name); return nil })
		if e, ok := errors.AsType[*grpcError](err); !ok || e.code != tt.code || cap(r.part) > 0 {
			t.Errorf("%s: %v, %d bytes of room", tt.name, err, cap(r.part))
		}
	}
	r, _ := testReader(1 << 30)
	if err := r.push([]byte("\x00\x3f\xff\xff\xffabc"), func([]byte) error { return nil }); err != nil || cap(r.part) > 1024 || r.whole() {
		t.Errorf("announced: %v, %d bytes of room, whole %v", err, cap(r.part), r.whole())
	}
}

// FuzzGRPCReader: whatever comes, and however it is cut, is read as the whole of it is, and
// never more is held than has come.
func FuzzGRPCReader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03one\x00\x00\x00\x00\x00"), 1)
	f.Add([]byte("\x00\xff\xff\xff\xff"), 3)
	f.Add([]byte("\x00\x00\x00\x01\x00abc"), 2)
	f.Add([]byte("\x01\x00\x00\x00\x00"), 5)
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		const most = 64
		read := func(size int) (messages [][]byte, code int) {
			r, held := testReader(most)
			came := 0
			for p := range slices.Chunk(body, size) {
				came += len(p)
				err := r.push(p, func(m []byte) error {
					if len(m) > most {
						t.Fatalf("a message of %d bytes", len(m))
					}
					messages = append(messages, bytes.Clone(m))
					return nil
				})
				if *held > came || *held < 0 || cap(r.part) > 2*came+64 {
					t.Fatalf("%d bytes have come, %d are held, in %d", came, *held, cap(r.part))
				}
				if e, ok := errors.AsType[*grpcError](err); ok {
					return messages, e.code
				}
			}
			r.drop()
			if *held != 0 {
				t.Fatalf("%d bytes are held at the end", *held)
			}
			return messages, 0
		}
		whole, code := read(max(len(body), 1))
		cut, code2 := read(min(max(size, 1), max(len(body), 1)))
		if code != code2 || !slices.EqualFunc(whole, cut, bytes.Equal) {
			t.Fatalf("whole: %q, status %d; cut: %q, status %d", whole, code, cut, code2)
		}
		// And as a reader has it that looks at all at once.
		rest, n := body, 0
		for len(rest) >= grpcPrefix && rest[0] == 0 {
			size := binary.BigEndian.Uint32(rest[1:])
			if size > most || uint64(len(rest)-grpcPrefix) < uint64(size) {
				break
			}
			if n == len(whole) || !bytes.Equal(whole[n], rest[grpcPrefix:grpcPrefix+size]) {
				t.Fatalf("message %d is missing, or another", n)
			}
			rest, n = rest[grpcPrefix+size:], n+1
		}
		if n != len(whole) {
			t.Fatalf("%d messages, want %d", len(whole), n)
		}
	})
}
