// Package strict reads HTTP/1.1 with no leniency at all, for tests: an origin
// that notes down everything it receives and calls every deviation from RFC
// 9110 and RFC 9112 a violation, and a reader of answers that does the same.
//
// What a proxy lets through is judged by somebody else than the proxy: this
// package shares no code with core/h1 and must not be made to agree with it.
// Where the RFCs let a recipient choose, it takes the stricter reading; it also
// refuses what only a proxy must not send (hop-by-hop fields, chunk
// extensions, a path that is not canonical).
package strict

import (
	"fmt"
	"strings"
)

// A Field is one field line, the name in lower case.
type Field struct{ Name, Value string }

// Fields are the field lines of a message or a trailer section, in order.
type Fields []Field

// All returns the values of all lines with that (lower-case) name.
func (f Fields) All(name string) []string {
	var v []string
	for _, l := range f {
		if l.Name == name {
			v = append(v, l.Value)
		}
	}
	return v
}

// Get returns the value of the first line with that name, or "".
func (f Fields) Get(name string) string {
	if v := f.All(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// A Request is a complete request.
type Request struct {
	Method, Target string
	Fields         Fields
	Body           []byte // the first KeepBody bytes
	Length         int64  // of the whole body
	Trailer        Fields
	Conn           int // number of the origin's connection, from 1
}

// String is the method, the target and, if there is one, the body.
func (r *Request) String() string {
	s := r.Method + " " + r.Target
	if r.Length > 0 {
		s += " " + string(r.Body)
	}
	return s
}

// A Response is a response, complete or not.
type Response struct {
	Interim  []int // status codes of the 1xx responses before it
	Status   int
	Fields   Fields
	Body     []byte // the first KeepBody bytes
	Length   int64  // of the whole body
	Trailer  Fields
	Complete bool // it has ended as its framing says
	Close    bool // the connection ends with it
}

// KeepBody is how many bytes of a body are kept. Longer ones are counted.
const KeepBody = 1 << 20

// A Violation is what a message did that it must not do.
type Violation struct{ What string }

// Error implements error.
func (v *Violation) Error() string { return "violation: " + v.What }

func violation(format string, args ...any) error {
	return &Violation{What: fmt.Sprintf(format, args...)}
}

// isToken reports whether s is a token (RFC 9110 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// parseLine parses one field line without its CRLF (RFC 9112 5).
func parseLine(line string) (Field, error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return Field{}, violation("field line %q without a colon", line)
	}
	if !isToken(name) {
		return Field{}, violation("field name %q is not a token", name)
	}
	value = strings.Trim(value, " \t")
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return Field{}, violation("field %s has a control byte in %q", name, value)
		}
	}
	return Field{strings.ToLower(name), value}, nil
}

// framing is how a body is delimited.
type framing struct {
	chunked bool
	length  int64 // if hasLength
	has     bool  // a content-length was there
}

// parseFraming applies RFC 9112 6.1 and 6.2, strictly: never both, never twice.
func parseFraming(f Fields) (framing, error) {
	te, cl := f.All("transfer-encoding"), f.All("content-length")
	switch {
	case len(te) > 0 && len(cl) > 0:
		return framing{}, violation("both transfer-encoding %q and content-length %q", te, cl)
	case len(te) > 1:
		return framing{}, violation("transfer-encoding twice: %q", te)
	case len(cl) > 1:
		return framing{}, violation("content-length twice: %q", cl)
	case len(te) == 1:
		if !strings.EqualFold(te[0], "chunked") {
			return framing{}, violation("transfer-encoding %q", te[0])
		}
		return framing{chunked: true}, nil
	case len(cl) == 1:
		n, err := parseLength(cl[0], 10)
		if err != nil {
			return framing{}, err
		}
		return framing{length: n, has: true}, nil
	}
	return framing{}, nil
}

// parseLength parses 1*DIGIT or, with base 16, 1*HEXDIG.
func parseLength(s string, base int64) (int64, error) {
	const digits = "0123456789abcdef"
	if s == "" {
		return 0, violation("empty length")
	}
	var n int64
	for _, c := range []byte(strings.ToLower(s)) {
		d := int64(strings.IndexByte(digits, c))
		if d < 0 || d >= base {
			return 0, violation("length %q is not a number", s)
		}
		if n > (1<<62)/base {
			return 0, violation("length %q is too large", s)
		}
		n = n*base + d
	}
	return n, nil
}

// list splits the members of comma-separated lists, in lower case.
func list(values []string) []string {
	var m []string
	for _, v := range values {
		for e := range strings.SplitSeq(v, ",") {
			if e = strings.ToLower(strings.Trim(e, " \t")); e != "" {
				m = append(m, e)
			}
		}
	}
	return m
}
