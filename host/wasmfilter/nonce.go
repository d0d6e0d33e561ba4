package wasmfilter

import (
	"crypto/rand"
	"encoding/base64"
	"unsafe"

	"wproxy/abi"
)

// nonceBytes is the size of what is random of a nonce.
const nonceBytes = 16

const _ = uint(abi.NonceSize-(8*nonceBytes+5)/6) + uint((8*nonceBytes+5)/6-abi.NonceSize) // it is that long

// nonceLocked returns the nonce of the exchange, which is made when it is first asked for.
// Exchange.Mu is locked.
func (f *Filter) nonceLocked() string {
	if f.nonce == "" {
		var b [nonceBytes]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
		f.nonce = f.texts.take(base64.RawStdEncoding.AppendEncode(f.texts.room(abi.NonceSize), b[:]))
	}
	return f.nonce
}

// withNonceLocked returns a value with the nonce between its parts.
func (f *Filter) withNonceLocked(parts []string) string {
	if len(parts) == 2 && parts[0] == "" && parts[1] == "" {
		return f.nonceLocked()
	}
	nonce := f.nonceLocked()
	n := (len(parts) - 1) * len(nonce)
	for _, p := range parts {
		n += len(p)
	}
	b := f.texts.room(n)
	for i, p := range parts {
		if i > 0 {
			b = append(b, nonce...)
		}
		b = append(b, p...)
	}
	return f.texts.take(b)
}

// texts has room for short texts that are made for heads. What a head holds may be kept by anybody, for
// as long as he likes (in the table of an HPACK encoder, say), so no byte is written twice, and
// nothing is given back: the memory is the collector's when the last text in it is
// forgotten. What is saved is most of the allocations.
type texts struct {
	left []byte // its capacity is unused
}

// room returns room for n bytes, to be appended to and taken before room is asked for again.
func (t *texts) room(n int) []byte {
	if n > cap(t.left) {
		if n > maxSharedText {
			return make([]byte, 0, n)
		}
		t.left = make([]byte, 0, textsSize)
	}
	return t.left[:0:n]
}

// take returns what was appended to b, which room has returned.
func (t *texts) take(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	s := unsafe.String(unsafe.SliceData(b), len(b))
	if cap(t.left) > 0 && unsafe.SliceData(b) == unsafe.SliceData(t.left) {
		t.left = t.left[len(b):cap(t.left)][:0]
	}
	return s
}
