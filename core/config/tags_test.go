package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestTags reads every tag of every struct of the file format: a default or a
// range that does not parse would only show in use.
func TestTags(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(typ reflect.Type)
	visit = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || typ.PkgPath() != reflect.TypeFor[File]().PkgPath() || typ == reflect.TypeFor[Value]() {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			if !f.IsExported() {
				continue
			}
			key, ok := f.Tag.Lookup("toml")
			if ok && key != "-" && key != strings.ToLower(key) {
				t.Errorf("%s.%s: key %q is not in lower case", typ.Name(), f.Name, key)
			}
			v := reflect.New(f.Type).Elem()
			if d, ok := f.Tag.Lookup("default"); ok {
				setScalar(v, d) // panics if it is bad
			}
			if r, ok := f.Tag.Lookup("range"); ok {
				checkRangeTag(t, typ.Name()+"."+f.Name, f, v, r)
			}
			if one := f.Tag.Get("oneof"); one != "" && v.Kind() == reflect.String && f.Tag.Get("default") != "" &&
				!strings.Contains("|"+one+"|", "|"+v.String()+"|") {
				t.Errorf("%s.%s: default %q is not one of %s", typ.Name(), f.Name, v.String(), one)
			}
			visit(f.Type)
		}
		for _, k := range later(typ.Name()) {
			if fieldOf(typ, k) >= 0 {
				t.Errorf("%s has %q, which is said to come later", typ.Name(), k)
			}
		}
	}
	visit(reflect.TypeFor[File]())
	for _, name := range []string{"File", "Listener", "Route", "Retry", "Upstream", "ServerEntry", "Plugin", "Sandbox", "Server", "Admin", "Access"} {
		found := false
		for typ := range seen {
			found = found || typ.Name() == name
		}
		if !found {
			t.Errorf("no type %s is reached: was it renamed? later() names it", name)
		}
	}
}

// checkRangeTag checks that lo <= default <= hi.
func checkRangeTag(t *testing.T, name string, f reflect.StructField, v reflect.Value, r string) {
	t.Helper()
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
		v = reflect.New(typ).Elem()
	}
	_, hi, ok := strings.Cut(r, "..")
	if !ok {
		t.Errorf("%s: range %q", name, r)
	}
	if _, ok := f.Tag.Lookup("default"); !ok {
		setScalar(v, hi)
	}
	var b binder
	b.checkRange(scope{}, &node{key: name}, v, r)
	for _, p := range b.problems {
		t.Errorf("default: %s", p.Text)
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[string]Size{"0": 0, "1B": 1, "64KiB": 64 << 10, "1.5 MiB": 3 << 19, "2GB": 2e9, "1TiB": 1 << 40} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "1", "-1B", "1e3KiB", "0x1B", "infMiB", "9999999TiB", "KiB", "1 2B", "1.2.3B"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: got %d", s, got)
		}
	}
	for s, want := range map[Size]string{0: "0", 1: "1", 64 << 10: "64KiB", 1 << 20: "1MiB", 1<<20 + 1: "1048577"} {
		if got := s.String(); got != want {
			t.Errorf("%d: got %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]Percent{"0%": 0, "20%": 0.2, "12.5 %": 0.125} {
		if got, err := parsePercent(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "20", "-1%", "%", "a%", "nan%"} {
		if _, err := parsePercent(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	for d, want := range map[time.Duration]string{0: "0", time.Second: "1s", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 24 * time.Hour: "24h"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"upstream", "path", "use", "to", "timeout"}
	for s, want := range map[string]string{
		"upstreem": "upstream", "Upstream": "upstream", "pathh": "path", "ptah": "path", "tiemout": "timeout", "us": "use",
		"x": "", "rewrite": "", "": "",
	} {
		got := suggest(s, known)
		if want != "" {
			want = ` (did you mean "` + want + `"?)`
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}
