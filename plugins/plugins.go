// Package plugins holds the plugins that ship with wproxy, as .wasm files
// embedded in the binary: `make plugins` builds them into plugins/builtin from
// the directories beside it. Where that was not done, the directory is there all
// the same and only they are missing.
package plugins

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"wproxy/plugins/manifest"
)

//go:embed builtin
var files embed.FS

// names lists what belongs into builtin.
var names = [...]string{"breaker", "cache", "ratelimit", "securityheaders"}

// Grants returns what the plugin called name asks to be granted (the key grant), which its
// manifest says; nil if it is not built.
func Grants(name string) []string {
	wasm, err := Builtin(name)
	if err != nil {
		return nil
	}
	m, err := manifest.Read(wasm)
	if err != nil || m == nil {
		return nil
	}
	return m.Grants
}

// ErrNotBuilt is returned for a plugin that belongs into this binary, and is
// not in it.
var ErrNotBuilt = errors.New("wproxy was built without it; `make build` builds the plugins first")

// Names returns the names of the plugins that ship with wproxy.
func Names() []string { return slices.Clone(names[:]) }

// Builtin returns the .wasm file of the plugin called name.
func Builtin(name string) ([]byte, error) {
	if !slices.Contains(names[:], name) {
		return nil, fmt.Errorf("there is no built-in plugin %q; there are: %s", name, strings.Join(names[:], ", "))
	}
	b, err := files.ReadFile("builtin/" + name + ".wasm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	return b, err
}
