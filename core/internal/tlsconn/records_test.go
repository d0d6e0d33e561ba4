package tlsconn_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"wproxy/core/internal/tlsconn"
)

// record makes a record of n bytes of content.
func record(n int, fill byte) []byte {
	return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{fill}, n)...)
}

// take takes all that can be taken, in pieces of at most n bytes.
func take(t *testing.T, r *tlsconn.Records, n int) (out []byte, ends []int) {
	t.Helper()
	for {
		p := make([]byte, n)
		m, err := r.Read(p)
		out = append(out, p[:m]...)
		if m > 0 && r.Between() {
			ends = append(ends, len(out))
		}
		if err != nil {
			if !errors.Is(err, tlsconn.ErrWait) && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return out, ends
		}
	}
}

// TestRecords: nothing of a record is given away before the one in front of it has ended,
// however the bytes come.
func TestRecords(t *testing.T) {
	in := bytes.Join([][]byte{record(10, 'a'), record(0, 0), record(5000, 'b'), record(1, 'c')}, nil)
	for _, piece := range []int{1, 3, 5, 15, 16, 100, len(in)} {
		var r tlsconn.Records
		var got []byte
		for rest := in; len(rest) > 0; {
			if r.Whole() {
				out, _ := take(t, &r, 4096)
				got = append(got, out...)
				continue
			}
			n := copy(r.Room(4096), rest[:min(piece, len(rest))])
			r.Filled(n)
			rest = rest[n:]
		}
		out, _ := take(t, &r, 4096)
		if got = append(got, out...); !bytes.Equal(got, in) {
			t.Errorf("in pieces of %d: got %d bytes of %d", piece, len(got), len(in))
		}
		if !r.Between() || r.Held() != 0 {
			t.Errorf("in pieces of %d: it does not end between two records", piece)
		}
		r.Release()
	}
}

// TestRecordsEnd: what came before the end is told before it.
func TestRecordsEnd(t *testing.T) {
	var r tlsconn.Records
	in := append(record(3, 'a'), 23, 3) // and a header that is cut
	r.Filled(copy(r.Room(4096), in))
	r.Fail(io.EOF)
	if !r.Whole() {
		t.Error("there is nothing to wait for")
	}
	p := make([]byte, 100)
	if n, err := r.Read(p); n != 8 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := r.Read(p); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v", n, err)
	}
	r.Drop()
}

// FuzzRecords: whatever comes, in whatever pieces, the bytes come out as they went in, and
// no Read crosses the end of a record.
func FuzzRecords(f *testing.F) {
	f.Add(append(record(10, 'a'), record(3, 'b')...), uint16(7), uint16(512))
	f.Add(record(5000, 'a'), uint16(4096), uint16(4096))
	f.Add([]byte{22, 3, 1, 0xff, 0xff, 1, 2, 3}, uint16(2), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, piece, ask uint16) {
		var r tlsconn.Records
		defer r.Drop()
		var got []byte
		left := 0 // of the record, followed independently
		p := make([]byte, max(int(ask), 1))
		read := func() {
			for {
				n, err := r.Read(p)
				if err != nil {
					return
				}
				if n == 0 {
					t.Fatal("no byte and no error")
				}
				got = append(got, p[:n]...)
				if left == 0 {
					start := len(got) - n
					left = 5 + int(in[start+3])<<8 + int(in[start+4])
				}
				if left -= n; left < 0 {
					t.Fatalf("a read crosses the end of a record by %d bytes", -left)
				}
				if r.Between() != (left == 0) {
					t.Fatalf("between records: %v with %d bytes left", r.Between(), left)
				}
			}
		}
		for rest := in; len(rest) > 0; {
			if r.Whole() {
				before := len(got)
				if read(); len(got) == before {
					t.Fatal("whole, and nothing to take")
				}
				continue
			}
			n := copy(r.Room(4096), rest[:min(max(int(piece), 1), len(rest))])
			r.Filled(n)
			rest = rest[n:]
		}
		read()
		if !bytes.Equal(got, in[:len(got)]) || len(in)-len(got) != r.Held() || r.Held() >= 5 {
			t.Fatalf("got %d bytes of %d, %d are held", len(got), len(in), r.Held())
		}
	})
}
