// Package settings reads a plugin's settings: a JSON object, as the host merged it,
// into checked values with errors that name the key. It is what the shipped plugins
// use in place of encoding/json, which with reflection and fmt would add a
// megabyte to each .wasm.
//
// json.go is a strict and bounded JSON reader (RFC 8259; a name that appears twice, a
// lone surrogate and invalid UTF-8 are refused). table.go asks for keys by type and
// refuses the ones nobody asked for.
package settings

import (
	"strconv"
	"unicode/utf8"
)

// Limits of a document. They are far above any real settings; they bound what a
// broken or hostile document costs.
const (
	maxSize   = 256 << 10 // bytes of a document
	maxDepth  = 16        // arrays and objects inside each other
	maxValues = 16 << 10  // values of all kinds in a document
)

// Kind is the kind of a Value.
type Kind uint8

// The kinds of JSON values.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Object
)

// String returns the kind as an error message calls it.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case List:
		return "a list"
	case Object:
		return "a table"
	}
	return "kind " + strconv.Itoa(int(k))
}

// A Value is a JSON value.
type Value struct {
	Kind    Kind
	True    bool     // Bool: the value
	Text    string   // String: the text, unescaped; Number: the literal
	Items   []Value  // List
	Members []Member // Object, in the order of the document
}

// A Member is a name and a value of an object.
type Member struct {
	Name  string
	Value Value
}

// A SyntaxError says where a document is not what Parse accepts.
type SyntaxError struct {
	Offset  int // in bytes from the start
	Problem string
}

func (e *SyntaxError) Error() string {
	return "settings are not valid JSON: " + e.Problem + " at byte " + strconv.Itoa(e.Offset)
}

// Parse reads one JSON document. The result does not alias data. The error is a
// *SyntaxError.
func Parse(data []byte) (Value, error) {
	p := parser{data: data}
	if len(data) > maxSize {
		return Value{}, p.fail("more than " + strconv.Itoa(maxSize) + " bytes")
	}
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if p.space(); p.at < len(data) {
		return Value{}, p.fail("something follows the value")
	}
	return v, nil
}

// parser reads data from at.
type parser struct {
	data   []byte
	at     int
	values int
}

func (p *parser) fail(problem string) error {
	return &SyntaxError{p.at, problem}
}

// peek returns the next byte, 0 at the end (a NUL is valid nowhere outside a
// string, so the two need not be told apart).
func (p *parser) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// value reads a value inside depth arrays and objects.
func (p *parser) value(depth int) (Value, error) {
	if p.values++; p.values > maxValues {
		return Value{}, p.fail("more than " + strconv.Itoa(maxValues) + " values")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth == maxDepth {
			return Value{}, p.fail("nested deeper than " + strconv.Itoa(maxDepth) + " levels")
		}
		p.at++
		if c == '{' {
			return p.object(depth + 1)
		}
		return p.list(depth + 1)
	case c == '"':
		s, err := p.text()
		return Value{Kind: String, Text: s}, err
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case c == 't':
		return Value{Kind: Bool, True: true}, p.word("true")
	case c == 'f':
		return Value{Kind: Bool}, p.word("false")
	case c == 'n':
		return Value{}, p.word("null")
	case p.at >= len(p.data):
		return Value{}, p.fail("the document ends early")
	}
	return Value{}, p.fail("no value begins here")
}

func (p *parser) word(w string) error {
	if len(p.data)-p.at < len(w) || string(p.data[p.at:p.at+len(w)]) != w {
		return p.fail("no value begins here")
	}
	p.at += len(w)
	return nil
}

// object reads what follows '{'.
func (p *parser) object(depth int) (Value, error) {
	v := Value{Kind: Object}
	if p.space(); p.peek() == '}' {
		p.at++
		return v, nil
	}
	for {
		if p.space(); p.peek() != '"' {
			return Value{}, p.fail("a name in quotes is missing")
		}
		start := p.at
		name, err := p.text()
		if err != nil {
			return Value{}, err
		}
		for i := range v.Members {
			if v.Members[i].Name == name {
				return Value{}, &SyntaxError{start, Quote(name) + " appears twice"}
			}
		}
		if p.space(); p.peek() != ':' {
			return Value{}, p.fail("':' is missing")
		}
		p.at++
		m, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Members = append(v.Members, Member{name, m})
		more, err := p.next('}')
		if !more || err != nil {
			return v, err
		}
	}
}

// list reads what follows '['.
func (p *parser) list(depth int) (Value, error) {
	v := Value{Kind: List}
	if p.space(); p.peek() == ']' {
		p.at++
		return v, nil
	}
	for {
		item, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.Items = append(v.Items, item)
		more, err := p.next(']')
		if !more || err != nil {
			return v, err
		}
	}
}

// next reads a ',' and returns true, or the closing byte and returns false.
func (p *parser) next(closing byte) (bool, error) {
	p.space()
	switch p.peek() {
	case ',':
		p.at++
		return true, nil
	case closing:
		p.at++
		return false, nil
	}
	return false, p.fail("',' or '" + string(rune(closing)) + "' is missing")
}

// number reads a number literal (RFC 8259, section 6).
func (p *parser) number() (Value, error) {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	leading := p.peek()
	n := p.digits()
	if n == 0 || leading == '0' && n > 1 {
		return Value{}, &SyntaxError{start, "not a number"}
	}
	if p.peek() == '.' {
		p.at++
		if p.digits() == 0 {
			return Value{}, &SyntaxError{start, "not a number"}
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if p.digits() == 0 {
			return Value{}, &SyntaxError{start, "not a number"}
		}
	}
	return Value{Kind: Number, Text: string(p.data[start:p.at])}, nil
}

func (p *parser) digits() int {
	start := p.at
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at - start
}

// text reads a string, quotes included (RFC 8259, section 7).
func (p *parser) text() (string, error) {
	p.at++
	var out []byte
	for p.at < len(p.data) {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return string(out), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", p.fail("a control character in a string")
		default:
			r, n := utf8.DecodeRune(p.data[p.at:])
			if r == utf8.RuneError && n == 1 {
				return "", p.fail("invalid UTF-8")
			}
			out = append(out, p.data[p.at:p.at+n]...)
			p.at += n
		}
	}
	return "", p.fail("the document ends inside a string")
}

// escape reads an escape sequence, and the second one of a surrogate pair.
func (p *parser) escape() (rune, error) {
	start := p.at
	bad := &SyntaxError{start, "not an escape sequence"}
	if p.at+1 >= len(p.data) {
		return 0, bad
	}
	c := p.data[p.at+1]
	p.at += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := p.hex4()
		if !ok {
			return 0, bad
		}
		if r < 0xd800 || r > 0xdfff {
			return r, nil
		}
		// A high surrogate must be followed by a low one; alone neither is a
		// character, and turning it into U+FFFD would make two names equal.
		if r < 0xdc00 && p.at+1 < len(p.data) && p.data[p.at] == '\\' && p.data[p.at+1] == 'u' {
			p.at += 2
			if low, ok := p.hex4(); ok && 0xdc00 <= low && low <= 0xdfff {
				return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), nil
			}
		}
		return 0, &SyntaxError{start, "half of a surrogate pair"}
	}
	return 0, bad
}

// hex4 reads four hexadecimal digits.
func (p *parser) hex4() (rune, bool) {
	if p.at+4 > len(p.data) {
		return 0, false
	}
	var r rune
	for _, c := range p.data[p.at : p.at+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.at += 4
	return r, true
}
