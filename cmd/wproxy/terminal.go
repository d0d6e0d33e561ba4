package main

import (
	"io"
	"slices"
	"strconv"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// A terminal writes what commands tell people: text in which nothing but line breaks and
// tabs does anything to a terminal. What they tell has names in it, and messages, that
// come out of modules that nobody may have looked at yet. Those who put them there quote
// them; this is for what they have missed. It is safe for concurrent use.
type terminal struct {
	w io.Writer

	mu   sync.Mutex
	part []byte // guarded by mu; the beginning of a character, of the last Write
}

func newTerminal(w io.Writer) *terminal { return &terminal{w: w} }

// clear empties a screen (ECMA-48, CUP and ED): the one thing that the terminal is told.
func (t *terminal) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.w, "\x1b[H\x1b[2J") // nobody left to tell
}

// Write implements io.Writer. It escapes as in JSON, which stays JSON so.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.part) == 0 && isPrintable(string(p), "\n\t") {
		return t.w.Write(p)
	}
	rest := slices.Concat(t.part, p)
	out := make([]byte, 0, len(rest)+16)
	for len(rest) > 0 && utf8.FullRune(rest) {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, '\\', 'x')
			out = appendHex(out, uint32(rest[0]), 2)
		case strconv.IsPrint(r) || r == '\n' || r == '\t':
			out = utf8.AppendRune(out, r)
		default:
			for _, u := range utf16.AppendRune(nil, r) {
				out = appendHex(append(out, '\\', 'u'), uint32(u), 4)
			}
		}
		rest = rest[n:]
	}
	t.part = rest
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func appendHex(dst []byte, v uint32, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, "0123456789abcdef"[v>>(4*i)&15])
	}
	return dst
}
