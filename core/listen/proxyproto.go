package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"

	"wproxy/core/exchange"
)

// A ProxyProtocol says whose PROXY headers are believed
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, versions 1 and 2). Each
// connection has to begin with one. It is immutable.
type ProxyProtocol struct {
	// Trust has the peers that may connect; all others are refused. A peer on a unix socket
	// counts as 127.0.0.1, as in exchange.Conn.
	Trust []netip.Prefix

	// Timeout is for the whole header. Required.
	Timeout time.Duration
}

// Why a connection was refused that has to begin with a PROXY header, for metrics.
const (
	ProxyUntrusted = "proxy_untrusted" // the peer is not in Trust
	ProxyTimeout   = "proxy_timeout"   // no header, or not all of it, in time
	ProxyClosed    = "proxy_closed"    // the peer went away before that
	ProxyHeader    = "proxy_header"    // what came is no header, or a bad one
)

// A ProxyError is why a connection was refused that has to begin with a PROXY header.
type ProxyError struct {
	Reason string // a Proxy constant
	Err    error
}

// Error implements error.
func (e *ProxyError) Error() string { return "PROXY header: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

var (
	errUntrusted   = errors.New("the peer is not in trust_proxy")
	errNoHeader    = errors.New("the connection does not begin with one")
	errBadLine     = errors.New("version 1: the line is no header")
	errHeaderSize  = errors.New("it is too large")
	errBadChecksum = errors.New("version 2: its checksum is wrong")
)

// trusts reports whether the peer may connect.
func (p *ProxyProtocol) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(p.Trust, func(t netip.Prefix) bool { return t.Contains(peer) })
}

// introduce reads the header of a connection that has just been accepted and makes its
// facts those of the client. False: it was refused, and that was told.
func (l *Listener) introduce(c *conn, p *ProxyProtocol) bool {
	h, err := l.awaitHeader(c, p.Timeout)
	var said heard
	if err == nil {
		said, err = parseHeader(h)
	}
	if err != nil {
		l.refuse(c.facts.Remote, err)
		return false
	}
	if said.from.IsValid() || said.Unnamed {
		said.Peer = c.facts.Remote
		c.facts.Proxied = &said.Proxied
	}
	if said.from.IsValid() {
		c.facts.Remote, c.facts.Local, c.facts.LocalAddr = said.from, said.to, said.to.String()
		setRemoteText(&c.facts)
	}
	if said.from.IsValid() && !l.readmit(c, said.from.Addr()) {
		if l.o.TooMany != nil {
			l.o.TooMany()
		}
		return false
	}
	return true
}

// awaitHeader reads the header of c. Drain may shorten the time for it.
func (l *Listener) awaitHeader(c *conn, most time.Duration) ([]byte, error) {
	l.mu.Lock()
	if l.draining {
		most = min(most, drainHeader)
	}
	if l.introducing == nil {
		l.introducing = map[*conn]struct{}{}
	}
	l.introducing[c] = struct{}{}
	_ = c.SetReadDeadline(time.Now().Add(most)) // fails on closed connections only, and then so does reading
	l.mu.Unlock()
	h, err := readHeader(c.Conn)
	l.mu.Lock()
	delete(l.introducing, c)
	_ = c.SetReadDeadline(time.Time{}) // as above
	l.mu.Unlock()
	return h, err
}

// Drain gives connections that have not sent their PROXY header little time for what is on
// its way: nothing has begun on them, and they would hold up an end for as long as the
// header may take. It does not wait. Call Close first.
func (l *Listener) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for c := range l.introducing {
		_ = c.SetReadDeadline(time.Now().Add(drainHeader)) // as in awaitHeader
	}
}

// refuse tells why a connection of peer was refused.
func (l *Listener) refuse(peer netip.AddrPort, err error) {
	if l.o.ProxyRefused == nil {
		return
	}
	reason := ProxyHeader
	switch {
	case errors.Is(err, errUntrusted):
		reason = ProxyUntrusted
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = ProxyTimeout
	case errors.Is(err, errClosed):
		reason = ProxyClosed
	}
	l.o.ProxyRefused(peer, &ProxyError{reason, err})
}

// errClosed marks the end of a connection before that of its header.
var errClosed = errors.New("the connection ended")

// readHeader reads a header from r, and no byte of what follows: that is for a codec, which
// may work on the socket itself. The error is that of reading, or says what is wrong.
func readHeader(r io.Reader) ([]byte, error) {
	h := make([]byte, 0, usualProxyHeader)
	for {
		n, err := missing(h)
		if n == 0 || err != nil {
			return h, err
		}
		h = slices.Grow(h, n)
		got, err := r.Read(h[len(h) : len(h)+n])
		h = h[:len(h)+got]
		if got == 0 && err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				err = errors.Join(errClosed, err)
			}
			return nil, err
		}
	}
}

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	header2    = 16 // bytes of version 2 in front of what its length counts
	shortest1  = len("PROXY UNKNOWN\r\n")
	longest1   = 107 // as the specification has counted
	fields1    = 6   // of the line of a connection that is not UNKNOWN
	clientTLS  = 1   // PP2_CLIENT_SSL
	leastOfTLS = 5   // bytes of a PP2_TYPE_SSL
)

