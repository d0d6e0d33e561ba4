package h1

import (
	"bytes"

	"wproxy/core/exchange"
)

// A line is a line of a head: offsets from its first byte. b[start:end] is the
// line without CRLF; in a field line, b[start:name] is the name and
// b[value:end], after parsing, the value.
type line struct{ start, name, value, end int32 }

// A section finds and parses the lines of a head or a trailer section. The
// bytes may arrive in any number of pieces: scan goes on where it stopped.
type section struct {
	lines []line
	next  int // start of the first line that is not complete yet
}

func (s *section) reset() { s.lines, s.next = s.lines[:0], 0 }

// scan looks for the empty line that ends the section in b, which holds what
// has arrived of it so far. It returns the length of the section, empty line
// included, or 0 if more must be read.
func (s *section) scan(b []byte, maxLines int) (int, fault) {
	for {
		i := bytes.IndexByte(b[s.next:], '\n')
		if i < 0 {
			return 0, fault{}
		}
		// RFC 9112 2.2: a recipient MAY take a single LF for a line
		// terminator. We do not: others do not, and what they see differs then.
		if i == 0 || b[s.next+i-1] != '\r' {
			return 0, bad(ReasonBareLF)
		}
		if i == 1 {
			return s.next + 2, fault{}
		}
		if len(s.lines) >= maxLines {
			return 0, fault{431, ReasonTooManyFields}
		}
		s.lines = append(s.lines, line{start: int32(s.next), end: int32(s.next + i - 1)})
		s.next += i + 1
	}
}

// fields parses lines as field lines of b: names are checked and put in lower
// case in place, values are trimmed and checked.
func fields(b []byte, lines []line) fault {
	for i := range lines {
		l := &lines[i]
		p := int(l.start)
		for p < int(l.end) {
			c := lowerToken[b[p]]
			if c == 0 {
				break
			}
			b[p] = c
			p++
		}
		if p == int(l.end) || p == int(l.start) || b[p] != ':' {
			// RFC 9112 5.1: "No whitespace is allowed between the field name
			// and colon"; 5.2: obs-fold in a request MUST be refused or replaced.
			if c := b[l.start]; c == ' ' || c == '\t' {
				return bad(ReasonObsFold)
			}
			return bad(ReasonBadField)
		}
		v, end := p+1, int(l.end)
		for v < end && isOWS(b[v]) {
			v++
		}
		for v < end && isOWS(b[end-1]) {
			end--
		}
		if !isValue(b[v:end]) {
			return bad(ReasonBadValue)
		}
		l.name, l.value, l.end = int32(p), int32(v), int32(end)
	}
	return fault{}
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }

// lowerToken maps the bytes of a token (RFC 9110 5.6.2) to lower case and all
// others to 0.
var lowerToken = tokenTable()

func tokenTable() (t [256]byte) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789") {
		t[c] = c
	}
	return t
}

