package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// printer writes the messages that this package does not write itself.
var printer = message.NewPrinter(language.English)

// A Problem is what a schema has against settings.
type Problem struct {
	// Key is the setting, with the tables and lists that it is in: "exempt.clients[0]".
	// Of one that is missing it is the table that lacks it; "" is the settings as a whole.
	Key string
	// Path is the same in parts.
	Path []string
	// Text says what is wrong, naming the setting. It may show a part of its value.
	Text string
}

// Check holds settings, as the guest gets them, against the schema. Settings that are not
// JSON are taken as a text; no bytes are an empty table. The result is nil if
// all is fine, and otherwise sorted.
func (s *Schema) Check(settings []byte) []Problem {
	var v any = map[string]any{}
	if len(bytes.TrimSpace(settings)) > 0 {
		var err error
		if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(settings)); err != nil {
			v = string(settings)
		}
	}
	if err := checkNumbers(v); err != nil {
		return []Problem{{Text: err.Error()}}
	}
	err := s.schema.Validate(v)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Problem{{Text: "the settings cannot be checked: " + shownText(err.Error())}}
	}
	x := explainer{s: s, settings: v}
	x.add(e)
	slices.SortFunc(x.problems, func(a, b Problem) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.Text, b.Text)
	})
	x.problems = slices.CompactFunc(x.problems, func(a, b Problem) bool { return a.Key == b.Key && a.Text == b.Text })
	return x.problems[:min(len(x.problems), maxProblems)]
}

// checkNumbers refuses numbers in settings that take more memory than their text.
func checkNumbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		if checkNumber(string(v)) != nil {
			return fmt.Errorf("the settings have the number %s, which is too long or too large", clip(string(v)))
		}
	case []any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// An explainer turns what the library found into words about settings.
type explainer struct {
	s        *Schema
	settings any
	problems []Problem
}

// add adds the problems in e, which are its innermost causes.
func (x *explainer) add(e *jsonschema.ValidationError) {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		if len(e.Causes) > 0 {
			x.alternatives(e)
			return
		}
	case *kind.Contains:
		x.say(e, "lacks a value that has to be in it")
		return
	}
	if len(e.Causes) == 0 {
		x.leaf(e)
		return
	}
	for _, c := range e.Causes {
		x.add(c)
	}
}

// alternatives explains why none of several forms fits: by the one that was meant, if
// the type of the value tells, and else by all that they ask for.
func (x *explainer) alternatives(e *jsonschema.ValidationError) {
	var meant []*jsonschema.ValidationError
	var types []string
	for _, c := range e.Causes {
		want := wantedTypes(c, len(e.InstanceLocation))
		if want == nil {
			meant = append(meant, c)
		}
		types = append(types, want...)
	}
	switch {
	case len(meant) == 1:
		x.add(meant[0])
		return
	case len(meant) == 0:
		slices.Sort(types)
		x.say(e, "must be "+anyOf(articles(slices.Compact(types)))+x.got(e.InstanceLocation))
		return
	}
	var texts []string
	for _, c := range meant {
		in := explainer{s: x.s, settings: x.settings}
		in.add(c)
		for _, p := range in.problems {
			texts = append(texts, p.Text)
		}
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) == 1 {
		x.problems = append(x.problems, Problem{x.key(e.InstanceLocation), e.InstanceLocation, texts[0]})
		return
	}
	x.say(e, "has none of its forms: "+strings.Join(texts, "; or "))
}

// wantedTypes returns the types that e asks for if the type of the value at depth is all
// that it has against it, and else nil.
func wantedTypes(e *jsonschema.ValidationError, depth int) []string {
	if t, ok := e.ErrorKind.(*kind.Type); ok && len(e.InstanceLocation) == depth {
		return t.Want
	}
	if c, ok := e.ErrorKind.(*kind.Const); ok && len(e.InstanceLocation) == depth && len(e.Causes) == 0 {
		if _, isText := c.Want.(string); !isText {
			return []string{show(c.Want)}
		}
	}
	var types []string
	for _, c := range e.Causes {
		want := wantedTypes(c, depth)
		if want == nil {
			return nil
		}
		types = append(types, want...)
	}
	return types
}