// missing returns how many bytes must still follow h, the beginning of a header, at
// least; 0: it is whole. The error says why it is no header.
func missing(h []byte) (int, error) {
	begins := func(signature string) bool {
		n := min(len(h), len(signature))
		return string(h[:n]) == signature[:n]
	}
	switch {
	case len(h) == 0:
		return shortest1, nil // version 2 is longer
	case begins(signature1):
		return missing1(h)
	case !begins(signature2):
		return 0, errNoHeader
	case len(h) < header2:
		return header2 - len(h), nil
	}
	size := header2 + int(binary.BigEndian.Uint16(h[header2-2:]))
	if size > maxProxyHeader {
		return 0, errHeaderSize
	}
	return size - len(h), nil
}

// missing1 is missing for version 1, a line that ends with CRLF.
func missing1(line []byte) (int, error) {
	switch i := bytes.IndexByte(line, '\n'); {
	case i >= shortest1-1 && i == len(line)-1 && line[i-1] == '\r':
		return 0, nil
	case i >= 0:
		return 0, errBadLine
	case len(line) >= longest1:
		return 0, errHeaderSize
	case len(line) < shortest1:
		return shortest1 - len(line), nil
	case line[len(line)-1] == '\r':
		return 1, nil
	}
	least := len("\r\n")
	if !strings.HasPrefix(string(line), "PROXY UNKNOWN") { // where anything may follow
		least += 2 * max(fields1-1-bytes.Count(line, []byte(" ")), 0) // each has a blank in front of it, and a byte
		if line[len(line)-1] == ' ' {
			least++
		}
	}
	return min(least, longest1-len(line)), nil
}

// heard is what a header says. from is not valid if the peer speaks for itself (LOCAL), or for a
// client that it does not name: UNKNOWN, or one that has no address of the internet.
type heard struct {
	exchange.Proxied
	from, to netip.AddrPort
}

// parseHeader parses a header that is whole.
func parseHeader(h []byte) (heard, error) {
	p, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(h), longest1))
	if err != nil {
		return heard{}, err
	}
	tlvs, err := p.TLVs()
	if err != nil {
		return heard{}, err
	}
	var said heard
	for _, t := range tlvs {
		switch t.Type {
		case proxyproto.PP2_TYPE_CRC32C:
			if !sumsUp(h, t.Value) {
				return heard{}, errBadChecksum
			}
		case proxyproto.PP2_TYPE_SSL:
			said.TLS = len(t.Value) >= leastOfTLS && t.Value[0]&clientTLS != 0
		case proxyproto.PP2_TYPE_AUTHORITY:
			if isAuthority(t.Value) {
				said.Authority = string(t.Value)
			}
		default: // says nothing that is of use here
		}
	}
	from, to, ok := p.TCPAddrs()
	switch {
	case p.Version == 2 && p.Command == proxyproto.LOCAL:
		return heard{}, nil
	case p.Command == proxyproto.LOCAL || !ok: // version 1 has UNKNOWN for both; what is believed less is right for both
		said.Unnamed = true
		return said, nil
	}
	said.from, said.to = addrPort(from), addrPort(to)
	return said, nil
}

// sumsUp verifies the checksum of a header of version 2: a CRC32c of all of it, with zeros
// in place of the checksum (2.2.3).
func sumsUp(h, sum []byte) bool {
	if len(sum) != crc32.Size {
		return false
	}
	at := bytes.Index(h[header2:], append([]byte{byte(proxyproto.PP2_TYPE_CRC32C), 0, crc32.Size}, sum...))
	if at < 0 {
		return false
	}
	zeroed := bytes.Clone(h)
	clear(zeroed[header2+at+3:][:crc32.Size])
	return crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) == binary.BigEndian.Uint32(sum)
}

// isAuthority reports whether b can be the name of a host: it goes into logs and to plugins.
func isAuthority(b []byte) bool {
	return len(b) > 0 && len(b) <= maxAuthority && !slices.ContainsFunc(b, func(c byte) bool { return c <= ' ' || c >= 0x7f })
}

// setRemoteText fills in the texts of f.Remote.
func setRemoteText(f *exchange.Conn) {
	f.RemoteAddr = f.Remote.String()
	if a := f.Remote.Addr(); a.Is4() { // a part of what is there already
		f.RemoteIP = f.RemoteAddr[:strings.LastIndexByte(f.RemoteAddr, ':')]
	} else {
		f.RemoteIP = a.String()
	}
}
