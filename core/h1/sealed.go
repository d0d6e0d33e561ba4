package h1

import (
	"errors"
	"io"
	"sync"

	"wproxy/core/internal/buf"
	"wproxy/core/internal/tlsconn"
)

// A sealed is what a conn with TLS has beside its own. What moves is then records: the
// conn reads them into tlsconn.Records, and tls.Conn hands it those that it has made.
// Time is kept in both directions as without TLS, on the socket. It matters more here: a
// tls.Conn of which one write has timed out, however short its deadline was by
// mistake, is broken for ever.
type sealed struct {
	// Immutable.
	c   *conn
	tls *tlsconn.Conn

	// Owned by the reader.
	more bool // tls.Conn may have bytes that it has decrypted

	mu sync.Mutex
	// Guarded by mu. Records are made by the writer and, when the other end asks for
	// new keys, by the reader; conn.wr is guarded by mu too.
	limit  limit
	corked bool     // records wait in out for the rest of what is being written
	room   int      // bytes of the buffer that they wait in
	out    *buf.Buf // nil: none
	n      int      // out.Bytes()[:n] waits
	op     writeOp
	sent   int64
	err    error // sticky: a record may have been cut
}

// seal makes c read and write through t.
func (c *conn) seal(t *tlsconn.Conn) {
	s := &sealed{c: c, tls: t, limit: limit{timeout: DefaultWriteTimeout}}
	s.op = writeOp{c: c, wrote: &s.sent}
	s.op.tries = s.op.rawWrite
	c.tls = s
	t.Drive(c.raw != nil, s.write)
}

// write is called with records, by whoever has made them.
func (s *sealed) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if !s.corked {
		return len(p), s.sendLocked(p)
	}
	if s.out != nil && s.n+len(p) > len(s.out.Bytes()) {
		if err := s.uncorkLocked(); err != nil {
			return 0, err
		}
	}
	if s.out == nil {
		s.out = buf.Get(max(len(p), s.room))
	}
	s.n += copy(s.out.Bytes()[s.n:], p)
	return len(p), nil
}

// uncorkLocked sends the records that wait.
func (s *sealed) uncorkLocked() error {
	if s.out == nil {
		return nil
	}
	err := s.sendLocked(s.out.Bytes()[:s.n])
	s.out.Release()
	s.out, s.n = nil, 0
	return err
}

// sendLocked sends records. After an error nothing is sent any more.
func (s *sealed) sendLocked(p []byte) error {
	c := s.c
	if s.err != nil {
		return s.err
	}
	s.op.limit = s.limit
	if c.raw != nil {
		s.op.v[0] = p
		s.err = c.rawFlush(&s.op)
		s.op.v = [3][]byte{} // hold on to nobody's bytes
		return s.err
	}
	s.err = c.writeTo(s.tls.NetConn(), p, s.limit, &s.sent)
	return s.err
}

// flush is conn.write: all of op.v in as few records as there can be, and as few
// system calls.
func (s *sealed) flush(op *writeOp) error {
	p, joined := join(&op.v)
	s.mu.Lock()
	s.limit = op.limit
	// One that fits into the first and smallest record that crypto/tls makes is
	// sent as it is.
	s.corked = len(p) > oneRecord
	s.room = min(len(p)+(len(p)/oneRecord+1)*recordOverhead, sealedBuffer)
	s.mu.Unlock()
	_, err := s.tls.Write(p)
	s.mu.Lock()
	s.corked = false
	if failed := s.uncorkLocked(); err == nil {
		err = failed
	}
	s.limit = limit{timeout: DefaultWriteTimeout} // of what the reader has to answer between exchanges
	s.mu.Unlock()
	if joined != nil {
		joined.Release()
	}
	op.v = [3][]byte{}
	if err == nil {
		s.c.wrote += int64(len(p))
	} else {
		s.c.wrote++ // something may have gone out
	}
	return err
}

// join returns the parts in one piece, which is in a buffer of its own if there are several.
func join(v *[3][]byte) ([]byte, *buf.Buf) {
	total, parts, only := 0, 0, 0
	for i, p := range v {
		if len(p) > 0 {
			total, parts, only = total+len(p), parts+1, i
		}
	}
	if parts <= 1 {
		return v[only], nil
	}
	b := buf.Get(total)
	n := 0
	for _, p := range v {
		n += copy(b.Bytes()[n:], p)
	}
	return b.Bytes()[:n], b
}

// open decrypts into the conn's buffer. False: there is nothing to decrypt.
func (s *sealed) open() (bool, error) {
	c := s.c
	if c.in == nil {
		c.in = buf.Get(c.size)
	}
	p := c.in.Bytes()[c.w:]
	n, err := s.tls.Read(p)
	s.more = n == len(p)
	s.tls.Records().Release()
	switch {
	case n > 0:
		c.w += n
		return true, nil
	case errors.Is(err, tlsconn.ErrWait):
		return false, nil
	case errors.Is(err, io.EOF) && s.tls.Records().Failed() != nil:
		// The connection ended and nobody has said that the data does (RFC 8446 6.1):
		// somebody on the way may have cut it.
		return false, io.ErrUnexpectedEOF
	}
	return false, err
}

// drop gives back what the connection will not need any more.
func (s *sealed) drop() {
	s.tls.Drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = errSealedOver
	}
	if s.out != nil {
		s.out.Release()
		s.out, s.n = nil, 0
	}
}

var errSealedOver = errors.New("the connection is over")

// setLimit says how long what is written next may take.
func (s *sealed) setLimit(l limit) {
	s.mu.Lock()
	s.limit = l
	s.mu.Unlock()
}

// rest lets go of what is not needed while c rests; false: it may not, a part of a record is here.
func (s *sealed) rest() bool {
	records := s.tls.Records()
	if s.more || records.Held() > 0 || !records.Between() {
		return false
	}
	s.tls.Trim()
	return true
}

// pending reports whether more than an alert has come that was not consumed: the
// beginning of another request.
func (c *conn) pending() bool {
	return len(c.buffered()) > 0 || c.tls != nil && (c.tls.more || c.tls.tls.Records().Held() > tlsconn.MaxAlert)
}

// ended reports whether nothing but an alert follows what was read, given that
// a FIN has come. It may be called from any goroutine.
func (c *conn) ended() bool {
	if c.tls == nil {
		return c.peek() == peekEnd
	}
	n, known := c.unread()
	return !known || int(n)+c.tls.tls.Records().Held() <= tlsconn.MaxAlert
}

// toCome returns bounds of how many bytes of a message the socket still holds, given
// that a FIN has come; see unread. Under TLS some of them are not content, and how
// many, only decrypting them tells.
func (c *conn) toCome() (least, most int64, known bool) {
	n, known := c.unread()
	if c.tls == nil {
		return n, n, known
	}
	n += int64(c.tls.tls.Records().Held())
	return 0, max(n-tlsconn.MinOverhead, 0), known
}
