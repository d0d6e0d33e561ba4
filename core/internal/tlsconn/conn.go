// Package tlsconn puts a tls.Conn on a socket so that a codec can move the bytes of the
// socket itself: wait without holding buffers, keep time, and write records together.
//
// The nouns: a [Conn] is one side of a TLS connection; [Records] are the bytes that came
// and have not been decrypted. The one rule of use: after Drive, whoever drives fills
// Records before it calls Read. Without Drive a Conn is a net.Conn like any other.
//
// tlsconn does not know what is spoken, nor whose certificates these are.
package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readAhead is the size in bytes of the buffer that the socket is read into when
	// nobody drives: most records of a client fit.
	readAhead = 4 << 10

	// closeTime bounds sending the last alert of a connection that nobody drives.
	closeTime = 5 * time.Second

	// answerTime bounds what Read has to send when nobody drives.
	answerTime = 5 * time.Second

	recordAlert = 21 // ContentType alert (RFC 8446 5.1)
)

// A Conn is a TLS connection. It is a net.Conn; Read may be called by one goroutine at
// a time, and so may Write.
type Conn struct {
	tls    *tls.Conn
	socket Socket
}

var _ net.Conn = (*Conn)(nil)

// Server makes the server's side on nc.
func Server(nc net.Conn, c *tls.Config) *Conn {
	x := &Conn{socket: Socket{Conn: nc}}
	x.tls = tls.Server(&x.socket, c)
	return x
}

// Client makes the client's side on nc.
func Client(nc net.Conn, c *tls.Config) *Conn {
	x := &Conn{socket: Socket{Conn: nc}}
	x.tls = tls.Client(&x.socket, c)
	return x
}

// Handshake does the handshake. ctx ends it.
func (c *Conn) Handshake(ctx context.Context) error { return c.tls.HandshakeContext(ctx) }

// State returns the facts about the connection.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

// NetConn returns the socket. Only deadlines and options may be set there.
func (c *Conn) NetConn() net.Conn { return c.socket.Conn }

// Socket returns what tls.Conn sees of it; tls.ClientHelloInfo.Conn is the same.
func (c *Conn) Socket() *Socket { return &c.socket }

// Records returns what has come from the socket.
func (c *Conn) Records() *Records { return &c.socket.records }

// Drive hands the socket over. write is called for each record, or several, by one
// goroutine at a time: that of Write and CloseWrite, or that of Read, which may have to
// answer. If reads is set, Read returns ErrWait unless Records have what it needs.
func (c *Conn) Drive(reads bool, write func(p []byte) (int, error)) {
	c.socket.driven, c.socket.write = reads, write
}

// Wait returns when there may be something to Read, and needs neither a buffer nor a deep stack
// until then: for who waits long, and does not drive. It must not be called while tls.Conn has
// bytes that it has decrypted: when Read has returned as many as it was asked for. The error
// is that of the read deadline, or of a connection that was closed; Read tells all others.
func (c *Conn) Wait() error { return c.socket.wait() }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.tls.Read(p) }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.socket.writing.Store(true)
	defer c.socket.writing.Store(false)
	return c.tls.Write(p)
}

// Close tells the other end (close_notify) if that can be done without waiting, and closes.
func (c *Conn) Close() error {
	c.socket.closing.Store(true)
	if c.socket.sending.Load() {
		// tls.Conn.Close would wait for it: it knows of Write, and not of Read, which answers
		// one who asks for new keys, as long as that one likes.
		return c.socket.Close()
	}
	return c.tls.Close()
}

// Abort closes without telling: what was sent is not complete, and the other end must
// see that. With a TCP socket it sees a reset.
func (c *Conn) Abort() {
	if tc, ok := c.socket.Conn.(interface{ SetLinger(int) error }); ok {
		_ = tc.SetLinger(0) // it is being closed; nothing is lost if this fails
	}
	_ = c.socket.Close() // nobody is left to tell
}

