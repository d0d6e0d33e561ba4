//go:build !race

package abi_test

import (
	"testing"

	"wproxy/abi"
)

func TestPairsAllocations(t *testing.T) {
	pairs := []abi.Pair{{"a", "1"}, {"b", "22"}}
	s := string(abi.AppendPairs(nil, pairs))
	buf, dst := make([]byte, 0, 64), make([]abi.Pair, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		buf = abi.AppendPairs(buf[:0], pairs)
		dst, _ = abi.ParsePairs(dst[:0], s)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
