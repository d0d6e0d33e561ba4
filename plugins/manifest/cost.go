package manifest

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// A cost bounds what it takes to compile a schema, which is done where it is read, and
// for which its size is no measure: a few bytes of a regular expression can ask for
// gigabytes, and each part of the schema is filed under its JSON pointer, which has the
// names of all that it is in.
type cost struct {
	size     int      // of the patterns
	pointers int      // bytes of the pointers of all values
	length   int      // bytes of the pointer of what is looked at
	path     []string // the same in parts; joined for errors only
}

// check counts v, which is not nested deeper than walker allows. What is not known to be
// data is taken for a schema.
func (c *cost) check(v any) error {
	if c.pointers += c.length; c.pointers > maxPointers {
		return fmt.Errorf("the schema has too long names for so many values at %s: their JSON pointers have more than %d bytes", c.place(), maxPointers)
	}
	depth, length := len(c.path), c.length
	defer func() { c.path, c.length = c.path[:depth], length }()
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			token := strconv.Itoa(i)
			c.path, c.length = append(c.path[:depth], token), length+1+len(token)
			if err := c.check(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) { // the same error each time
			c.path, c.length = append(c.path[:depth], k), length+1+len(k)
			if err := c.keyword(k, v[k]); err != nil {
				return err
			}
			if err := c.check(v[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyword counts the patterns that the value of one key is, or has for its keys.
func (c *cost) keyword(k string, v any) error {
	switch v := v.(type) {
	case string:
		if k == "pattern" {
			return c.add(v)
		}
	case map[string]any:
		if k != "patternProperties" {
			break
		}
		for _, pattern := range slices.Sorted(maps.Keys(v)) {
			if err := c.add(pattern); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is where in the schema c is, as a JSON pointer.
func (c *cost) place() string {
	var b strings.Builder
	for _, token := range c.path {
		b.WriteString("/" + pointerToken.Replace(clip(token)))
	}
	return shownText(b.String())
}

// pointerToken escapes a part of a JSON pointer (RFC 6901, section 3).
var pointerToken = strings.NewReplacer("~", "~0", "/", "~1")

// add counts a pattern. One that is malformed is left to the compiler, which says what is
// wrong with it, and has no size.
func (c *cost) add(pattern string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("the schema has a pattern of %d bytes at %s; the most is %d", len(pattern), c.place(), maxPattern)
	}
	size := len(pattern)
	if re, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		size = instructions(re)
	}
	if c.size += size + patternSize; c.size > maxPatternSize {
		return fmt.Errorf("the schema's patterns are too large at %s: with its repeats written out, %s has %d instructions, and all together have more than %d",
			c.place(), strconv.Quote(clip(pattern)), size, maxPatternSize)
	}
	return nil
}

// instructions is about how many re is compiled to. It does not overflow: the parser
// takes no repeat of more than 1000, those inside of it multiplied.
func instructions(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass:
		return 1 + len(re.Rune)/32 // borders of ranges; \pL has 1,300
	case syntax.OpConcat:
		return n
	case syntax.OpAlternate:
		return n + len(re.Sub)
	case syntax.OpRepeat: // x{2,4} is xx(x(x)?)?, and x{2,} is xxx*
		return n*re.Min + (n+1)*max(re.Max-re.Min, 1)
	default:
		return n + 2
	}
}
