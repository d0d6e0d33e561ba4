package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"wproxy/core/certs"
	"wproxy/core/exchange"
	"wproxy/core/internal/tlsconn"
)

// A TLS does the handshakes of a listener. It is immutable, and its methods are safe for
// concurrent use.
type TLS struct {
	// Store has the certificates. Required.
	Store *certs.Store

	// Timeout is for a whole handshake. Required.
	Timeout time.Duration

	// Gate bounds how many handshakes compute at a time; nil: nothing does. See NewGate.
	Gate Gate
}

// A Gate lets so many handshakes compute at a time as it has places. A flood of new
// clients would otherwise make as many goroutines runnable, each with a millisecond of
// arithmetic to do, and a connection that is open waits behind them all. Those that
// wait for their client have no place.
type Gate chan struct{}

// NewGate returns a Gate with n places.
func NewGate(n int) Gate { return make(Gate, max(n, 1)) }

// Why a handshake failed, for metrics.
const (
	HandshakeTimeout     = "timeout"            // the client was too slow
	HandshakeClosed      = "closed"             // the client went away
	HandshakeNotTLS      = "not_tls"            // what came is no TLS record: often HTTP
	HandshakeVersion     = "version"            // the client offers no version that is allowed
	HandshakeParameters  = "parameters"         // the same for cipher suites, curves, signatures
	HandshakeProtocol    = "alpn"               // the same for what is to be spoken
	HandshakeClientCert  = "client_certificate" // the client's is missing, or cannot be verified
	HandshakeRejected    = "rejected"           // the client does not like what it sees: often our certificate
	HandshakeCertificate = "no_certificate"     // there is none for the client
	HandshakeOther       = "other"
)

// A HandshakeError is why a handshake failed.
type HandshakeError struct {
	Reason string // a Handshake constant
	Err    error
}

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }

func (e *HandshakeError) Unwrap() error { return e.Err }

// A shake is one handshake.
type shake struct {
	t       *TLS
	end     time.Time
	choice  certs.Choice
	asked   bool // for a certificate of the client
	inside  bool // has a place in the gate
	writes  int  // flights, and an alert
	refused error
}

// ErrOver is returned by Handshake for a connection that was there for its handshake alone,
// and is closed: a CA has checked that a name is ours (RFC 8737 3).
var ErrOver = errors.New("the handshake was all that was wanted")

// Handshake does the handshake on nc, on the calling goroutine, and fills in what facts
// say about it. When it fails, nc is closed and the error is a *HandshakeError. Who gets the
// connection calls Drop when nobody reads it any more.
func (t *TLS) Handshake(ctx context.Context, nc net.Conn, facts *exchange.Conn) (*tlsconn.Conn, error) {
	s := &shake{t: t, end: time.Now().Add(t.Timeout)}
	_ = nc.SetDeadline(s.end) // fails on closed connections only, and then so does the handshake
	c := tlsconn.Server(nc, t.config())
	c.Socket().Owner = s
	c.Socket().Wrote = func() { // the flight that took computing is on its way
		s.writes++
		s.leave()
	}
	c.Socket().Signs = func(ctx context.Context) error { // it may have been asked for another key share
		s.refused = s.enter(ctx)
		return s.refused
	}
	err := c.Handshake(ctx)
	s.leave()
	c.Socket().Owner, c.Socket().Wrote, c.Socket().Signs = nil, nil, nil
	if err != nil {
		reason := s.why(err, c.Socket().Alert())
		tellHTTP(err)
		_ = c.Close() // there is nobody to tell
		c.Drop()
		return nil, &HandshakeError{reason, err}
	}
	if s.choice.Over {
		_ = c.Close()
		c.Drop()
		return nil, ErrOver
	}
	_ = nc.SetDeadline(time.Time{}) // as above
	state := c.State()
	facts.TLS = &state
	facts.Certificate, facts.ClientPolicy = s.choice.Leaf, s.choice.Policy
	if len(state.VerifiedChains) > 0 {
		facts.Identity = exchange.NewIdentity(state.PeerCertificates[0])
	}
	return c, nil
}

// config returns what a handshake begins with: the store has the last word when the client
// has said hello.
func (t *TLS) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: choose}
}

// choose is for tls.Config.GetConfigForClient. The handshake is the owner of the socket.
func choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	socket, ok := hello.Conn.(*tlsconn.Socket)
	if !ok {
		return nil, certs.ErrNoCertificate
	}
	s, ok := socket.Owner.(*shake)
	if !ok {
		return nil, certs.ErrNoCertificate
	}
	if s.refused = s.enter(hello.Context()); s.refused != nil {
		return nil, s.refused
	}
	c, choice, err := s.t.Store.Choose(hello)
	if err != nil {
		s.refused = err
		return nil, err
	}
	s.choice, s.asked = choice, c.ClientAuth != tls.NoClientCert
	return c, nil
}

// enter takes a place in the gate, if s has none.
func (s *shake) enter(ctx context.Context) error {
	if s.t.Gate == nil || s.inside {
		return nil
	}
	select {
	case s.t.Gate <- struct{}{}:
		s.inside = true
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(s.end))
	defer timer.Stop()
	select {
	case s.t.Gate <- struct{}{}:
		s.inside = true
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	case <-ctx.Done():
		return net.ErrClosed
	}
}

// leave gives the place back. It is called by the goroutine of the handshake.
func (s *shake) leave() {
	if s.inside {
		s.inside = false
		<-s.t.Gate
	}
}

// tellHTTP answers a client that speaks HTTP without TLS, as people do by mistake: they
// would see nothing but a connection that is closed.
func tellHTTP(err error) {
	var re tls.RecordHeaderError
	if !errors.As(err, &re) || re.Conn == nil {
		return
	}
	switch string(re.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		const text = "This is an https port: write https:// in front of its address.\n"
		// Nobody is left to tell if it fails.
		_, _ = io.WriteString(re.Conn, "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: "+
			strconv.Itoa(len(text))+"\r\n\r\n"+text)
	}
}

// Alerts of RFC 8446 6.2 that say why we do not go on.
const (
	alertHandshakeFailure  = 40
	alertIllegalParameter  = 47
	alertProtocolVersion   = 70
	alertInsufficient      = 71
	alertNoApplicationProt = 120
)

// why names the reason of err. crypto/tls tells it in words for people only; what it tells
// the client, as long as that is not encrypted, is more stable.
func (s *shake) why(err error, alert uint8) string {
	var notTLS tls.RecordHeaderError
	var unverified *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(s.refused, certs.ErrNoCertificate):
		return HandshakeCertificate
	case errors.Is(s.refused, certs.ErrProtocol):
		return HandshakeProtocol
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(s.refused, os.ErrDeadlineExceeded):
		return HandshakeTimeout
	case errors.As(err, &notTLS):
		return HandshakeNotTLS
	case errors.As(err, &unverified):
		return HandshakeClientCert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, context.Canceled):
		return HandshakeClosed
	case errors.As(err, &op) && op.Op == "remote error":
		return HandshakeRejected
	case s.asked && s.writes > 1:
		return HandshakeClientCert // the one thing that can still be wrong with what the client sends
	}
	switch alert {
	case alertProtocolVersion:
		return HandshakeVersion
	case alertHandshakeFailure, alertIllegalParameter, alertInsufficient:
		return HandshakeParameters
	case alertNoApplicationProt:
		return HandshakeProtocol
	}
	return HandshakeOther
}
