package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wproxy/plugins/manifest"
)

func schema(tb testing.TB) *manifest.Schema {
	tb.Helper()
	text, err := os.ReadFile("schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	s, err := manifest.Compile(text)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestSchemaKeys: what README.md documents is what the schema has.
func TestSchemaKeys(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	inTable := false
	for line := range strings.Lines(string(text)) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		switch {
		case strings.HasPrefix(line, "| setting |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable:
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
				documented = append(documented, m[1])
			}
		}
	}
	slices.Sort(documented)
	if got := schema(t).Keys(); !slices.Equal(got, documented) {
		t.Errorf("the schema has %v\nREADME.md has  %v", got, documented)
	}
}

// pluginOnly are parts of the refusals that a schema cannot express.
var pluginOnly = []string{"is more than max_size"}

// TestSchemaRefuses: what the plugin refuses, the schema refuses, where it can tell.
func TestSchemaRefuses(t *testing.T) {
	s := schema(t)
	for _, tc := range refused {
		only := slices.ContainsFunc(pluginOnly, func(p string) bool { return strings.Contains(tc.want, p) })
		if problems := s.Check([]byte(tc.doc)); len(problems) == 0 && !only {
			t.Errorf("%.80s: the plugin says %s; the schema says nothing", tc.doc, tc.want)
		} else if len(problems) > 0 && only {
			t.Errorf("%.80s: the schema tells after all: %v", tc.doc, problems)
		}
	}
}

// FuzzSchemaAgrees: the schema takes whatever the plugin takes. (TOML has no null.)
func FuzzSchemaAgrees(f *testing.F) {
	for _, doc := range []string{
		`{}`,
		`{"max_object":"2MiB","max_size":4194304,"default_ttl":"1h30m","key":["header:X-A","cookie:c"],"stale_if_error":"0"}`,
		`{"bypass_headers":[],"purge_clients":["10.0.0.0/8","::1"],"tag_headers":"X-Tags","collapse":false,"name":"edge-1"}`,
	} {
		if _, err := parseConfig([]byte(doc)); err != nil {
			f.Errorf("%s: %v", doc, err)
		}
		f.Add([]byte(doc))
	}
	for _, tc := range refused {
		f.Add([]byte(tc.doc))
	}
	s := schema(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := parseConfig(doc); err != nil || bytes.Contains(doc, []byte("null")) {
			return
		}
		if problems := s.Check(doc); len(problems) > 0 {
			t.Errorf("%s: the plugin takes it; the schema says %v", doc, problems)
		}
	})
}
