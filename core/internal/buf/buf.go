// Package buf lends byte buffers of a few sizes, so that connections hold memory
// only while bytes are on their way.
//
// The one rule of use: who calls [Get] calls [Buf.Release] once and does not
// touch the bytes afterwards, nor lets anybody else. With -tags invariants a
// released buffer is overwritten, a second Release panics, and [Live] counts
// what is lent, so that tests find leaks.
package buf

import (
	"math/bits"
	"sync"
)

const (
	// minShift is the logarithm of the smallest size, 4 KiB: one page, and most heads.
	minShift = 12
	// maxShift is the logarithm of the largest pooled size, 128 KiB. Larger
	// buffers are rare (heads beyond the default limit) and left to the garbage
	// collector, so that one of them does not stay resident.
	maxShift = 17
)

// pools has one pool for each power of two from minShift to maxShift.
var pools [maxShift - minShift + 1]sync.Pool

// A Buf is a lent buffer.
type Buf struct {
	b     []byte
	class int8 // index into pools; -1: none
	lent  lease
}

// Get lends a buffer of at least n bytes. Their values are not defined.
func Get(n int) *Buf {
	class := 0
	if n > 1<<minShift {
		class = bits.Len(uint(n-1)) - minShift
	}
	if class >= len(pools) {
		b := &Buf{b: make([]byte, n), class: -1}
		b.lent.begin()
		return b
	}
	b, _ := pools[class].Get().(*Buf)
	if b == nil {
		b = &Buf{b: make([]byte, 1<<(class+minShift)), class: int8(class)}
	}
	b.lent.begin()
	return b
}

// Bytes returns the whole buffer. Its length is its capacity and at least what
// Get was asked for.
func (b *Buf) Bytes() []byte { return b.b }

// Release gives the buffer back. b and its bytes must not be used afterwards.
func (b *Buf) Release() {
	b = b.lent.end(b)
	if b.class >= 0 {
		pools[b.class].Put(b)
	}
}
