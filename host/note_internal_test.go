package host

import (
	"strings"
	"testing"
	"unsafe"
)

// TestNoteCache: what is noted again is the same string, and what is borrowed is not kept.
func TestNoteCache(t *testing.T) {
	var c noteCache
	path, value := []byte("log\x00cache"), []byte("hit")
	p1, v1 := c.own(borrow(path), value)
	copy(value, "bad")
	if p1 != "log\x00cache" || v1 != "hit" {
		t.Fatalf("got %q, %q", p1, v1)
	}
	_, v2 := c.own(p1, []byte("hit"))
	if unsafe.StringData(v1) != unsafe.StringData(v2) {
		t.Error("it was made again")
	}
	for i := range cachedNotes {
		c.own("log\x00n", []byte{byte('a' + i)})
	}
	if _, v3 := c.own(p1, []byte("hit")); v3 != "hit" || unsafe.StringData(v1) == unsafe.StringData(v3) {
		t.Error("it should have had to go")
	}
	long := []byte(strings.Repeat("x", cachedNoteBytes))
	_, v4 := c.own("p", long)
	_, v5 := c.own("p", long)
	if v4 != v5 || unsafe.StringData(v4) == unsafe.StringData(v5) {
		t.Error("what is long is kept")
	}
}
