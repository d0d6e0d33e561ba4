// Package manifesttest has the tests that the schema of every shipped plugin has to pass.
// They run in the plugin's directory.
package manifesttest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wproxy/plugins/manifest"
)

// Schema compiles schema.json.
func Schema(tb testing.TB) *manifest.Schema {
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

var codeSpan = regexp.MustCompile("`([^`]+)`")

// Documented checks that the tables of settings in README.md, those with a column
// "setting" in front, have what the schema has.
func Documented(t *testing.T) {
	t.Helper()
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
			for _, m := range codeSpan.FindAllStringSubmatch(first, -1) {
				documented = append(documented, m[1])
			}
		}
	}
	slices.Sort(documented)
	if got := Schema(t).Keys(); !slices.Equal(got, documented) {
		t.Errorf("the schema has %v\nREADME.md has  %v", got, documented)
	}
}

// A Refusal is settings, as JSON, that the plugin refuses, and a part of what it says.
type Refusal struct{ Settings, Says string }

// Refuses checks that the schema refuses what the plugin refuses, but for those of which
// settings or refusal contain one of pluginOnly: these a schema cannot tell.
func Refuses(t *testing.T, all []Refusal, pluginOnly []string) {
	t.Helper()
	s := Schema(t)
	for _, r := range all {
		only := slices.ContainsFunc(pluginOnly, func(p string) bool { return strings.Contains(r.Says+r.Settings, p) })
		if problems := s.Check([]byte(r.Settings)); len(problems) == 0 && !only {
			t.Errorf("%.80s: the plugin says %s; the schema says nothing", r.Settings, r.Says)
		} else if len(problems) > 0 && only {
			t.Errorf("%.80s: the schema tells after all: %v", r.Settings, problems)
		}
	}
}
