package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Pos is a place in a file. The zero Pos is no place.
type Pos struct {
	// File as it was named or found by an include.
	File string `json:"file"`
	// Line, from 1; 0: the file as a whole.
	Line int `json:"line,omitempty"`
	// Col in characters, from 1.
	Col int `json:"column,omitempty"`
}

// String returns file:line:column, leaving out what is not known.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Col)
}

// compare orders by file, line and column.
func (p Pos) compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}

// A Problem is one mistake in a configuration.
type Problem struct {
	// Pos is the key or value that is wrong.
	Pos Pos `json:"pos"`
	// Key is its full key, e.g. "routes.api.retry.on"; "" for a whole file.
	Key string `json:"key,omitempty"`
	// Text says what is wrong and what would be right, beginning with the
	// object it is about: `route "api": unknown key "upstreem" ...`. Load's are
	// one line each. See [Problem.Parts].
	Text string `json:"text"`
	// Code is what kind of problem it is, in a word that does not change with the
	// wording; "" for one that the other codes do not tell from others.
	Code string `json:"code,omitempty"`
}

// Codes of the problems that Load finds.
const (
	CodeSyntax      = "syntax"       // the file is not TOML
	CodeUnknownKey  = "unknown_key"  // there is no such key
	CodeUnsupported = "unsupported"  // a key or a value of a later version
	CodeWrongType   = "wrong_type"   // a string where a number is wanted, say
	CodeOutOfRange  = "out_of_range" // a number that is too small or too large
	CodeBadChoice   = "bad_choice"   // none of the words that are allowed
)

// WithCode returns p with a code, unless it has one.
func (p Problem) WithCode(code string) Problem {
	if p.Code == "" {
		p.Code = code
	}
	return p
}

// hints are what begins the part of a message that says what would be right, and what
// that part begins with when it stands alone.
var hints = [...]struct{ in, alone string }{
	{" (did you mean ", "did you mean "},
	{"; ", ""},
	{", want ", "want "},
	{": write ", "write "},
	{", allowed is ", "allowed is "},
	{" is not one of ", "one of "},
	{", e.g. ", "for example "},
	{" such as ", "for example "},
	{", the only one is ", "the only one is "},
}

// Parts takes Text apart: what is wrong, and what would be right; "" if Text does not say
// that. Messages are written as one sentence, "what is wrong; what would be right", in
// which a colon with "write", or "want" and the like may stand for the semicolon.
func (p Problem) Parts() (reason, suggestion string) {
	quote := byte(0) // in which a value of the file is shown, whatever is in it
	for i := 0; i < len(p.Text); i++ {
		c := p.Text[i]
		switch {
		case quote == '"' && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		default:
			for _, h := range hints {
				if rest, ok := strings.CutPrefix(p.Text[i:], h.in); ok {
					if strings.HasPrefix(h.in, " (") {
						rest = strings.TrimSuffix(rest, ")")
					}
					return p.Text[:i], h.alone + rest
				}
			}
		}
	}
	return p.Text, ""
}

// Error returns the problem as one line, its place first.
func (p Problem) Error() string {
	if s := p.Pos.String(); s != "" {
		return s + "  " + p.Text
	}
	return p.Text
}

// Problems is all that is wrong with a configuration, sorted by place. It is
// the error type of Load.
type Problems []Problem //nolint:recvcheck // Sort shortens the list; Error is of the value, which errors.As looks for

// Error returns one line per problem.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Sort orders ps by place and text and drops repeats.
func (ps *Problems) Sort() {
	slices.SortStableFunc(*ps, func(a, b Problem) int {
		return cmp.Or(a.Pos.compare(b.Pos), cmp.Compare(a.Text, b.Text))
	})
	*ps = slices.Compact(*ps)
}

// Problemf makes a Problem about key, a dotted path such as
// "routes.api.upstream", placed at that key or the nearest table around it.
// For what only the builder of a running proxy can find out.
func (f *File) Problemf(key, format string, args ...any) Problem {
	return Problem{Pos: f.At(key), Key: key, Text: fmt.Sprintf(format, args...)}
}

// oneLine escapes control characters: quoted keys may have them, and so may
// messages of the decoder, which show what they stumbled over.
func oneLine(s string) string {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if !strings.ContainsFunc(s, control) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if control(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Has reports whether the file, or one that it includes, sets key, a dotted path such as
// "routes.api.timeout", or something in it. What has its default is not set.
func (f *File) Has(key string) bool { _, ok := f.index[key]; return ok }

// At returns the place of key, a dotted path such as "routes.api.upstream", or
// of the nearest table around it, or of the file. Names that contain a dot are
// found too.
func (f *File) At(key string) Pos { return f.index.at(f.Path, key) }
