package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"wproxy/core/config"
)

// TestNoFalseAlarms: check warns of nothing in the configurations that people begin with,
// but for what a text shows on purpose.
func TestNoFalseAlarms(t *testing.T) {
	t.Setenv("API_TOKEN", "token")
	meant := map[string][]string{ // codes, by file and name of the block
		"upstreams.md/late.toml": {codeTimeouts, codeAmplified},
		"configuration.md":       {codeACME}, // its ports are above 1024
	}
	block := regexp.MustCompile("(?ms)^```toml ?(\\S*)\n(.*?)^```")
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "plugins/*/README.md", "deploy/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	checked, seen := 0, map[string]bool{}
	look := func(name, text string) {
		f, err := config.Parse(name, []byte(text))
		if err != nil {
			return // a part of one, or one that is wrong on purpose
		}
		pl, err := newPlanner(f)
		if err != nil {
			return
		}
		checked++
		for _, w := range warnings(f, pl.table.Shadowed()) {
			if slices.Contains(meant[name], w.Code) {
				seen[name+" "+w.Code] = true
				continue
			}
			if w.Code == codePluginUnused || w.Code == codeUpstreamUnused {
				continue // a text shows an object, and no route for it
			}
			t.Errorf("%s: %s [%s]", name, w.Error(), w.Code)
		}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(file)
		whole := ""
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			look(base+"/"+m[1], m[2])
			whole += m[2]
		}
		look(base, whole)
	}
	for name, codes := range meant {
		for _, c := range codes {
			if !seen[name+" "+c] {
				t.Errorf("%s has no %s any more", name, c)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d configurations were checked", checked)
	}

	needBuiltins(t)
	for _, file := range []string{"wproxy.toml", "wproxy.example.toml", "deploy/container.toml"} {
		path := filepath.Join(root, file)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		checked++
		r, err := check(t.Context(), source{file: path, name: path})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			t.Errorf("%s: %+v", file, f)
		}
	}
}
