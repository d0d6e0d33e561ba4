package manifest

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// patterns bounds what the regular expressions of a schema cost. A few bytes of one can
// ask for gigabytes, and they are compiled where a schema is read.
type patterns struct{ size int }

// check looks at the patterns in v, which is at the JSON pointer place of the schema. What
// is not known to be data is taken for a schema. v is not nested deeper than walker allows.
func (p *patterns) check(v any, place string) error {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := p.check(e, place+"/"+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) { // the same error each time
			at := place + "/" + pointerToken.Replace(k)
			switch e := v[k].(type) {
			case string:
				if k == "pattern" {
					if err := p.add(e, at); err != nil {
						return err
					}
				}
			case map[string]any:
				if k == "patternProperties" {
					for _, pattern := range slices.Sorted(maps.Keys(e)) {
						if err := p.add(pattern, at); err != nil {
							return err
						}
					}
				}
				if err := p.check(e, at); err != nil {
					return err
				}
			default:
				if err := p.check(e, at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// pointerToken escapes a part of a JSON pointer (RFC 6901, section 3).
var pointerToken = strings.NewReplacer("~", "~0", "/", "~1")

// add counts a pattern. One that is malformed is left to the compiler, which says what is
// wrong with it, and has no size.
func (p *patterns) add(pattern, at string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("the schema has a pattern of %d bytes at %s; the most is %d", len(pattern), shownName(at), maxPattern)
	}
	size := len(pattern)
	if re, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		size = instructions(re)
	}
	if p.size += size + patternSize; p.size > maxPatternSize {
		return fmt.Errorf("the schema's patterns are too large at %s: with its repeats written out, %s has %d instructions, and all together have more than %d",
			shownName(at), strconv.Quote(clip(pattern)), size, maxPatternSize)
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
