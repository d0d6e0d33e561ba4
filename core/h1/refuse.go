package h1

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// refuse answers a request that never becomes an exchange, closes the
// connection, and tells the hook. The rest of what the client sends is not
// looked at: it may be anything.
func (x *serverStream) refuse(f fault) {
	w := &x.w
	text := strconv.Itoa(f.status) + " " + f.reason + "\n"
	b := w.begin(headOverhead + len(text))
	from := len(b)
	b = appendStatusLine(b, f.status)
	b = appendField(b, "date", x.c.s.date.at(time.Now()))
	b = append(b, "content-type: text/plain\r\nconnection: close\r\n"...)
	b = appendLength(b, int64(len(text)))
	b = append(b, crlf...)
	err := w.commit(b, from, 6)
	if err == nil && x.req.Method != "HEAD" {
		err = w.emit([]byte(text), nil, false)
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		x.tell(f)
		x.c.linger(x.c.s.o.DrainTime)
		return
	}
	x.tell(f)
	x.c.abort()
}

// refuseRead ends a connection on which reading a head has failed. begun tells
// whether a byte of it had come.
func (x *serverStream) refuseRead(err error, begun bool) {
	switch {
	case !begun: // only the CRLF that may precede a request
		_ = x.c.nc.Close() // nobody is waiting for anything
	case errors.Is(err, io.EOF):
		x.refuse(bad(ReasonIncompleteReq)) // rule 11
	case errors.Is(err, errTimeout), errors.Is(err, errDeadline):
		x.refuse(fault{408, ReasonHeadTimeout})
	default:
		x.tell(fault{0, ReasonIncompleteReq})
		_ = x.c.nc.Close() // reset by the client, or closed by us
	}
}

// tell calls the hook.
func (x *serverStream) tell(f fault) {
	hook := x.c.s.o.Refused
	if hook == nil {
		return
	}
	r := Refusal{Status: f.status, Reason: f.reason, Start: x.started, Conn: x.c.facts}
	r.Method, r.Target, r.Host = x.req.Method, x.req.Target, x.req.Authority
	if r.Host == "" {
		r.Host = x.head.host
	}
	if r.Method == "" {
		r.Method, r.Target = x.guess()
	}
	r.Target, r.Host = shorten(r.Target), shorten(r.Host)
	hook(&r)
}

// guess finds what looks like method and target in bytes that do not parse, for
// the log.
func (x *serverStream) guess() (method, target string) {
	p := x.c.buffered()
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p = p[:i]
	}
	m, rest, _ := bytes.Cut(p[:min(len(p), maxMethod+maxRefusedText)], []byte{' '})
	if len(m) > maxMethod || !isToken(string(m)) {
		return "", ""
	}
	t, _, _ := bytes.Cut(rest, []byte{' '})
	return string(m), string(bytes.TrimSuffix(t, []byte{'\r'}))
}

func shorten(s string) string {
	if len(s) > maxRefusedText {
		return strings.Clone(s[:maxRefusedText])
	}
	return s
}
