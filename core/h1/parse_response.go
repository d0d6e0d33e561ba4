package h1

import "wproxy/core/exchange"

// A responseHead is scratch for parsing response heads.
type responseHead struct {
	section
	facts
	noBody bool // whatever the fields say
}

// reset forgets a head.
func (h *responseHead) reset() {
	h.section.reset()
	h.facts.reset()
	h.noBody = false
}

// parse parses the complete head b, whose lines have been scanned, into r. Names
// in b are put in lower case; r holds no reference to b. method is that of the
// request. The status of a fault means nothing here.
func (h *responseHead) parse(b []byte, r *exchange.Response, method string) fault {
	if len(h.lines) == 0 {
		return bad(ReasonBadStatusLine)
	}
	first := h.lines[0]
	status, version, f := statusLine(b[:first.end])
	if !f.ok() {
		return f
	}
	if f := fields(b, h.lines[1:]); !f.ok() {
		return f
	}
	s := string(b) // the one allocation of a head
	r.Status, r.Version = status, version
	if f := h.collect(&r.Fields, s, h.lines[1:]); !f.ok() {
		return f
	}
	if h.chunked && version == exchange.HTTP10 {
		return bad(ReasonBadTE) // RFC 9112 6.1
	}
	h.setFraming(r, method)
	if status == 101 && h.upgrade { // RFC 9110 7.8: a sender of Upgrade must nominate it
		r.Upgrade = h.protocol
	}
	return fault{}
}

// setFraming is RFC 9112 6.3. Length unknown without chunked means that the
// body ends with the connection.
func (h *responseHead) setFraming(r *exchange.Response, method string) {
	h.noBody = method == "HEAD" || r.Status < 200 || r.Status == 204 || r.Status == 304
	r.Length = h.length
	switch {
	case r.Status < 200 || r.Status == 204:
		// RFC 9110 8.6: "MUST NOT send a Content-Length" with these; one that
		// came is not passed on.
		r.Length = 0
		r.Fields.Remove("content-length")
	case h.chunked:
		r.Length = exchange.LengthUnknown
	}
}

// keepAlive reports whether the upstream keeps the connection (RFC 9112 9.3).
func (h *responseHead) keepAlive(v exchange.Version) bool {
	return !h.close && (v != exchange.HTTP10 || h.alive)
}

// statusLine parses a status line (RFC 9112 4). The space before an empty
// reason phrase may be missing, as it is from many servers.
func statusLine(b []byte) (int, exchange.Version, fault) {
	const n = len("HTTP/1.1 200")
	if len(b) < n || b[8] != ' ' || len(b) > n && b[n] != ' ' {
		return 0, 0, bad(ReasonBadStatusLine)
	}
	v, f := version(b[:8], ReasonBadStatusLine)
	if !f.ok() {
		return 0, 0, f
	}
	if !isDigit(b[9]) || !isDigit(b[10]) || !isDigit(b[11]) {
		return 0, 0, bad(ReasonBadStatusLine)
	}
	if !isValue(b[n:]) {
		return 0, 0, bad(ReasonBadStatusLine)
	}
	status := int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if status < 100 || status > 599 { // RFC 9110 15: others are invalid
		return 0, 0, bad(ReasonBadStatusLine)
	}
	return status, v, fault{}
}

// beginsStatusLine reports whether b, which has at least one byte, may be the
// beginning of a status line: TLS, HTTP/2 and HTTP/0.9 show by their first bytes,
// and often send no line at all.
func beginsStatusLine(b []byte) bool {
	const name = "HTTP/"
	n := min(len(b), len(name))
	return string(b[:n]) == name[:n]
}

// forbiddenTrailer reports whether a trailer section must not have name
// (RFC 9110 6.5.1): framing, routing and hop-by-hop fields. They are dropped.
func forbiddenTrailer(name string) bool {
	switch name {
	case "content-length", "transfer-encoding", "host", "connection", "keep-alive", "te", "trailer",
		"upgrade", "expect", "proxy-connection", "http2-settings", "content-encoding", "content-type",
		"content-range", "authorization", "proxy-authenticate", "proxy-authorization",
		"proxy-authentication-info", "set-cookie", "cookie", "cache-control":
		return true
	}
	return false
}

// parseTrailer parses a complete trailer section into dst.
func parseTrailer(b []byte, s *section, dst *exchange.Fields) fault {
	if f := fields(b, s.lines); !f.ok() {
		return bad(ReasonBadTrailer)
	}
	text := string(b)
	for _, l := range s.lines {
		if name := text[l.start:l.name]; !forbiddenTrailer(name) {
			dst.Add(name, text[l.value:l.end])
		}
	}
	return fault{}
}
