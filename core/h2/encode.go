package h2

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
)

// errBadField is the error of fields that must not go out.
var errBadField = errors.New("a field name or value that cannot be written")

// ownField reports whether only the codec writes the field called name: framing
// comes from Length, hosts from the pseudo-fields, and the rest is hop by hop.
func ownField(name string) bool {
	switch name {
	case "content-length", "host", "te", "http2-settings":
		return true
	}
	return specific(name)
}

// writable reports whether all fields can go out. Whoever edits Fields has to refuse
// such values; this is the net under them.
func writable(f *exchange.Fields) bool {
	for _, x := range f.List() {
		if !isName(x.Name) || !isText(x.Value) {
			return false
		}
	}
	return true
}

// encode appends a field to the block that is being made, which writeBlock ends.
// c.mu is held.
func (c *conn) encode(name, value string) {
	_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: secret(name)}) // scratch never fails
}

// encodeInt is encode for a number.
func (c *conn) encodeInt(name string, n int64) { c.encode(name, strconv.FormatInt(n, 10)) }

// encodeFields is encode for all fields that are not the codec's own business. White
// space around values is none of theirs (RFC 9110 5.5).
func (c *conn) encodeFields(f *exchange.Fields) {
	for _, x := range f.List() {
		if !ownField(x.Name) {
			c.encode(x.Name, strings.Trim(x.Value, " \t"))
		}
	}
}

// encodeTrailer is encode for a trailer section. It reports whether there was
// anything.
func (c *conn) encodeTrailer(f *exchange.Fields) bool {
	for _, x := range f.List() {
		if !notInTrailer(x.Name) {
			c.encode(x.Name, strings.Trim(x.Value, " \t"))
		}
	}
	return c.scratch.n > 0
}

// secret reports whether nobody may put a field into a table (RFC 7541 7.1.3).
func secret(name string) bool {
	switch name {
	case "authorization", "cookie", "set-cookie", "proxy-authorization":
		return true
	}
	return false
}

// writeBlock appends the block that was made as HEADERS and CONTINUATION. c.mu is
// held.
func (c *conn) writeBlock(id uint32, end bool) {
	p := c.scratch.bytes()
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for t := http2.FrameHeaders; ; t, flags = http2.FrameContinuation, 0 {
		n := min(len(p), maxFrame) // never more than the peer's maximum, which is at least this
		if n == len(p) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.frame(t, flags, id, p[:n])
		if p = p[n:]; len(p) == 0 {
			break
		}
	}
	c.scratch.release()
}
