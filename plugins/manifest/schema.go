package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaURL is the name under which the compiler knows a schema.
const schemaURL = "wproxy:///schema.json"

// A Schema is a JSON Schema of a plugin's settings. It is immutable.
type Schema struct {
	text   []byte
	doc    any // the same as a tree
	schema *jsonschema.Schema
}

// Compile reads a schema, of draft 2020-12 if it does not say another one. The error
// says what is wrong with it. References stay inside of the schema and must not lead
// back to where they are. text is not kept.
func Compile(text []byte) (*Schema, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("the schema has %d bytes; the most is %d", len(text), maxManifest)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	w := walker{root: doc}
	if err := w.schema(doc, 0); err != nil {
		return nil, err
	}
	if err := new(cost).check(doc); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("the schema cannot be used: %w", schemaError(err))
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("not a JSON Schema: %w", schemaError(err))
	}
	return &Schema{slices.Clone(text), doc, s}, nil
}

// noLoader loads nothing: a schema has no say in what is read or fetched here.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(u string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: a schema has to be complete in itself", clip(u))
}

// schemaError takes the name that nobody has given out of a message, and makes it one line.
func schemaError(err error) error {
	if e, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if v, ok := errors.AsType[*jsonschema.ValidationError](e.Err); ok {
			leaf := v
			for len(leaf.Causes) > 0 {
				leaf = leaf.Causes[0]
			}
			return fmt.Errorf("at /%s: %s", shownText(strings.Join(leaf.InstanceLocation, "/")), shownText(leaf.ErrorKind.LocalizedString(printer)))
		}
	}
	return errors.New(shownText(strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), schemaURL, "")), " ")))
}

// JSON returns the schema as it was written. It must not be changed.
func (s *Schema) JSON() json.RawMessage { return s.text }

// Keys returns the names of the settings that the schema describes at its top level, sorted.
func (s *Schema) Keys() []string { return properties(s.doc, s.doc, 0) }

// Required returns the names of the settings that have to be there, sorted.
func (s *Schema) Required() []string {
	m, _ := s.doc.(map[string]any)
	list, _ := m["required"].([]any)
	var names []string
	for _, v := range list {
		if name, ok := v.(string); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// properties returns the names that a schema describes, in its own properties, in those of
// what it refers to, and in those of its alternatives.
func properties(root, node any, depth int) []string {
	m, _ := node.(map[string]any)
	if m == nil || depth > maxDepth {
		return nil
	}
	var names []string
	p, _ := m["properties"].(map[string]any)
	for name := range p {
		names = append(names, name)
	}
	if ref, ok := m["$ref"].(string); ok {
		if to, err := resolve(root, ref); err == nil {
			names = append(names, properties(root, to, depth+1)...)
		}
	}
	for _, k := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := m[k].([]any)
		for _, sub := range list {
			names = append(names, properties(root, sub, depth+1)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A walker bounds what a check with a schema can cost.
type walker struct {
	root  any
	nodes int
}

// schema walks v and what it refers to. Whatever is not known to be data is taken for a
// schema, which counts too much and never too little.
func (w *walker) schema(v any, depth int) error {
	if w.nodes++; w.nodes > maxNodes {
		return fmt.Errorf("the schema has more than %d values, references followed", maxNodes)
	}
	if depth > maxDepth {
		return fmt.Errorf("the schema is nested, or refers back to itself, deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case json.Number:
		return checkNumber(string(v))
	case []any:
		for _, e := range v {
			if err := w.schema(e, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) { // the same error each time
			if err := w.keyword(k, v[k], depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyword walks the value of one key. In a table of properties the keys are names, and
// their values are objects.
func (w *walker) keyword(k string, v any, depth int) error {
	text, isText := v.(string)
	_, isObject := v.(map[string]any)
	switch k {
	case "$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$anchor":
		if !isObject {
			return fmt.Errorf("the schema uses %q, which is not supported; use $ref to #/$defs/NAME", k)
		}
	case "$id":
		if isText && depth > 0 {
			return fmt.Errorf("the schema uses %q below its top level, which is not supported", k)
		}
	case "$schema":
		if isText && (depth > 0 || !slices.Contains(drafts[:], strings.TrimSuffix(text, "#"))) {
			return fmt.Errorf("the schema uses %q %q; known are, at the top level, %s", k, clip(text), strings.Join(drafts[:], " and "))
		}
	case "$ref":
		if !isText {
			break
		}
		to, err := resolve(w.root, text)
		if err != nil {
			return err
		}
		return w.schema(to, depth+1)
	}
	return w.schema(v, depth+1)
}

// drafts are what a schema may say it is written in. Older ones have other rules for
// references.
var drafts = [...]string{"https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema"}

// checkNumber refuses numbers that take more memory than their text.
func checkNumber(n string) error {
	_, exponent, has := strings.Cut(strings.ToLower(n), "e")
	e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
	if len(n) > maxNumber || has && (err != nil || e > maxExponent || e < -maxExponent) {
		return fmt.Errorf("the schema has the number %s, which is too long or too large", clip(n))
	}
	return nil
}

// resolve returns what a reference inside of a schema means (RFC 6901, section 6).
func resolve(root any, ref string) (any, error) {
	fragment, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil, fmt.Errorf("the schema refers to %q: a reference has to stay inside of it, as #/$defs/NAME does", clip(ref))
	}
	pointer, err := url.PathUnescape(fragment)
	if err != nil {
		return nil, fmt.Errorf("the schema refers to %q, which is malformed", clip(ref))
	}
	v, ok := at(root, pointer)
	if !ok {
		return nil, fmt.Errorf("the schema refers to %q, which is not there", clip(ref))
	}
	return v, nil
}

// at returns the value at a JSON pointer.
func at(v any, pointer string) (any, bool) {
	if pointer == "" {
		return v, true
	}
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return nil, false
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for token := range strings.SplitSeq(rest, "/") {
		token = unescape.Replace(token)
		switch t := v.(type) {
		case map[string]any:
			if v, ok = t[token]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(t) {
				return nil, false
			}
			v = t[i]
		default:
			return nil, false
		}
	}
	return v, true
}
