package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestUpstreamsPage: docs/upstreams.md names every key of an upstream.
func TestUpstreamsPage(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/upstreams.md"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, w := range strings.FieldsFunc(string(b), func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		words[w] = true
	}
	n := 0
	var look func(at string, s reflect.Type)
	look = func(at string, s reflect.Type) {
		for s.Kind() == reflect.Pointer || s.Kind() == reflect.Slice {
			s = s.Elem()
		}
		if s.Kind() != reflect.Struct {
			return
		}
		for f := range s.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if key == "" || key == "-" {
				continue
			}
			n++
			if !words[key] {
				t.Errorf("the page says nothing of %s%s", at, key)
			}
			look(at+key+".", f.Type)
		}
	}
	look("", reflect.TypeFor[config.Upstream]())
	if n < 50 {
		t.Errorf("%d keys only", n)
	}
}
