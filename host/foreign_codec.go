package host

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"math/bits"
	"slices"
	"sync"
	"time"

	"wproxy/abi"
)

// What a compressor needs is a megabyte; calls are short and share them.
var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(io.Discard) }}

// foreignCompress is compress: bytes to zlib (RFC 1950).
func foreignCompress(v *vm, args string) ([]byte, abi.Status) {
	v.charge(codecUnits)
	out, err := compress(args, func(n int, do func()) {
		v.measured(int64(n)*compressUnits, codecPieceUnits, do)
	})
	if err != nil {
		return nil, abi.StatusInternalFailure // a bytes.Buffer does not fail
	}
	return out, abi.StatusOK
}

// compress does its work in pieces; piece has to call do, which is about n bytes.
func compress(text string, piece func(n int, do func())) ([]byte, error) {
	w, _ := deflaters.Get().(*zlib.Writer) // New makes nothing else
	defer deflaters.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	var err error
	rest := text
	for done := false; !done && err == nil; {
		p := rest[:min(len(rest), codecPiece)]
		rest = rest[len(p):]
		done = rest == ""
		piece(len(p), func() {
			if _, err = io.WriteString(w, p); err == nil && done {
				err = w.Close()
			}
		})
	}
	if err != nil {
		return nil, err
	}
	if n := len(text); n > 0 && n < oneBlock {
		return endInBlock(out.Bytes()), nil
	}
	return out.Bytes(), nil
}

// oneBlock bytes make as many symbols at most, and of fewer than these package
// compress/flate makes one block.
const oneBlock = 1 << 14

// endInBlock makes the one block of b, a zlib stream, the last one. Go's deflate always ends in a
// block of its own without data (RFC 1951 3.2.4): short texts, as plugins compress, are
// a fifth shorter without, and what other hosts make of them.
func endInBlock(b []byte) []byte {
	const head, sum = 2, 4 // bytes before and behind the blocks (RFC 1950 2.2)
	adler := b[len(b)-sum:]
	end := len(b) - sum - len("\x00\x00\xff\xff") // LEN and NLEN of the empty block
	for b[end-1] == 0 {
		end--
	}
	bit := byte(1) << (bits.Len8(b[end-1]) - 1) // the empty block begins here: BFINAL, and zeros
	b[end-1] &^= bit
	if bit == 1 {
		end--
	}
	b[head] |= 1 // BFINAL
	return append(b[:end], adler...)
}

// foreignUncompress is uncompress: zlib to bytes. What is no zlib, or grows beyond
// maxUncompressed, is answered with SerializationFailure, as in the reference host.
func foreignUncompress(v *vm, args string) ([]byte, abi.Status) {
	v.charge(codecUnits)
	out, err := v.uncompress(args, maxUncompressed)
	if errors.Is(err, errUncompressed) {
		v.warn("uncompress was given something that is too large uncompressed")
	}
	if err != nil {
		return nil, abi.StatusSerializationFailure
	}
	return out, abi.StatusOK
}

var errUncompressed = errors.New("too large uncompressed")

// uncompress returns at most most bytes. The work is charged for in between: of an argument of
// the same length it may be a thousand times as much.
func (v *vm) uncompress(args string, most int) ([]byte, error) {
	in := &codecInput{v: v, rest: args, began: v.p.h.elapsed()}
	r, err := zlib.NewReader(in)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out []byte
	for {
		if len(out) == cap(out) {
			out = slices.Grow(out, max(codecPiece, len(out)))
		}
		n, err := r.Read(out[len(out):min(cap(out), len(out)+codecPiece)])
		out = out[:len(out)+n]
		in.charge(int64(n) * uncompressUnits)
		switch {
		case len(out) > most:
			return nil, errUncompressed
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, err
		}
	}
}

// A codecInput is what is uncompressed, in pieces. There may be much of it that nothing
// comes of.
type codecInput struct {
	v     *vm
	rest  string
	began time.Duration // the work that has not been charged for
}

// charge charges the work since the last charge, least units at least.
func (c *codecInput) charge(least int64) {
	c.v.charge(least)
	c.v.chargeSince(c.began, least, codecPieceUnits)
	c.began = c.v.p.h.elapsed()
}

// Read implements io.Reader.
func (c *codecInput) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), inflatePiece)], c.rest)
	c.rest = c.rest[n:]
	c.charge(int64(n) * inflateUnits)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
