package wasmfilter

import (
	"strconv"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// pseudoHost is the field that :authority stands for. Guests that ask for it, or
// set it, mean that; a second host beside :authority cannot be made.
const pseudoHost = "host"

// isPseudo reports whether name is a pseudo field of this map, or would have to be
// one. Nobody may make other fields that begin with a colon: they are no tokens.
func (m *headerMap) isPseudo(name string) bool {
	if name == "" || m.pseudos() == 0 {
		return false
	}
	return name[0] == ':' || m.kind == abi.MapRequestHeaders && sameName(name, pseudoHost)
}

// isPseudoToken is isPseudo for a name in lower case without a colon.
func (m *headerMap) isPseudoToken(name string) bool {
	return m.kind == abi.MapRequestHeaders && name == pseudoHost
}

// pseudo returns the value of a pseudo field.
func (m *headerMap) pseudo(name string) (string, bool) {
	if m.kind == abi.MapResponseHeaders {
		if !sameName(name, ":status") {
			return "", false
		}
		return statusText(m.f.resp.head.Status), true
	}
	return requestPseudo(m.f.shownRequest(), name)
}

func requestPseudo(r *exchange.Request, name string) (string, bool) {
	switch {
	case sameName(name, ":path"):
		return r.Target, true
	case sameName(name, ":method"):
		return r.Method, true
	case sameName(name, ":authority"), sameName(name, pseudoHost):
		return r.Authority, true
	case sameName(name, ":scheme"):
		return r.Scheme, true
	}
	return "", false
}

func (m *headerMap) eachPseudo(yield func(string, string) bool) bool {
	switch m.kind {
	case abi.MapRequestHeaders:
		r := m.f.shownRequest()
		return yield(":authority", r.Authority) && yield(":path", r.Target) &&
			yield(":method", r.Method) && yield(":scheme", r.Scheme)
	case abi.MapResponseHeaders:
		return yield(":status", statusText(m.f.resp.head.Status))
	default:
		return true
	}
}

// samePseudo reports whether a and b name the same pseudo field.
func (m *headerMap) samePseudo(a, b string) bool {
	canonical := func(s string) string {
		if sameName(s, pseudoHost) {
			return ":authority"
		}
		return s
	}
	a, b = canonical(a), canonical(b)
	for _, name := range [...]string{":authority", ":path", ":method", ":scheme", ":status"} {
		if sameName(a, name) {
			return sameName(b, name)
		}
	}
	return a == b
}

// validPseudos reports whether setPseudos would take those of pairs.
func (m *headerMap) validPseudos(pairs []abi.Pair) bool {
	if m.kind == abi.MapRequestHeaders {
		r := *m.f.x.Request // a copy: the heads of its Fields are not touched
		return m.setRequestPseudos(&r, pairs)
	}
	for _, p := range pairs {
		if m.isPseudo(p.Name) {
			if _, ok := m.status(p.Value); !ok || !sameName(p.Name, ":status") {
				return false
			}
		}
	}
	return true
}

// setPseudos sets those of pairs.
func (m *headerMap) setPseudos(pairs []abi.Pair) {
	if m.kind == abi.MapRequestHeaders {
		m.setRequestPseudos(m.f.x.Request, pairs)
		return
	}
	for _, p := range pairs {
		if m.isPseudo(p.Name) {
			m.setPseudo(p.Name, p.Value)
		}
	}
}

// setRequestPseudos sets the pseudo fields of pairs on r, in an order in which a target
// of "*" and another method never meet; false when one is refused.
func (m *headerMap) setRequestPseudos(r *exchange.Request, pairs []abi.Pair) bool {
	first := r.Target != "*" // the method is
	for _, method := range [...]bool{first, !first} {
		for _, p := range pairs {
			if m.isPseudo(p.Name) && sameName(p.Name, ":method") == method && !setRequestPseudo(r, p.Name, p.Value) {
				return false
			}
		}
	}
	return true
}

// setPseudo sets a pseudo field; false if the value is not one, or the edit would
// break the framing of what is on its way already.
func (m *headerMap) setPseudo(name, value string) bool {
	if !m.writable() {
		return true
	}
	if m.kind == abi.MapResponseHeaders {
		status, ok := m.status(value)
		if ok && sameName(name, ":status") {
			m.f.resp.head.Status, m.f.status = status, status
			return true
		}
		return false
	}
	if old, ok := m.pseudo(name); ok && old == value {
		return true
	}
	if !setRequestPseudo(m.f.x.Request, name, value) {
		return false
	}
	m.edited()
	return true
}

// status parses a status that may be set: a final one, and no change to or from a
// tunnel, which has begun or not.
func (m *headerMap) status(value string) (int, bool) {
	n, err := strconv.Atoi(value)
	if err != nil || len(value) != 3 {
		return 0, false
	}
	was := m.f.resp.head.Status
	return n, n == was || n >= 200 && n <= 599 && was != 101
}

// setRequestPseudo edits r through the canonicaliser that clients' requests come
// through. What is there already can always be put back: not all that a client may
// send could be made by an edit (no Host in HTTP/1.0, the target of CONNECT).
func setRequestPseudo(r *exchange.Request, name, value string) bool {
	if old, ok := requestPseudo(r, name); ok && old == value {
		return true
	}
	switch {
	case sameName(name, ":path"):
		return special(r.Method) != "CONNECT" && r.ParseTarget(value) == nil
	case sameName(name, ":authority"), sameName(name, pseudoHost):
		return r.ParseAuthority(value) == nil
	case sameName(name, ":method"):
		// HEAD and CONNECT decide how the response is framed, and the client
		// has been told already which it is (RFC 9112 6.3). "*" is a target of
		// OPTIONS alone (RFC 9112 3.2.4).
		if !host.IsToken(value) || special(value) != special(r.Method) || r.Target == "*" {
			return false
		}
		r.Method = value
		return true
	case sameName(name, ":scheme"):
		if value != "http" && value != "https" {
			return false
		}
		r.Scheme = value
		return true
	}
	return false
}

// special returns the method if its responses are framed differently.
func special(method string) string {
	if method == "HEAD" || method == "CONNECT" {
		return method
	}
	return ""
}

// statusText returns a status as text without allocating for those in use.
func statusText(status int) string {
	switch status {
	case 200:
		return "200"
	case 204:
		return "204"
	case 206:
		return "206"
	case 301:
		return "301"
	case 302:
		return "302"
	case 304:
		return "304"
	case 400:
		return "400"
	case 401:
		return "401"
	case 403:
		return "403"
	case 404:
		return "404"
	case 429:
		return "429"
	case 500:
		return "500"
	case 502:
		return "502"
	case 503:
		return "503"
	case 504:
		return "504"
	}
	return strconv.Itoa(status)
}

// setLength sets content-length, which guests see as a field and codecs as the
// length of the message. An edit that cannot be true has no effect: a message
// that has no body, or whose body this guest does not see, has the length it has.
func (m *headerMap) setLength(value string) bool {
	n, err := strconv.ParseUint(value, 10, 62)
	if err != nil {
		return false
	}
	d, length := m.message()
	if d == nil || int64(n) == *length {
		return true
	}
	_, body, _ := d.wants()
	if m.kind == abi.MapResponseHeaders && d.wasNoBody {
		setLength(length, m.fields(), int64(n)) // of a representation: nothing follows
		return true
	}
	if d.endHead || !body {
		return true
	}
	setLength(length, m.fields(), int64(n))
	d.lengthSet = true
	m.edited()
	return true
}

// removeLength leaves the length of the message open (rule 10), unless it has no
// body: then there is nothing to leave open.
func (m *headerMap) removeLength() {
	d, length := m.message()
	m.fields().Remove(contentLength)
	if d == nil || d.endHead && !d.wasNoBody {
		return
	}
	*length = exchange.LengthUnknown
	d.lengthSet = false
}

// message returns the direction and length of the message that the map is the head
// of; nil for trailers.
func (m *headerMap) message() (*half, *int64) {
	switch m.kind {
	case abi.MapRequestHeaders:
		return &m.f.req.half, &m.f.x.Request.Length
	case abi.MapResponseHeaders:
		return &m.f.resp.half, &m.f.resp.head.Length
	default:
		return nil, nil
	}
}
