package trace

import (
	"encoding/hex"
	"math/rand/v2"
)

// An ID names a trace: all spans that one request has caused. Zero is none.
type ID [16]byte

// A SpanID names a span of a trace. Zero is none.
type SpanID [8]byte

// A Context is the place of a span: its trace, its id, and whether it is recorded.
type Context struct {
	Trace   ID
	Span    SpanID
	Sampled bool
}

// headerSize is the length of a traceparent of version 00.
const headerSize = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

// Parse parses a traceparent (W3C Trace Context 3.2.2). A version above 00 is read as
// far as 00 goes, as 3.2.4 has it. Several lines, joined, are none.
func Parse(s string) (c Context, ok bool) {
	if len(s) < headerSize || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, false
	}
	version, v := lowerHex(s[0]), lowerHex(s[1])
	f1, f2 := lowerHex(s[53]), lowerHex(s[54])
	if version < 0 || v < 0 || f1 < 0 || f2 < 0 || s[:2] == "ff" {
		return Context{}, false
	}
	if len(s) > headerSize && (s[:2] == "00" || s[headerSize] != '-') {
		return Context{}, false
	}
	if !decode(c.Trace[:], s[3:35]) || !decode(c.Span[:], s[36:52]) || c.Trace == (ID{}) || c.Span == (SpanID{}) {
		return Context{}, false
	}
	c.Sampled = f2&1 != 0
	return c, true
}

// decode fills dst from s, in lower-case hex, twice as long.
func decode(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := lowerHex(s[2*i]), lowerHex(s[2*i+1])
		if hi < 0 || lo < 0 {
			return false
		}
		dst[i] = byte(hi<<4 | lo)
	}
	return true
}

// lowerHex returns the value of a hex digit, or -1: upper case is not valid here.
func lowerHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// Header returns c as a traceparent of version 00. No flag but sampled is set: some
// readers of version 00 refuse what has others.
func (c Context) Header() string {
	var b [headerSize]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], c.Trace[:])
	b[35] = '-'
	hex.Encode(b[36:52], c.Span[:])
	copy(b[52:], "-00")
	if c.Sampled {
		b[54] = '1'
	}
	return string(b[:])
}

// newID and newSpanID make ids at random. They are not secret, but not to be
// guessed either: math/rand/v2's top-level functions are ChaCha8 with a random seed.
func newID() (id ID) {
	for id == (ID{}) {
		put(id[:8], rand.Uint64())
		put(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id SpanID) {
	for id == (SpanID{}) {
		put(id[:], rand.Uint64())
	}
	return id
}

func put(b []byte, v uint64) {
	for i := range b {
		b[i], v = byte(v), v>>8
	}
}
