package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaPath = "schema.json"

// withReference matches a text with ${env:NAME} or ${file:/path} in it, which can stand for
// every text.
const withReference = `\$\{(env|file):`

// TestSchema compares schema.json with the types, and with -update writes it anew.
func TestSchema(t *testing.T) {
	w := schemaWriter{t: t, meanings: meanings(t), defs: map[string]any{}}
	root := w.table(reflect.TypeFor[File](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "wproxy.toml"
	root["$defs"] = w.defs
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(root); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(b.Bytes(), Schema()) {
		return
	}
	if flag.Lookup("update").Value.String() != "true" {
		t.Fatal("schema.json differs from the types or docs/configuration.md: `go test ./core/config -run TestSchema -update` mends it")
	}
	if err := os.WriteFile(schemaPath, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSchemaAccepts holds every configuration that Parse takes against the schema: the
// example of the reference, the one at the root, and those of the script tests.
func TestSchemaAccepts(t *testing.T) {
	s := compileSchema(t)
	text, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	for _, m := range tomlBlock.FindAllStringSubmatch(string(text), -1) {
		example.WriteString(m[1])
	}
	accept := func(name, text string) {
		if err := validateTOML(s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	accept("docs/configuration.md", example.String())
	own, err := os.ReadFile("../../wproxy.toml")
	if err != nil {
		t.Fatal(err)
	}
	accept("wproxy.toml", string(own))
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	n := 0
	for _, name := range scripts {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			if !strings.HasSuffix(f.Name, ".toml") {
				continue
			}
			if _, err := Parse(f.Name, f.Data); err != nil {
				continue // it is there to be refused, or a template, or a part
			}
			n++
			accept(filepath.Base(name)+" "+f.Name, string(f.Data))
		}
	}
	if n < 10 {
		t.Errorf("only %d configurations of scripts were looked at", n)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compileSchema(t)
	for _, text := range []string{
		`listener = 1`,
		"[listeners.a]\nadddress = \":80\"",
		"[listeners.a]\nlimits = { header = \"64XB\" }",
		"[listeners.a]\nlimits = { fields = 0 }",
		"[routes.a]\ntimeout = 30",
		"[routes.a]\nencoded_slash = \"drop\"",
		"[routes.a]\nupstream = { a = \"95\" }",
		"[routes.a]\nretry = { budget = \"20\" }",
		"[upstreams.a]\nservers = [{ weight = 1 }]",
		"[plugins.a]\nsandbox = { restart = \"1s-30s\" }",
		"[plugins.a]\ngrant = [\"everything\"]",
	} {
		if err := validateTOML(s, text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("wproxy.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("wproxy.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validateTOML(s *jsonschema.Schema, text string) error {
	var v map[string]any
	if _, err := toml.Decode(text, &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// meanings reads the last column of the reference: by path of the table and key.
func meanings(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var paths []string
	for line := range strings.SplitSeq(string(b), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			paths = nil
			for _, m := range headingName.FindAllStringSubmatch(line, -1) {
				paths = append(paths, m[1])
			}
			if line == "## The file" {
				paths = []string{""}
			}
		case strings.HasPrefix(line, "| `"):
			cells := strings.SplitN(line, "|", 5)
			if len(cells) < 5 {
				continue
			}
			meaning := strings.NewReplacer("`", "", "\\|", "|").Replace(strings.Trim(cells[4], " |"))
			for _, p := range paths {
				all[p+"."+strings.Trim(cells[1], " `")] = plainLinks(meaning)
			}
		}
	}
	return all
}

var markdownLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

func plainLinks(s string) string { return markdownLink.ReplaceAllString(s, "$1") }

// A schemaWriter turns types into schemas. A struct becomes a definition, but for the
// file itself.
type schemaWriter struct {
	t        *testing.T
	meanings map[string]string
	defs     map[string]any
}

type object = map[string]any

// table is the schema of a struct at a path of the file.
func (w *schemaWriter) table(typ reflect.Type, path string) object {
	props := object{}
	for f := range typ.Fields() {
		key := f.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		s := w.field(f, strings.TrimPrefix(path+"."+key, "."))
		if m := w.meanings[path+"."+key]; m != "" {
			s["description"] = m
		}
		props[key] = s
	}
	return object{"type": "object", "properties": props, "additionalProperties": false}
}

// def makes a struct a definition and refers to it.
func (w *schemaWriter) def(typ reflect.Type, path string) object {
	name := typ.Name()
	if _, ok := w.defs[name]; !ok {
		w.defs[name] = nil // it may contain itself
		w.defs[name] = w.table(typ, path)
	}
	return object{"$ref": "#/$defs/" + name}
}

func anyOf(list ...any) object { return object{"anyOf": list} }

func text(pattern string) object {
	return anyOf(object{"type": "string", "pattern": pattern}, object{"type": "string", "pattern": withReference})
}

func list(of any) object { return object{"type": "array", "items": of} }

func oneOrMore(of object) object { return anyOf(of, list(of)) }

func tableOf(of any) object { return object{"type": "object", "additionalProperties": of} }

// choice is a text, one of those of a oneof tag.
func choice(oneof string) object {
	if oneof == "" {
		return object{"type": "string"}
	}
	var known, patterns []any
	for c := range strings.SplitSeq(oneof, "|") {
		if i := strings.IndexByte(c, ':'); i >= 0 { // call:UPSTREAM
			patterns = append(patterns, object{"type": "string", "pattern": "^" + regexp.QuoteMeta(c[:i+1]) + "."})
		} else {
			known = append(known, c)
		}
	}
	return anyOf(append([]any{object{"enum": known}, object{"type": "string", "pattern": withReference}}, patterns...)...)
}

// field is the schema of one key.
func (w *schemaWriter) field(f reflect.StructField, path string) object {
	s := w.value(f, path)
	if d, ok := f.Tag.Lookup("default"); ok {
		switch f.Type.Kind() {
		case reflect.Int:
			n, err := strconv.Atoi(d)
			if err != nil {
				w.t.Fatal(err)
			}
			s["default"] = n
		case reflect.Bool:
			s["default"] = d == "true"
		default:
			s["default"] = d
		}
	}
	return s
}

func (w *schemaWriter) value(f reflect.StructField, path string) object {
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	unit := object{"const": 0}
	switch v := reflect.New(typ).Interface().(type) {
	case *string, *Value:
		return choice(f.Tag.Get("oneof"))
	case *bool:
		return object{"type": "boolean"}
	case *int:
		s := object{"type": "integer"}
		if lo, hi, ok := strings.Cut(f.Tag.Get("range"), ".."); ok {
			s["minimum"], s["maximum"] = json.Number(lo), json.Number(hi)
		}
		return s
	case *Size:
		return anyOf(object{"type": "integer", "minimum": 0}, text(`^[0-9.]+ *([KMGT]i?B|kB|B)$|^0$`))
	case *Percent:
		return text(`^[0-9.]+ *%$`)
	case *time.Duration:
		return anyOf(unit, text(`^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`))
	case *Rate:
		return text(`^[0-9.]+/[smh]$`)
	case *Backoff:
		return text(`^[0-9a-zµ.]+$`)
	case *[]string:
		return oneOrMore(choice(f.Tag.Get("oneof")))
	case *[]netip.Prefix:
		return oneOrMore(object{"type": "string"})
	case *[]Target:
		return anyOf(object{"type": "string"}, tableOf(object{"type": "integer", "minimum": 0, "maximum": 1_000_000}))
	case *[]ServerEntry:
		entry := w.def(reflect.TypeFor[ServerEntry](), path)
		w.defs["ServerEntry"].(object)["required"] = []string{"address"}
		return oneOrMore(anyOf(object{"type": "string"}, entry))
	case *[]Test:
		return list(w.def(reflect.TypeFor[Test](), path))
	case *[]Certificate:
		return oneOrMore(w.def(reflect.TypeFor[Certificate](), path))
	case *Redirect, *Mirror: // one key stands for the table
		return anyOf(object{"type": "string"}, w.def(typ, path))
	case *map[string]any:
		return object{"type": "object"}
	case *any:
		return anyOf(object{"type": "object"}, object{"type": "string"})
	case *map[string]Value, *map[string]string:
		return tableOf(object{"type": "string"})
	case *map[string]map[string]any:
		return tableOf(object{"type": "object"})
	case *map[string]Match:
		return tableOf(anyOf(object{"type": "string"}, list(object{"type": "string"}), object{"type": "boolean"}))
	default:
		if typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Pointer {
			s := tableOf(w.def(typ.Elem().Elem(), path+".NAME"))
			s["propertyNames"] = object{"pattern": `^[A-Za-z0-9][A-Za-z0-9_.-]*$`}
			return s
		}
		if typ.Kind() != reflect.Struct || len(keysOf(typ)) == 0 {
			w.t.Fatalf("%s: %T has no schema yet: say how it is written", path, v)
		}
		return w.def(typ, path)
	}
}

// TestSchemaHasAll is that of every key something is said.
func TestSchemaHasAll(t *testing.T) {
	var missing []string
	visit := func(name string, v any) {
		m, _ := v.(map[string]any)
		props, _ := m["properties"].(map[string]any)
		for key, p := range props {
			if p.(map[string]any)["description"] == nil {
				missing = append(missing, fmt.Sprintf("%s.%s", name, key))
			}
		}
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	visit("file", root)
	for name, d := range root["$defs"].(map[string]any) {
		visit(name, d)
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("no description: %q", missing)
	}
}