// CloseWrite ends this direction: with close_notify, and a FIN behind it.
func (c *Conn) CloseWrite() error {
	if c.socket.write == nil {
		_ = c.SetWriteDeadline(time.Now().Add(closeTime)) // fails on closed connections only, and then so does what follows
	}
	if err := c.tls.CloseWrite(); err != nil {
		return err
	}
	if cw, ok := c.socket.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// Drop gives back what was read and will never be used. Nobody reads any more.
func (c *Conn) Drop() { c.socket.records.Drop() }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline implements net.Conn. A Write that times out is the last.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.socket.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.socket.until(t) }

// A Socket stands between a tls.Conn and its socket.
type Socket struct {
	net.Conn

	// Owner is for who does the handshake: its callbacks find it in
	// tls.ClientHelloInfo.Conn. Wrote, if set, is called before each write, and Signs
	// by BeforeSigning.
	Owner any
	Wrote func()
	Signs func(ctx context.Context) error

	records Records
	driven  bool
	write   func(p []byte) (int, error) // nil: to the socket
	closing atomic.Bool
	sending atomic.Bool // a write that may wait has begun; set before closing is looked at
	waiter  waiter
	alert   uint8 // the last alert that was sent in the clear

	writing  atomic.Bool // Conn.Write has been called and not returned
	mu       sync.Mutex
	deadline time.Time // for writing, as it was set; guarded by mu
}

// Alert returns the last alert that was sent in the clear; 0: none.
func (s *Socket) Alert() uint8 { return s.alert }

// BeforeSigning is for certs.Signer.
func (s *Socket) BeforeSigning(ctx context.Context) error {
	if s.Signs == nil {
		return nil
	}
	return s.Signs(ctx)
}

// Read implements net.Conn, for tls.Conn.
func (s *Socket) Read(p []byte) (int, error) {
	for {
		n, err := s.records.Read(p)
		if err != ErrWait || s.driven || len(p) == 0 { //nolint:errorlint // it is ours, and never wrapped
			if n > 0 && !s.driven {
				s.records.Release()
			}
			return n, err
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// fillFrom reads from the socket with a buffer in hand, where there is no other way.
func (s *Socket) fillFrom() error {
	n, err := s.Conn.Read(s.records.Room(readAhead))
	s.records.Filled(n)
	s.records.Release()
	if n > 0 {
		return nil
	}
	return err
}

// Write implements net.Conn, for tls.Conn.
func (s *Socket) Write(p []byte) (int, error) {
	if len(p) == header+2 && p[0] == recordAlert {
		s.alert = p[header+1]
	}
	if s.Wrote != nil {
		s.Wrote()
	}
	s.sending.Store(true) // by one at a time: tls.Conn has a lock
	defer s.sending.Store(false)
	if s.closing.Load() {
		return s.tryWrite(p)
	}
	if s.write != nil {
		return s.write(p)
	}
	if !s.writing.Load() {
		s.forReader()
	}
	return s.Conn.Write(p)
}

// until sets the deadline for writing.
func (s *Socket) until(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return s.Conn.SetWriteDeadline(t)
}

// forReader is called when it is Read that writes, because the other end has asked for
// new keys. The deadline may be that of what was written last, and a tls.Conn of which a
// write has failed is broken for ever.
func (s *Socket) forReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !s.deadline.IsZero() && !now.Before(s.deadline) {
		s.deadline = now.Add(answerTime)
		_ = s.Conn.SetWriteDeadline(s.deadline) // fails on closed connections only, and then so does the write
	}
}

// SetWriteDeadline does nothing: it is called by tls.Conn when it sends its last alert,
// for which we have other rules. Those who write set deadlines on the socket.
func (*Socket) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline does nothing; see SetWriteDeadline.
func (*Socket) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing; see SetWriteDeadline.
func (*Socket) SetReadDeadline(time.Time) error { return nil }

// lastWrite bounds the last write where the socket cannot be asked whether it has room.
const lastWrite = 50 * time.Millisecond

// writeSoon writes p, or gives up soon.
func (s *Socket) writeSoon(p []byte) (int, error) {
	_ = s.Conn.SetWriteDeadline(time.Now().Add(lastWrite)) // fails on closed connections only, and then so does the write
	return s.Conn.Write(p)
}