func isToken(s string) bool {
	for i := range len(s) {
		if lowerToken[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// A facts is what the fields of a head say about the message and about its
// connection.
type facts struct {
	said
	nOptions int
	options  [maxOptions]string // names that Connection nominates: nOptions, the others are empty
}

// reset forgets what was found. Of options it clears what is there: the array is most of a
// facts, and nearly always empty.
func (f *facts) reset() {
	clear(f.options[:f.nOptions])
	f.said, f.nOptions = said{length: exchange.LengthUnknown}, 0
}

// A said is the part of facts that has the same size for every head.
type said struct {
	length   int64 // Content-Length; exchange.LengthUnknown: none
	chunked  bool  // Transfer-Encoding: chunked
	hasTE    bool
	hosts    int
	host     string
	close    bool   // Connection: close
	alive    bool   // Connection: keep-alive
	upgrade  bool   // Connection: upgrade
	protocol string // Upgrade, without what must not be forwarded
	expect   bool   // Expect

	unknownExpect bool // one that is not 100-continue
}

// collect sorts the fields of a head: end-to-end fields go to dst, the others
// (RFC 9110 7.6.1) into f. s is the head as a string and lines its field lines.
func (f *facts) collect(dst *exchange.Fields, s string, lines []line) fault {
	f.reset()
	te := teNone
	for i := range lines {
		l := &lines[i]
		name, value := s[l.start:l.name], s[l.value:l.end]
		var wrong fault
		switch name {
		case "content-length":
			wrong = f.setLength(value)
			dst.Add(name, value)
		case "transfer-encoding":
			f.hasTE = true
			te, wrong = te.add(value)
		case "host":
			f.hosts++
			f.host = value
		case "connection":
			wrong = f.addOptions(value)
		case "upgrade":
			if f.protocol == "" {
				f.protocol = upgradeTo(value)
			}
		case "te":
			if listHas(value, "trailers") && !dst.Has("te") {
				dst.Add("te", "trailers")
			}
		case "expect":
			f.expect = true
			f.unknownExpect = f.unknownExpect || !equalFold(value, "100-continue")
		case "keep-alive", "proxy-connection", "http2-settings",
			"proxy-authenticate", "proxy-authorization", "proxy-authentication-info":
		default:
			dst.Add(name, value)
		}
		if !wrong.ok() {
			return wrong
		}
	}
	f.chunked = te == teChunked
	if f.hasTE && !f.chunked {
		return bad(ReasonBadTE)
	}
	// RFC 9112 6.1: a server MAY reject a request that contains both.
	if f.hasTE && f.length >= 0 {
		return bad(ReasonBothLengths)
	}
	f.removeNominated(dst)
	return fault{}
}

// setLength parses a Content-Length (RFC 9110 8.6: 1*DIGIT). A second one is
// refused even if it is equal: which of them an upstream would take is not ours to guess.
func (f *facts) setLength(v string) fault {
	if f.length >= 0 {
		return bad(ReasonManyLengths)
	}
	n, ok := parseLength(v)
	if !ok {
		return bad(ReasonBadLength)
	}
	f.length = n
	return fault{}
}

func parseLength(v string) (int64, bool) {
	var n int64
	for i := range len(v) {
		d := v[i] - '0'
		if d > 9 || n > (1<<63-1-int64(d))/10 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, v != ""
}

// A codings is how far the transfer codings of a head have been read.
type codings uint8

const (
	teNone codings = iota
	teChunked
)

// add reads one Transfer-Encoding value. The only coding that we know is
// chunked, exactly once (RFC 9112 6.1: "A sender MUST NOT apply the chunked
// transfer coding more than once").
func (c codings) add(v string) (codings, fault) {
	if v == "" || v[len(v)-1] == ',' {
		return c, bad(ReasonBadTE)
	}
	for v != "" {
		var m string
		m, v = nextMember(v)
		switch {
		case m == "":
			return c, bad(ReasonBadTE)
		case c == teChunked:
			return c, bad(ReasonBadTE) // anything behind chunked
		case equalFold(m, "chunked"):
			c = teChunked
		case !isToken(m):
			return c, bad(ReasonBadTE)
		default:
			return c, fault{501, ReasonUnknownTE}
		}
	}
	return c, fault{}
}

// addOptions reads one Connection value (RFC 9110 7.6.1).
func (f *facts) addOptions(v string) fault {
	for v != "" {
		var m string
		m, v = nextMember(v)
		switch {
		case m == "":
			continue // RFC 9110 5.6.1.2: empty members are ignored
		case equalFold(m, "close"):
			f.close = true
		case equalFold(m, "keep-alive"):
			f.alive = true
		case equalFold(m, "upgrade"):
			f.upgrade = true
		case f.nOptions == maxOptions || !isToken(m):
			return bad(ReasonBadConnection)
		default:
			f.options[f.nOptions] = m
			f.nOptions++
		}
	}
	return fault{}
}

// removeNominated removes the fields that Connection nominates. content-length
// stays: a client must not be able to take the framing's twin away from plugins.
// host and the other hop-by-hop fields are not in dst anyway, and te was
// nominated because it has to be.
func (f *facts) removeNominated(dst *exchange.Fields) {
	for _, m := range f.options[:f.nOptions] {
		if equalFold(m, "content-length") || equalFold(m, "te") {
			continue
		}
		dst.Remove(lower(m))
	}
}

// upgradeTo returns the first protocol of an Upgrade list that may be passed on.
// HTTP/2 over cleartext never may: the upstream would speak a protocol that
// nobody on the way checks (request smuggling over h2c).
func upgradeTo(v string) string {
	for v != "" {
		var m string
		m, v = nextMember(v)
		name := m
		for i := range len(m) {
			if m[i] == '/' {
				name = m[:i]
				break
			}
		}
		if isToken(name) && (len(name) == len(m) || isToken(m[len(name)+1:])) &&
			!equalFold(name, "h2c") && !equalFold(name, "h2") && !equalFold(name, "http") {
			return m
		}
	}
	return ""
}
