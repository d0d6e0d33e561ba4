package config

import (
	"bytes"
	"errors"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A node is one value of a file with its place. Values come from the decoder;
// places from a second parser, because the decoder keeps none.
type node struct {
	pos   Pos
	key   string           // full key, dotted, for Problem.Key
	val   any              // string, int64, float64, bool or time.Time; nil for tables and lists
	table map[string]*node // non-nil: a table
	list  []*node          // with array
	array bool             // a list
}

// kind names the type of n as TOML does.
func (n *node) kind() string {
	switch {
	case n.table != nil:
		return "a table"
	case n.array:
		return "a list"
	}
	switch n.val.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	default:
		return "a date"
	}
}

// names returns the keys of a table, sorted.
func (n *node) names() []string {
	names := make([]string, 0, len(n.table))
	for k := range n.table {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

// parseTree decodes one file.
func parseTree(file string, content []byte) (*node, *Problem) {
	if pos, ok := tooDeep(file, content); ok {
		return nil, &Problem{Pos: pos, Code: CodeSyntax, Text: "nested deeper than " + strconv.Itoa(maxDepth) + " levels; is a bracket not closed?"}
	}
	b := treeBuilder{file: file, content: content}
	for i, c := range content {
		if c == '\n' {
			b.lines = append(b.lines, i+1)
		}
	}
	if off := invalidUTF8(content); off >= 0 {
		text := "is not UTF-8 text; save it as UTF-8"
		if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
			text = "is not UTF-8 text but UTF-16; save it as UTF-8"
		}
		return nil, &Problem{Pos: b.pos(off), Code: CodeSyntax, Text: text}
	}
	var root map[string]any
	if _, err := toml.Decode(string(content), &root); err != nil {
		p := &Problem{Pos: Pos{File: file}, Code: CodeSyntax, Text: "syntax: " + err.Error()}
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			// From the offset: the decoder's own line is that of the token after.
			p.Pos = b.pos(min(max(pe.Position.Start, 0), len(content)))
			p.Text = "syntax: " + oneLine(strings.TrimSuffix(pe.Message, "."))
		}
		if strings.HasSuffix(p.Text, "has already been defined") {
			p.Text += "; leave one of the two out"
		} else {
			p.Text += "; how TOML is written is at https://toml.io/en/v1.0.0"
		}
		return nil, p
	}
	b.at = positions(content)
	return b.build(root, "", "", Pos{File: file}), nil
}

// invalidUTF8 returns the offset of the first byte of content that is not UTF-8
// (TOML is nothing else), or -1. The decoder would take some of it for a byte
// order mark and skip it.
func invalidUTF8(content []byte) int {
	for i := 0; i < len(content); {
		r, n := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// treeBuilder joins decoded values and places.
type treeBuilder struct {
	file    string
	content []byte
	at      map[string]int // offset of a path, parts joined by NUL
	lines   []int          // offsets of the second and later lines
}

// build makes the node of v at path; near is the place of what is around it,
// used where the second parser has none.
func (b *treeBuilder) build(v any, path, key string, near Pos) *node {
	n := &node{pos: near, key: key}
	if off, ok := b.at[path]; ok && path != "" {
		n.pos = b.pos(off)
	}
	switch v := v.(type) {
	case map[string]any:
		n.table = make(map[string]*node, len(v))
		for k, e := range v {
			sub := k
			if key != "" {
				sub = key + "." + k
			}
			n.table[k] = b.build(e, path+"\x00"+k, sub, n.pos)
		}
	case []any:
		n.array = true
		for i, e := range v {
			s := strconv.Itoa(i)
			n.list = append(n.list, b.build(e, path+"\x00"+s, key+"["+s+"]", n.pos))
		}
	case []map[string]any:
		n.array = true
		for i, e := range v {
			s := strconv.Itoa(i)
			n.list = append(n.list, b.build(e, path+"\x00"+s, key+"["+s+"]", n.pos))
		}
	default:
		n.val = v
	}
	return n
}

// pos turns an offset into line and column; columns count characters.
func (b *treeBuilder) pos(off int) Pos {
	i := sort.SearchInts(b.lines, off+1)
	start := 0
	if i > 0 {
		start = b.lines[i-1]
	}
	return Pos{File: b.file, Line: i + 1, Col: utf8.RuneCount(b.content[start:off]) + 1}
}

// tooDeep reports where brackets nest deeper than maxDepth. It does not know
// strings and comments, in which unbalanced brackets are rare and never so many.
func tooDeep(file string, content []byte) (Pos, bool) {
	depth, line, start := 0, 1, 0
	for i, c := range content {
		switch c {
		case '[', '{':
			if depth++; depth > maxDepth {
				return Pos{File: file, Line: line, Col: utf8.RuneCount(content[start:i]) + 1}, true
			}
		case ']', '}':
			depth = max(depth-1, 0)
		case '\n':
			line, start = line+1, i+1
		}
	}
	return Pos{}, false
}

// positions returns the offset of every key, table header and list element of
// content, which the decoder has accepted.
func positions(content []byte) map[string]int {
	w := posWalker{content: content, at: map[string]int{}, count: map[string]int{}}
	w.parser.Reset(content)
	table := ""
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = w.header(e)
		case unstable.KeyValue:
			w.keyValue(table, e)
		default: // comments
		}
	}
	return w.at
}

