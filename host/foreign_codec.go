package host

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"math/bits"
	"strings"
	"sync"

	"wproxy/abi"
)

// What a compressor needs is a megabyte; calls are short and share them.
var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(io.Discard) }}

// foreignCompress is compress: bytes to zlib (RFC 1950).
func foreignCompress(v *vm, args string) ([]byte, abi.Status) {
	v.charge(int64(len(args)) * compressUnits)
	out, err := compress(args)
	if err != nil {
		return nil, abi.StatusInternalFailure // a bytes.Buffer does not fail
	}
	return out, abi.StatusOK
}

func compress(text string) ([]byte, error) {
	w, _ := deflaters.Get().(*zlib.Writer) // New makes nothing else
	defer deflaters.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := io.WriteString(w, text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
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
	out, err := uncompress(args, maxUncompressed)
	if errors.Is(err, errUncompressed) {
		v.warn("uncompress was given something that is too large uncompressed")
	}
	v.charge(int64(len(out)) * uncompressUnits)
	if err != nil {
		return nil, abi.StatusSerializationFailure
	}
	return out, abi.StatusOK
}

var errUncompressed = errors.New("too large uncompressed")

// uncompress returns what it has made, also with an error.
func uncompress(args string, most int64) ([]byte, error) {
	r, err := zlib.NewReader(strings.NewReader(args))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(out)) > most {
		err = errUncompressed
	}
	return out, err
}
