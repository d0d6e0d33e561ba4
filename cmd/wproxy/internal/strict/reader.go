package strict

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
)

// maxLine and maxFields bound what a reader takes in, generously: the limits
// of the proxy are tested elsewhere.
const (
	maxLine   = 256 << 10 // bytes of one line
	maxFields = 10_000
)

// A Reader reads messages from a connection.
//
// Its errors are io.EOF between messages, io.ErrUnexpectedEOF within one, a
// *Violation, or what the connection says.
type Reader struct{ br *bufio.Reader }

// NewReader returns a reader of r. It reads ahead.
func NewReader(r io.Reader) *Reader { return &Reader{br: bufio.NewReader(r)} }

// Buffered returns the reader of what comes after the last message.
func (r *Reader) Buffered() *bufio.Reader { return r.br }

// line reads up to CRLF and returns what is before it. A CR or LF on its own
// is a violation.
func (r *Reader) line() (string, error) {
	var b []byte
	for {
		c, err := r.br.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		switch {
		case c == '\n' && len(b) > 0 && b[len(b)-1] == '\r':
			return string(b[:len(b)-1]), nil
		case c == '\n', len(b) > 0 && b[len(b)-1] == '\r':
			return "", violation("CR or LF on its own after %q", b)
		case len(b) >= maxLine:
			return "", violation("a line of more than %d bytes", maxLine)
		}
		b = append(b, c)
	}
}

// fields reads field lines up to the empty one.
func (r *Reader) fields() (Fields, error) {
	var f Fields
	for {
		line, err := r.line()
		if err != nil {
			return f, unexpected(err)
		}
		if line == "" {
			return f, nil
		}
		l, err := parseLine(line)
		if err != nil {
			return f, err
		}
		if f = append(f, l); len(f) > maxFields {
			return f, violation("more than %d fields", maxFields)
		}
	}
}

// ReadHead reads the head of a request, checked as a whole.
func (r *Reader) ReadHead() (*Request, error) {
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	p := strings.Split(line, " ")
	if len(p) != 3 || p[2] != "HTTP/1.1" {
		return nil, violation("request line %q", line)
	}
	req := &Request{Method: p[0], Target: p[1]}
	if !isToken(req.Method) {
		return req, violation("method %q", req.Method)
	}
	if err := checkTarget(req.Method, req.Target); err != nil {
		return req, err
	}
	if req.Fields, err = r.fields(); err != nil {
		return req, err
	}
	return req, checkRequestFields(req.Fields)
}

// ReadRequest reads a whole request. With an error, what was read so far is
// returned too, if it got as far as the method.
func (r *Reader) ReadRequest() (*Request, error) {
	req, err := r.ReadHead()
	if err != nil {
		return req, err
	}
	return req, r.ReadBody(req)
}

// ReadBody reads the body and the trailer of a request whose head was read.
func (r *Reader) ReadBody(req *Request) error {
	fr, err := parseFraming(req.Fields)
	if err != nil {
		return err
	}
	keep := body{kept: &req.Body, length: &req.Length}
	if fr.chunked {
		req.Trailer, err = r.chunks(keep)
		return err
	}
	return r.exactly(fr.length, keep)
}

// ReadResponse reads the final response to a request with that method, and the
// 1xx responses before it. With an error, what was read so far is returned.
func (r *Reader) ReadResponse(method string) (*Response, error) {
	resp := &Response{}
	for {
		status, err := r.statusLine()
		if err != nil {
			return resp, err
		}
		f, err := r.fields()
		if err != nil {
			return resp, err
		}
		if status < 200 && status != 101 {
			if len(f.All("content-length"))+len(f.All("transfer-encoding")) > 0 {
				return resp, violation("framing fields in a %d response", status)
			}
			resp.Interim = append(resp.Interim, status)
			continue
		}
		resp.Status, resp.Fields = status, f
		break
	}
	resp.Close = slices.Contains(list(resp.Fields.All("connection")), "close")
	if err := checkResponseFields(resp); err != nil {
		return resp, err
	}
	err := r.responseBody(resp, method)
	resp.Complete = err == nil
	return resp, err
}

// statusLine reads a status line (RFC 9112 4).
func (r *Reader) statusLine() (int, error) {
	line, err := r.line()
	if err != nil {
		return 0, err
	}
	rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(rest) < 4 || rest[3] != ' ' {
		return 0, violation("status line %q", line)
	}
	n, err := parseLength(rest[:3], 10)
	if err != nil || n < 100 || n > 599 {
		return 0, violation("status line %q", line)
	}
	for i := 4; i < len(rest); i++ {
		if c := rest[i]; c < ' ' && c != '\t' || c == 0x7f {
			return 0, violation("status line %q", line)
		}
	}
	return int(n), nil
}

// responseBody reads the body of resp (RFC 9112 6.3).
func (r *Reader) responseBody(resp *Response, method string) error {
	fr, err := parseFraming(resp.Fields)
	if err != nil {
		return err
	}
	keep := body{kept: &resp.Body, length: &resp.Length}
	switch {
	case method == "HEAD", resp.Status == 204, resp.Status == 304, resp.Status == 101:
		return nil
	case fr.chunked:
		resp.Trailer, err = r.chunks(keep)
		return err
	case fr.has:
		return r.exactly(fr.length, keep)
	case !resp.Close:
		return violation("a response ends with the connection but does not say connection: close")
	}
	for {
		c, err := r.br.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		keep.add(c)
	}
}

// body takes in the bytes of a body.
type body struct {
	kept   *[]byte
	length *int64
}

func (b body) add(p ...byte) {
	*b.length += int64(len(p))
	if room := KeepBody - len(*b.kept); room > 0 {
		*b.kept = append(*b.kept, p[:min(room, len(p))]...)
	}
}

// exactly reads n bytes of a body.
func (r *Reader) exactly(n int64, b body) error {
	buf := make([]byte, min(n, 32<<10))
	for n > 0 {
		k, err := r.br.Read(buf[:min(n, int64(len(buf)))])
		b.add(buf[:k]...)
		if n -= int64(k); err != nil && n > 0 {
			return unexpected(err)
		}
	}
	return nil
}

// chunks reads a chunked body and its trailer section (RFC 9112 7.1). A proxy
// has no reason to send chunk extensions.
func (r *Reader) chunks(b body) (Fields, error) {
	for {
		line, err := r.line()
		if err != nil {
			return nil, unexpected(err)
		}
		n, err := parseLength(line, 16)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if err := r.exactly(n, b); err != nil {
			return nil, err
		}
		if line, err = r.line(); err != nil {
			return nil, unexpected(err)
		}
		if line != "" {
			return nil, violation("chunk goes on with %q", line)
		}
	}
	f, err := r.fields()
	if err != nil {
		return f, err
	}
	for _, l := range f {
		switch l.Name {
		case "content-length", "transfer-encoding", "host", "connection", "trailer", "te", "upgrade", "authorization", "content-encoding", "content-type":
			return f, violation("trailer field %s (RFC 9110 6.5.1)", l.Name)
		}
	}
	return f, nil
}

// unexpected turns the end of a connection within a message into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
