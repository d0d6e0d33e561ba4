package manifest

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// custom makes a custom section.
func custom(name, content string) string {
	return fmt.Sprintf("\x00%c%c%s%s", len(name)+1+len(content), len(name), name, content)
}

func TestAppendAndRead(t *testing.T) {
	s, err := Compile([]byte(limitSchema))
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{
		Name: "limit", Version: "1.2.0", Description: "Limits.", RequestBody: true,
		Grants: []string{"log", "call:idp"}, Settings: s,
	}
	module := header + custom("name", "") + "\x01\x01\x00"
	wasm, err := Append([]byte(module), m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(wasm), module) {
		t.Error("the module was changed")
	}
	got, err := Read(wasm)
	if err != nil {
		t.Fatal(err)
	}
	if p := got.Settings.Check([]byte(`{"raet":1}`)); len(p) != 2 {
		t.Errorf("problems: %v", p)
	}
	got.Settings, m.Settings = nil, nil
	m.Grants = []string{"call:idp", "log"}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if _, err := Append(wasm, m); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second manifest: %v", err)
	}
	sections, err := Sections(wasm)
	if err != nil || len(sections) != 3 || sections[0].Name != "name" || sections[1].Name != "type" || sections[2].Name != SectionName {
		t.Errorf("sections: %v, %v", sections, err)
	}
	if end := sections[2].Offset + sections[2].Size; end != len(wasm) {
		t.Errorf("the last section ends at %d of %d", end, len(wasm))
	}
	if m, err := Read([]byte(module)); m != nil || err != nil {
		t.Errorf("no manifest: got %v, %v", m, err)
	}
}

func TestReadRefuses(t *testing.T) {
	section := func(content string) string { return header + custom(SectionName, content) }
	for _, tt := range []struct{ name, wasm, want string }{
		{"nothing", "", "not a WebAssembly module"},
		{"text", "hello there", "not a WebAssembly module"},
		{"another version", "\x00asm\x02\x00\x00\x00", "not a WebAssembly module"},
		{"early end", header + "\x00\x05\x01a", "ends early"},
		{"a length of 2^63", header + "\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends early"},
		{"name longer than the section", header + "\x00\x02\x05a", "malformed"},
		{"section 99", header + "\x63\x00", "section 99"},
		{"two manifests", section(`{}`) + custom(SectionName, `{}`), "two sections wproxy.manifest"},
		{"empty", section(""), "not the JSON"},
		{"no JSON", section("x"), "not the JSON"},
		{"not UTF-8", section("{\"a\":\"\xff\"}"), "not UTF-8"},
		{"another form", section(`{"manifest":2}`), `"manifest" is 2; this wproxy knows 1`},
		{"no name", section(`{"manifest":1}`), `"name" is missing`},
		{"control character", section(`{"manifest":1,"name":"a\u001b[2J"}`), "control character"},
		{"text turned around", section(`{"manifest":1,"name":"a","description":"a\u202eb"}`), "control character"},
		{"control character in a grant", section(`{"manifest":1,"name":"a","grants":["call:a\u001b[2J"]}`), "does not look like"},
		{"body", section(`{"manifest":1,"name":"a","body":["x"]}`), `"body" has "x"`},
		{"grant", section(`{"manifest":1,"name":"a","grants":["no way"]}`), `"grants" has "no way"`},
		{"schema", section(`{"manifest":1,"name":"a","settings":{"type":5}}`), `"settings": not a JSON Schema`},
	} {
		m, err := Read([]byte(tt.wasm))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, %v, want %q", tt.name, m, err, tt.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(header))
	f.Add([]byte(header + custom(SectionName, `{"manifest":1,"name":"a","body":["request"],"grants":["log"],"settings":{}}`)))
	f.Add([]byte(header + custom(SectionName, `{"manifest":1,"name":"a","settings":{"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}}}`)))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := Read(wasm)
		if err != nil || m == nil {
			return
		}
		again, err := Append([]byte(header), m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		n, err := Read(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		third, err := Append([]byte(header), n)
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("written twice it differs: %v", err)
		}
	})
}

// FuzzSchema takes a schema and settings from anywhere.
func FuzzSchema(f *testing.F) {
	f.Add([]byte(limitSchema), []byte(`{"rate":"1/s","key":["a"]}`))
	f.Add([]byte(limitSchema), []byte(`{"raet":1,"key":5,"exempt":{"x":1}}`))
	f.Add([]byte(`{"oneOf":[{"type":"string"},{"not":{"enum":[1,2]}}],"if":{"minimum":1},"then":false}`), []byte(`1`))
	f.Add([]byte(`{"$defs":{"a":{"$ref":"#/$defs/a"}},"unevaluatedProperties":false,"dependentRequired":{"a":["b"]}}`), []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, schema, settings []byte) {
		s, err := Compile(schema)
		if err != nil {
			return
		}
		s.Keys()
		for _, p := range s.Check(settings) {
			if p.Text == "" {
				t.Errorf("a problem without words: %+v", p)
			}
		}
	})
}
