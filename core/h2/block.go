package h2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
)

// A block is a field section as it was decoded. It belongs to the reader, and is
// used again for the next one; its strings stay valid.
type block struct {
	c      *conn
	fields []exchange.Field // pseudo-fields too, names as sent
	size   int              // as in DefaultMaxHead
	fault  fault            // what was too much; fields are not complete then
	self   bool             // the stream was said to depend on itself
}

// add is the hpack decoder's emit function.
func (b *block) add(f hpack.HeaderField) {
	b.size += int(f.Size())
	switch o := b.c.o; {
	case b.size > o.MaxHead:
		b.fault = fault{431, ReasonHeadTooLarge}
	case len(b.fields) >= o.MaxFields+maxPseudo:
		b.fault = fault{431, ReasonTooManyFields}
	default:
		b.fields = append(b.fields, exchange.Field{Name: f.Name, Value: f.Value})
		return
	}
	b.c.dec.SetEmitEnabled(false) // the rest keeps the table right, and costs little
}

// maxPseudo is how many pseudo-fields a section may have.
const maxPseudo = 4

// readHeaders reads a field block, which begins with f, and hands it on.
func (c *conn) readHeaders(f *http2.HeadersFrame) error {
	id, end := f.StreamID, f.StreamEnded()
	b := &c.block
	clear(b.fields)
	*b = block{c: c, fields: b.fields[:0], self: f.HasPriority() && f.Priority.StreamDep == id}
	c.dec.SetEmitEnabled(true)
	if err := c.decode(f.HeaderBlockFragment(), f.HeadersEnded()); err != nil {
		return err
	}
	c.mu.Lock()
	s := c.streams[id]
	c.mu.Unlock()
	err := c.side.head(id, s, b, end)
	if cap(b.fields) > 2*DefaultMaxFields {
		b.fields = nil
	}
	return err
}

// decode decodes a field block, the first part of which is p, and reads the rest.
// A block of many frames is collected first: the decoder would keep what a frame
// has of a string in a buffer that it never gives back.
func (c *conn) decode(p []byte, last bool) error {
	if !last {
		var whole pile
		defer whole.release()
		if err := c.collect(&whole, p); err != nil {
			return err
		}
		p = whole.bytes()
	}
	if len(p) > c.maxBlock() {
		return calm(ReasonHeadTooLarge)
	}
	if _, err := c.dec.Write(p); err != nil {
		return &connError{http2.ErrCodeCompression, ReasonCompression}
	}
	if err := c.dec.Close(); err != nil {
		return &connError{http2.ErrCodeCompression, ReasonCompression}
	}
	return nil
}

// letGoOfBlock makes the decoder forget the bytes of the last block: it holds on to
// where it has stopped in them until it gets others. These change nothing in it.
func (c *conn) letGoOfBlock() {
	c.dec.SetEmitEnabled(false)
	_, _ = c.dec.Write(harmless)
	_ = c.dec.Close()
}

// harmless is a field block: ":method: GET" of the static table.
var harmless = []byte{0x82}

// maxBlock is how many bytes of a field block are read.
func (c *conn) maxBlock() int {
	// What is compressed is never longer than what it stands for, but for a byte or
	// two per string: a block beyond this is too large whatever is in it.
	return 2 * c.o.MaxHead
}

// collect appends p, the first part of a field block, and the rest to whole.
func (c *conn) collect(whole *pile, p []byte) error {
	frames, empty := c.o.MaxHead/maxFrame+maxContinuation, 0
	for last := false; ; {
		if whole.n+len(p) > c.maxBlock() {
			return calm(ReasonHeadTooLarge)
		}
		if len(p) > 0 {
			_, _ = whole.Write(p) // never fails
		}
		if last {
			return nil
		}
		f, err := c.fr.ReadFrame()
		if err != nil {
			return c.frameError(err, http2.FrameHeader{Type: http2.FrameContinuation})
		}
		next, ok := f.(*http2.ContinuationFrame)
		if !ok {
			return protocol()
		}
		p, last = next.HeaderBlockFragment(), next.HeadersEnded()
		if frames--; len(p) == 0 && !last {
			empty++
		}
		if frames < 0 || empty > maxEmptyContinuation {
			return calm(ReasonContinuation)
		}
	}
}
