package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestEverySettingIsUsed looks for settings that the file format has and that
// nothing in this package reads: they would be accepted and do nothing.
func TestEverySettingIsUsed(t *testing.T) {
	used := map[string]bool{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		// explain.go shows settings, which is not using them.
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || name == "explain.go" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
			}
			return true
		})
	}
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || typ.PkgPath() != reflect.TypeFor[config.File]().PkgPath() {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			if key := f.Tag.Get("toml"); key == "" || key == "-" || resolved(typ.Name(), key) {
				continue
			}
			if !used[f.Name] {
				t.Errorf("nothing reads config.%s.%s: the key %q would do nothing", typ.Name(), f.Name, f.Tag.Get("toml"))
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[config.File]())
	if len(seen) < 15 {
		t.Errorf("only %d structs are reached", len(seen))
	}
}

// resolved tells the settings that package config itself turns into others.
func resolved(table, key string) bool {
	switch table + "." + key {
	case "File.version", "File.include", "File.sandbox", "Route.to", "Route.with", "Plugin.wasm",
		"ACME.storage", "ACME.ca_roots":
		return true
	default:
		return false
	}
}
