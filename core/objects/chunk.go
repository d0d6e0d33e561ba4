package objects

import (
	"math/bits"
	"sync"
	"unsafe"
)

// A chunk is a piece of memory of one of a few sizes; len is how much of it is used.
type chunk = []byte

// classes are powers of two, from minChunk to maxChunk.
const classes = 8

// chunkPools has the first bytes of chunks, by class: a slice would be allocated with each that is put there.
var chunkPools [classes]sync.Pool

// classOf returns the smallest class that n bytes fit into, the largest for more.
func classOf(n int64) int {
	if n <= minChunk {
		return 0
	}
	return min(bits.Len64(uint64(n-1)/minChunk), classes-1)
}

func classSize(class int) int { return minChunk << class }

// newChunk returns an empty chunk of a class.
func newChunk(class int) chunk {
	if p, ok := chunkPools[class].Get().(*byte); ok {
		return unsafe.Slice(p, classSize(class))[:0]
	}
	return make(chunk, 0, classSize(class))
}

// freeChunk takes a chunk back that nobody reads any more.
func freeChunk(c chunk) {
	class := classOf(int64(cap(c)))
	if classSize(class) != cap(c) {
		return
	}
	chunkPools[class].Put(unsafe.SliceData(c))
}

// appendChunks copies p into new chunks, each as small as it may be.
func appendChunks(list []chunk, p []byte) []chunk {
	for len(p) > 0 {
		c := newChunk(classOf(int64(len(p))))
		n := min(len(p), cap(c))
		list, p = append(list, append(c, p[:n]...)), p[n:]
	}
	return list
}

// chunkBytes is the memory of the chunks that appendChunks makes for n bytes.
func chunkBytes(n int64) int64 {
	rest := n % maxChunk
	if rest == 0 {
		return n
	}
	return n - rest + int64(classSize(classOf(rest)))
}
