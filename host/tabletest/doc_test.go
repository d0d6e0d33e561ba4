package tabletest

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestDocumented: docs/plugins.md has every key, and its example is one.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n### Tables\n")
	section, _, ok2 := strings.Cut(section, "\n### ")
	if !ok || !ok2 {
		t.Fatal("docs/plugins.md has no section about tables")
	}
	_, example, _ := strings.Cut(section, "```toml\n")
	example, _, _ = strings.Cut(example, "```")
	if _, err := parseFile("docs/plugins.md", []byte(example)); err != nil {
		t.Errorf("the example: %v", err)
	}
	seen := map[reflect.Type]bool{}
	var visit func(typ reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			if key := f.Tag.Get("toml"); key != "" && !strings.Contains(section, "`"+key+"`") &&
				!strings.Contains(section, "`[["+key+"]]`") && !strings.Contains(section, "`"+key+" = ") {
				t.Errorf("the key %q of %s is not documented", key, typ.Name())
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[file]())
	if len(seen) < 8 {
		t.Errorf("only %d structs were looked at", len(seen))
	}
}