// leaf explains one thing that does not hold.
func (x *explainer) leaf(e *jsonschema.ValidationError) {
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			x.unknown(e, append(slices.Clone(e.InstanceLocation), name))
		}
	case *kind.FalseSchema:
		x.unknown(e, e.InstanceLocation)
	case *kind.Required:
		x.missing(e, k.Missing)
	case *kind.DependentRequired:
		x.missing(e, k.Missing)
	case *kind.Dependency:
		x.missing(e, k.Missing)
	case *kind.Type:
		x.say(e, "must be "+anyOf(articles(k.Want))+x.got(e.InstanceLocation))
	case *kind.Enum:
		x.notOne(e, k)
	case *kind.Const:
		x.say(e, "must be "+show(k.Want))
	case *kind.Pattern:
		x.say(e, "is "+show(k.Got)+", which does not have its form"+x.form(e, k.Want))
	case *kind.Minimum:
		x.say(e, "is "+number(k.Got)+"; the least is "+number(k.Want))
	case *kind.Maximum:
		x.say(e, "is "+number(k.Got)+"; the most is "+number(k.Want))
	case *kind.MinLength:
		if k.Got == 0 {
			x.say(e, "must not be empty")
			return
		}
		x.say(e, fmt.Sprintf("has %d characters; the least is %d", k.Got, k.Want))
	case *kind.MaxLength:
		x.say(e, fmt.Sprintf("has %d characters; the most is %d", k.Got, k.Want))
	case *kind.MinItems:
		x.say(e, fmt.Sprintf("has %d entries; the least is %d", k.Got, k.Want))
	case *kind.MaxItems:
		x.say(e, fmt.Sprintf("has %d entries; the most is %d", k.Got, k.Want))
	case *kind.UniqueItems:
		x.say(e, "has the same entry twice")
	case *kind.Not:
		x.say(e, "has a value that is not allowed")
	default:
		x.say(e, "does not fit: "+shownText(clip(e.ErrorKind.LocalizedString(printer))))
	}
}

// say adds a problem with the value at e.
func (x *explainer) say(e *jsonschema.ValidationError, text string) {
	key := x.key(e.InstanceLocation)
	subject := "setting " + strconv.Quote(key)
	if key == "" {
		subject = "the settings as a whole"
		text = plural(text)
	}
	x.problems = append(x.problems, Problem{key, e.InstanceLocation, subject + " " + text})
}

// plural makes what is said of one setting fit all of them.
func plural(text string) string {
	verb, rest, _ := strings.Cut(text, " ")
	if many := map[string]string{"has": "have", "is": "are", "does": "do", "lacks": "lack"}[verb]; many != "" {
		verb = many
	}
	for _, r := range [][2]string{{", which does not have its form", ", which do not have their form"}, {"none of its forms", "none of their forms"}} {
		rest = strings.Replace(rest, r[0], r[1], 1)
	}
	return verb + " " + rest
}

// missing adds a problem for each setting that has to be there.
func (x *explainer) missing(e *jsonschema.ValidationError, names []string) {
	key := x.key(e.InstanceLocation)
	for _, name := range names {
		full := x.key(append(slices.Clone(e.InstanceLocation), clip(name)))
		text := "setting " + strconv.Quote(full) + " is missing"
		if node, ok := x.node(e.SchemaURL, "properties", name); ok {
			text += examples(node)
		}
		x.problems = append(x.problems, Problem{key, e.InstanceLocation, text})
	}
}

// unknown adds the problem of a setting that the schema does not have.
func (x *explainer) unknown(e *jsonschema.ValidationError, path []string) {
	text := "setting " + strconv.Quote(x.key(path)) + " is not in the plugin's schema"
	var known []string
	if node, ok := x.node(e.SchemaURL); ok {
		known = properties(x.s.doc, node, 0)
	}
	if _, ok := e.ErrorKind.(*kind.FalseSchema); ok && len(path) == 1 {
		known = x.s.Keys()
	}
	if len(known) > 0 {
		text += "; it knows " + nameList(known) + suggest(path[max(len(path)-1, 0)], known)
	}
	x.problems = append(x.problems, Problem{x.key(path), path, text})
}

