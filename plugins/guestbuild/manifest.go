package guestbuild

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"wproxy/plugins/manifest"
)

// Files beside a plugin's source, from which its manifest is made. Neither has to be there.
const (
	aboutFile  = "plugin.toml"
	schemaFile = "schema.json"
)

// maxFile is the most bytes of either file.
const maxFile = 256 << 10

// about is what plugin.toml may say.
type about struct {
	Name        string   `toml:"name"`        // "": the last part of the package's import path
	Version     string   `toml:"version"`     // of the plugin
	Description string   `toml:"description"` // one line
	Grant       []string `toml:"grant"`       // what it asks for, as in wproxy.toml
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// readManifest makes the manifest of the plugin in dir. The errors about its files are
// *SourceErrors.
func readManifest(dir, importPath string, exports []string) (*manifest.Manifest, error) {
	a, err := readAbout(dir)
	if err != nil {
		return nil, err
	}
	m := &manifest.Manifest{
		Name: a.Name, Version: a.Version, Description: a.Description, Grants: a.Grant,
		RequestBody:  slices.Contains(exports, "proxy_on_request_body"),
		ResponseBody: slices.Contains(exports, "proxy_on_response_body"),
	}
	if m.Name == "" {
		m.Name = path.Base(importPath)
		if majorVersion.MatchString(m.Name) {
			m.Name = path.Base(path.Dir(importPath))
		}
	}
	text, err := readFile(dir, schemaFile)
	if err != nil || text == nil {
		return m, err
	}
	if m.Settings, err = manifest.Compile(text); err != nil {
		return nil, &SourceError{filepath.Join(dir, schemaFile), "is not the schema of settings: " + err.Error()}
	}
	return m, nil
}

func readAbout(dir string) (about, error) {
	var a about
	text, err := readFile(dir, aboutFile)
	if err != nil || text == nil {
		return a, err
	}
	file := filepath.Join(dir, aboutFile)
	known, err := toml.Decode(string(text), &a)
	if pe, ok := errors.AsType[toml.ParseError](err); ok {
		return a, &SourceError{fmt.Sprintf("%s:%d", file, pe.Position.Line), strings.TrimSuffix(pe.Message, ".")}
	}
	if err != nil {
		return a, &SourceError{file, err.Error()}
	}
	for _, key := range known.Undecoded() {
		return a, &SourceError{file, fmt.Sprintf("unknown key %q; known are description, grant, name, version", key)}
	}
	for _, g := range a.Grant {
		if !manifest.ValidGrant(g) {
			return a, &SourceError{file, fmt.Sprintf(`grant: %q does not look like "log" or "call:NAME"`, g)}
		}
	}
	m := manifest.Manifest{Name: cmp.Or(a.Name, "x"), Version: a.Version, Description: a.Description, Grants: a.Grant}
	if err := m.Validate(); err != nil {
		return a, &SourceError{file, err.Error()}
	}
	return a, nil
}

// readFile returns the content of a file beside the source, nil if there is none.
func readFile(dir, name string) ([]byte, error) {
	file := filepath.Join(dir, name)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // no file, no content
	case err != nil:
		return nil, fmt.Errorf("manifest: %w", err)
	case !info.Mode().IsRegular():
		return nil, &SourceError{file, "is not a file"}
	case info.Size() > maxFile:
		return nil, &SourceError{file, fmt.Sprintf("has %d bytes; the most is %d", info.Size(), maxFile)}
	}
	text, err := os.ReadFile(file) //nolint:gosec // beside the source that is being built
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return append([]byte{}, text...), nil
}

// sortedExports lists what a plugin exports by choice.
func sortedExports(u *uses) []string { return slices.Sorted(maps.Keys(u.exports)) }
