package wasmtest

import (
	"fmt"
	"strconv"
	"strings"
)

// A node is an S-expression: a list, a string or an atom.
type node struct {
	line int
	list []node
	text string // of an atom, or the bytes of a string
	kind byte   // '(' list, '"' string, 'a' atom
}

// head returns the first atom of a list.
func (n *node) head() string {
	if n.kind == '(' && len(n.list) > 0 && n.list[0].kind == 'a' {
		return n.list[0].text
	}
	return ""
}

// name reports whether n is an identifier like $x.
func (n *node) name() bool { return n.kind == 'a' && strings.HasPrefix(n.text, "$") }

// A watError is a mistake in a source text. The assembler panics with it, as the parser
// of a format that nobody but tests writes.
type watError struct {
	line int
	text string
}

func (e watError) Error() string { return fmt.Sprintf("wat: line %d: %s", e.line, e.text) }

func (n *node) fail(format string, args ...any) {
	panic(watError{n.line, fmt.Sprintf(format, args...)})
}

// A reader cuts source text into nodes.
type reader struct {
	src  string
	at   int
	line int
}

// skip skips white space and comments.
func (r *reader) skip() {
	for r.at < len(r.src) {
		rest := r.src[r.at:]
		switch {
		case rest[0] == '\n':
			r.line++
			r.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			r.at++
		case strings.HasPrefix(rest, ";;"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			r.at += end
		case strings.HasPrefix(rest, "(;"):
			end := strings.Index(rest, ";)")
			if end < 0 {
				panic(watError{r.line, "a comment does not end"})
			}
			r.line += strings.Count(rest[:end], "\n")
			r.at += end + 2
		default:
			return
		}
	}
}

func (r *reader) node() node {
	r.skip()
	if r.at == len(r.src) {
		panic(watError{r.line, "the text ends early"})
	}
	n := node{line: r.line}
	switch r.src[r.at] {
	case '(':
		n.kind = '('
		r.at++
		for {
			if r.skip(); r.at < len(r.src) && r.src[r.at] == ')' {
				r.at++
				return n
			}
			n.list = append(n.list, r.node())
		}
	case ')':
		n.fail("unexpected )")
	case '"':
		n.kind, n.text = '"', r.str()
	default:
		n.kind = 'a'
		end := strings.IndexAny(r.src[r.at:], " \t\r\n()\";")
		if end < 0 {
			end = len(r.src) - r.at
		}
		n.text = r.src[r.at : r.at+end]
		r.at += end
	}
	return n
}

// str reads a string with its escapes: \t \n \r \" \' \\ and \hh.
func (r *reader) str() string {
	var b strings.Builder
	for r.at++; r.at < len(r.src) && r.src[r.at] != '"'; r.at++ {
		c := r.src[r.at]
		if c == '\n' {
			break
		}
		if c != '\\' || r.at+1 >= len(r.src) {
			b.WriteByte(c)
			continue
		}
		r.at++
		switch e := r.src[r.at]; e {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case '"', '\'', '\\':
			b.WriteByte(e)
		default:
			v, err := strconv.ParseUint(r.src[r.at:min(r.at+2, len(r.src))], 16, 8)
			if err != nil {
				panic(watError{r.line, "an escape that is not known"})
			}
			b.WriteByte(byte(v))
			r.at++
		}
	}
	if r.at >= len(r.src) || r.src[r.at] != '"' {
		panic(watError{r.line, "a string does not end"})
	}
	r.at++
	return b.String()
}

// integer reads an integer of at most bits, signed or not, as the signed one with the same
// bits.
func (n *node) integer(bits int) int64 {
	s := strings.ReplaceAll(n.text, "_", "")
	if v, err := strconv.ParseInt(s, 0, bits); err == nil && n.kind == 'a' {
		return v
	}
	v, err := strconv.ParseUint(s, 0, bits)
	if err != nil || n.kind != 'a' {
		n.fail("%q is no integer of %d bits", n.text, bits)
	}
	return int64(v) << (64 - bits) >> (64 - bits) //nolint:gosec // the same bits
}