// notOne says which values there are.
func (x *explainer) notOne(e *jsonschema.ValidationError, k *kind.Enum) {
	var shown, words []string
	for _, w := range k.Want {
		shown = append(shown, show(w))
		if s, ok := w.(string); ok {
			words = append(words, s)
		}
	}
	text := "is " + show(k.Got) + ", which is not one of " + strings.Join(shown, ", ")
	if s, ok := k.Got.(string); ok {
		text += suggest(s, words)
	}
	x.say(e, text)
}

// form says what a text should look like: by the schema's examples, which people can
// read, or else by the pattern.
func (x *explainer) form(e *jsonschema.ValidationError, pattern string) string {
	if node, ok := x.node(e.SchemaURL); ok {
		if text := examples(node); text != "" {
			return text
		}
	}
	return ": " + shownName(pattern)
}

// nameList lists names of the schema, which may be many.
func nameList(names []string) string {
	var list []string
	for _, name := range names[:min(len(names), maxNames)] {
		list = append(list, shownName(name))
	}
	text := strings.Join(list, ", ")
	if n := len(names) - len(list); n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// shownName is a name, or what else one word of a schema is, as people are shown it: cut,
// and quoted unless all of it is printable. The schema is in a module that may be anybody's.
func shownName(name string) string {
	name = clip(name)
	if name == "" || strings.ContainsFunc(name, notPrintable) {
		return strconv.Quote(name)
	}
	return name
}

func notPrintable(r rune) bool { return !strconv.IsPrint(r) }

// shownText is a message with words of a schema in it, with what is not printable as in a
// Go string literal.
func shownText(text string) string {
	if !strings.ContainsFunc(text, notPrintable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if notPrintable(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// examples returns the examples that a schema gives.
func examples(node any) string {
	m, _ := node.(map[string]any)
	list, _ := m["examples"].([]any)
	if len(list) == 0 {
		return ""
	}
	var shown []string
	for _, v := range list[:min(len(list), 3)] {
		shown = append(shown, show(v))
	}
	return "; for example " + strings.Join(shown, ", ")
}

// node returns the part of the schema that a URL of the library's names, and what is
// below it.
func (x *explainer) node(schema string, below ...string) (any, bool) {
	_, fragment, _ := strings.Cut(schema, "#")
	v, err := resolve(x.s.doc, "#"+fragment)
	if err != nil {
		return nil, false
	}
	for _, name := range below {
		m, _ := v.(map[string]any)
		if v = m[name]; v == nil {
			return nil, false
		}
	}
	return v, true
}

// key writes a path as configurations do: tables by dots, entries of lists in brackets.
func (x *explainer) key(path []string) string {
	var b strings.Builder
	v := x.settings
	for _, token := range path {
		if list, ok := v.([]any); ok {
			b.WriteString("[" + token + "]")
			v = nil
			if i, err := strconv.Atoi(token); err == nil && i < len(list) {
				v = list[i]
			}
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
		m, _ := v.(map[string]any)
		v = m[token]
	}
	return b.String()
}

// got says of which type the value at path is.
func (x *explainer) got(path []string) string {
	v := x.settings
	for _, token := range path {
		switch t := v.(type) {
		case map[string]any:
			v = t[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i >= len(t) {
				return ""
			}
			v = t[i]
		}
	}
	switch v := v.(type) {
	case string:
		return ", not a string"
	case bool:
		return ", not " + strconv.FormatBool(v)
	case json.Number:
		return ", not a number"
	case []any:
		return ", not a list"
	case map[string]any:
		return ", not a table"
	}
	return ""
}

// articles writes the names of JSON's types as TOML has them.
func articles(types []string) []string {
	var out []string
	for _, t := range types {
		switch t {
		case "object":
			t = "a table"
		case "array":
			t = "a list"
		case "integer":
			t = "a whole number"
		case "string", "number", "boolean":
			t = "a " + t
		}
		out = append(out, t)
	}
	return out
}

// anyOf joins with commas and "or".
func anyOf(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil || !utf8.Valid(b) {
		return fmt.Sprintf("%q", v)
	}
	return shownText(clip(string(b))) // JSON has DEL, and others that terminals obey, as they are
}

func number(r *big.Rat) string {
	if r.IsInt() {
		return clip(r.Num().String())
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}
