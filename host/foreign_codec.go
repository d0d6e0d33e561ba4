package host

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"sync"

	"wproxy/abi"
)

// What a compressor needs is a megabyte; calls are short and share them.
var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(io.Discard) }}

// foreignCompress is compress: bytes to zlib (RFC 1950).
func foreignCompress(v *vm, args string) ([]byte, abi.Status) {
	v.charge(int64(len(args)) * compressUnits)
	w, _ := deflaters.Get().(*zlib.Writer) // New makes nothing else
	defer deflaters.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := io.WriteString(w, args); err != nil {
		return nil, abi.StatusInternalFailure // a bytes.Buffer does not fail
	}
	if err := w.Close(); err != nil {
		return nil, abi.StatusInternalFailure
	}
	return out.Bytes(), abi.StatusOK
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