// posWalker records offsets.
type posWalker struct {
	parser  unstable.Parser
	content []byte
	at      map[string]int
	count   map[string]int // elements of an array of tables so far
}

// note records the first place of path.
func (w *posWalker) note(path string, off int) {
	if _, ok := w.at[path]; !ok {
		w.at[path] = off
	}
}

// header records [a.b] or [[a.b]] and returns the path that its keys are under.
func (w *posWalker) header(e *unstable.Node) string {
	path, start := "", -1
	for it := e.Key(); it.Next(); {
		k := it.Node()
		if start < 0 {
			start = w.bracket(int(k.Raw.Offset), e.Kind == unstable.ArrayTable)
		}
		if c := w.count[path]; c > 0 {
			path += "\x00" + strconv.Itoa(c-1)
		}
		path += "\x00" + string(k.Data)
		w.note(path, start)
	}
	if e.Kind == unstable.ArrayTable {
		w.count[path]++
	}
	if c := w.count[path]; c > 0 {
		path += "\x00" + strconv.Itoa(c-1)
		w.note(path, start)
	}
	return path
}

// bracket returns the offset of the [ or [[ before a header's first key.
func (w *posWalker) bracket(off int, double bool) int {
	line := w.content[:off]
	trimmed := strings.TrimRight(string(line[max(0, off-64):]), " \t")
	n := 1
	if double {
		n = 2
	}
	for ; n > 0 && strings.HasSuffix(trimmed, "["); n-- {
		trimmed = strings.TrimRight(trimmed[:len(trimmed)-1], " \t")
		off--
	}
	return off
}

// keyValue records a key, its dotted parents and what is in its value.
func (w *posWalker) keyValue(path string, e *unstable.Node) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		path += "\x00" + string(k.Data)
		w.note(path, int(k.Raw.Offset))
	}
	w.value(path, e.Value())
}

// value records the elements of a list and the keys of an inline table.
func (w *posWalker) value(path string, v *unstable.Node) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if c := it.Node(); c.Kind == unstable.KeyValue {
				w.keyValue(path, c)
			}
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			c := it.Node()
			if c.Kind == unstable.Comment {
				continue
			}
			elem := path + "\x00" + strconv.Itoa(i)
			if c.Raw.Length > 0 {
				w.note(elem, int(c.Raw.Offset))
			}
			w.value(elem, c)
			i++
		}
	default: // a scalar stands where its key does
	}
}

// index knows where each key of the merged tree stands.
type index map[string]Pos

// add records n and all below it.
func (x index) add(n *node) {
	if n.key != "" {
		x[n.key] = n.pos
	}
	for _, c := range n.table {
		x.add(c)
	}
	for _, c := range n.list {
		x.add(c)
	}
}

// at returns the place of key or of the nearest table around it.
func (x index) at(file, key string) Pos {
	for key != "" {
		if p, ok := x[key]; ok {
			return p
		}
		key = key[:max(strings.LastIndexByte(key, '.'), strings.LastIndexByte(key, '['), 0)]
	}
	return Pos{File: file}
}
