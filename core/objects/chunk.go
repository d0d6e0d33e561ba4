package objects

import (
	"math/bits"
	"sync"
)

// A chunk is a piece of memory of one of a few sizes; len is how much of it is used.
type chunk = []byte

// classes are powers of two, from minChunk to maxChunk.
const classes = 8

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
	if p, ok := chunkPools[class].Get().(*chunk); ok {
		return (*p)[:0]
	}
	return make(chunk, 0, classSize(class))
}

// freeChunk takes a chunk back that nobody reads any more.
func freeChunk(c chunk) {
	class := classOf(int64(cap(c)))
	if classSize(class) != cap(c) {
		return
	}
	c = c[:0]
	chunkPools[class].Put(&c)
}
