package tcp

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Why there is no ClientHello to look at.
var (
	errNotTLS   = errors.New("what came is no TLS")
	errBadHello = errors.New("malformed ClientHello")
	errTooLarge = errors.New("the ClientHello is too large")
)

const (
	recordHandshake  = 22      // ContentType (RFC 8446 5.1)
	recordHeader     = 5       // bytes
	maxRecord        = 1 << 14 // bytes of plaintext
	typeClientHello  = 1       // HandshakeType (RFC 8446 4)
	handshakeHeader  = 4       // bytes
	extensionName    = 0       // server_name (RFC 6066 3)
	nameTypeHost     = 0
	maxSessionID     = 32
	helloFixed       = 2 + 32 // legacy_version, random
	maxNameBytes     = 255
	maxLabelBytes    = 63
	cipherSuiteBytes = 2
)

// A helloReader finds the name in a ClientHello, in bytes as they come: of one record or of
// many. It looks at each byte once.
type helloReader struct {
	at   int    // in what has come: where the next record begins
	body []byte // of the handshake message, with its header, as far as it is there
}

// look looks at raw, everything that has come so far. It returns done with the name, "" if
// there is none, or wants more; the errors are errNotTLS, about what is no TLS from its first
// byte on, errBadHello and errTooLarge.
func (h *helloReader) look(raw []byte) (name string, done bool, err error) {
	for h.at < len(raw) {
		bad := errBadHello
		if h.at == 0 {
			bad = errNotTLS
		}
		rest := raw[h.at:]
		if rest[0] != recordHandshake || len(rest) > 1 && rest[1] != 3 {
			return "", false, bad
		}
		if len(rest) < recordHeader {
			return "", false, nil
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if n == 0 || n > maxRecord { // fragments are not empty (RFC 8446 5.1)
			return "", false, errBadHello
		}
		if h.at+recordHeader+n > maxHello {
			return "", false, errTooLarge
		}
		if len(rest) < recordHeader+n {
			return "", false, nil
		}
		h.body = append(h.body, rest[recordHeader:recordHeader+n]...)
		h.at += recordHeader + n
		if h.body[0] != typeClientHello {
			return "", false, errBadHello
		}
		if len(h.body) < handshakeHeader {
			continue
		}
		size := int(h.body[1])<<16 | int(h.body[2])<<8 | int(h.body[3])
		if size > maxHello {
			return "", false, errTooLarge
		}
		if len(h.body) >= handshakeHeader+size {
			name, err = serverName(h.body[handshakeHeader : handshakeHeader+size])
			return name, err == nil, err
		}
	}
	return "", false, nil
}

// A cutter cuts fields from the front of a message. Once something is missing, bad stays set.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) take(n int) []byte {
	if c.bad || len(c.b) < n {
		c.bad = true
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

// vector cuts what has its length in front, in so many bytes.
func (c *cutter) vector(lengthBytes int) []byte {
	n := 0
	for _, b := range c.take(lengthBytes) {
		n = n<<8 | int(b)
	}
	return c.take(n)
}

// serverName returns the name in a ClientHello (RFC 8446 4.1.2), in lower case; "": there is
// none. Extensions that it does not know are none of its business: GREASE (RFC 8701), and an
// encrypted ClientHello, of which only the outer name can be seen.
func serverName(hello []byte) (string, error) {
	c := cutter{b: hello}
	if v := c.take(helloFixed); c.bad || v[0] != 3 {
		return "", errBadHello
	}
	id, suites, compression := c.vector(1), c.vector(2), c.vector(1)
	if c.bad || len(id) > maxSessionID || len(suites) == 0 || len(suites)%cipherSuiteBytes != 0 || len(compression) == 0 {
		return "", errBadHello
	}
	if len(c.b) == 0 { // before RFC 3546
		return "", nil
	}
	extensions := cutter{b: c.vector(2)}
	if c.bad || len(c.b) != 0 {
		return "", errBadHello
	}
	name, seen := "", false
	for len(extensions.b) > 0 {
		kind, data := extensions.take(2), extensions.vector(2)
		if extensions.bad {
			return "", errBadHello
		}
		if binary.BigEndian.Uint16(kind) != extensionName {
			continue
		}
		if seen { // RFC 8446 4.2: one of a type
			return "", errBadHello
		}
		seen = true
		var ok bool
		if name, ok = hostName(data); !ok {
			return "", errBadHello
		}
	}
	return name, nil
}

// hostName returns the name in a server_name extension (RFC 6066 3).
func hostName(data []byte) (string, bool) {
	c := cutter{b: data}
	list := cutter{b: c.vector(2)}
	if c.bad || len(c.b) != 0 || len(list.b) == 0 {
		return "", false
	}
	name := ""
	for len(list.b) > 0 {
		kind, value := list.take(1), list.vector(2)
		if list.bad || len(value) == 0 {
			return "", false
		}
		if kind[0] != nameTypeHost {
			continue
		}
		if name != "" { // one of a type
			return "", false
		}
		if name = strings.ToLower(string(value)); !validName(name) {
			return "", false
		}
	}
	return name, true
}

// validName reports whether s is a host name as it stands in server_name: labels of letters,
// digits, hyphens and underscores, and no dot at the end. Addresses are not allowed there, but
// some clients send those of IPv4, which look like names.
func validName(s string) bool {
	if len(s) > maxNameBytes {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabelBytes {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
