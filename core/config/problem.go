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
	// one line each.
	Text string `json:"text"`
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

// At returns the place of key, a dotted path such as "routes.api.upstream", or
// of the nearest table around it, or of the file. Names that contain a dot are
// found too.
func (f *File) At(key string) Pos { return f.index.at(f.Path, key) }
