package plugincmd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/manifest"
)

// maxModule is the most bytes of a .wasm file, as when it is loaded.
const maxModule = 64 << 20

// readModule reads a .wasm file.
func readModule(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", name)
	case info.Size() > maxModule:
		return nil, fmt.Errorf("%s has %d bytes; the most is %d", name, info.Size(), maxModule)
	}
	return os.ReadFile(name) //nolint:gosec // named by the user
}

// An inspection is what `wproxy plugin inspect` tells.
type inspection struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"` // bytes

	Manifest *aboutPlugin `json:"manifest,omitempty"`

	ABI       string        `json:"abi,omitempty"`    // version
	Marker    string        `json:"marker,omitempty"` // the export that says so
	Callbacks []string      `json:"callbacks"`
	Body      []string      `json:"body"`   // the bodies it has callbacks for
	Memory    uint64        `json:"memory"` // bytes at start
	Grants    []string      `json:"grants"` // what its imports need
	Imports   []importLine  `json:"imports"`
	Exports   []string      `json:"exports"`
	Sections  []sectionLine `json:"sections"`
	Problems  []string      `json:"problems,omitempty"` // why it would not be loaded
}

type aboutPlugin struct {
	Name        string          `json:"name"`
	Version     string          `json:"version,omitempty"`
	Description string          `json:"description,omitempty"`
	Grants      []string        `json:"grants,omitempty"` // what it asks for
	Settings    []string        `json:"settings,omitempty"`
	Required    []string        `json:"required,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"`
}

type importLine struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Grant  string `json:"grant,omitempty"`
	Known  bool   `json:"known"`
}

type sectionLine struct {
	Name   string `json:"name"`
	Custom bool   `json:"custom,omitempty"`
	Size   int    `json:"size"` // bytes
}

// inspect is `wproxy plugin inspect`.
func inspect(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := failer("inspect", stderr)
	fs := flag.NewFlagSet("wproxy plugin inspect", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	asJSON := fs.Bool("json", false, "")
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageOf("inspect"))
		return exitOK
	case err != nil:
		return fail(exitFailed, err)
	case len(rest) != 1:
		return fail(exitFailed, errors.New("one FILE.wasm is needed"))
	}
	wasm, err := readModule(rest[0])
	if err != nil {
		return fail(exitFailed, err)
	}
	i, err := newInspection(ctx, rest[0], wasm)
	if err != nil {
		return fail(exitRefused, fmt.Errorf("%s: %w", rest[0], err))
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(i)
	} else {
		err = i.write(stdout)
	}
	switch {
	case err != nil:
		return fail(exitFailed, err)
	case len(i.Problems) > 0:
		return exitRefused
	}
	return exitOK
}

// newInspection finds out about a module. The error is that it is none.
func newInspection(ctx context.Context, name string, wasm []byte) (*inspection, error) {
	m, err := host.Inspect(wasm)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(wasm)
	i := &inspection{
		File: name, SHA256: hex.EncodeToString(sum[:]), Size: len(wasm),
		Marker: m.Marker, Memory: m.MinPages << 16,
		Callbacks: list(m.Callbacks), Exports: list(m.Exports), Grants: []string{}, Body: []string{}, Imports: []importLine{}, Sections: []sectionLine{},
	}
	if m.Version != 0 {
		i.ABI = m.Version.String()
	}
	for _, side := range []struct{ name, export string }{{"request", abi.ExportOnRequestBody}, {"response", abi.ExportOnResponseBody}} {
		if slices.Contains(m.Callbacks, side.export) {
			i.Body = append(i.Body, side.name)
		}
	}
	for _, imp := range m.Imports {
		grant := imp.Grant
		if grant == host.GrantCall {
			grant += "UPSTREAM"
		}
		if line := (importLine{imp.Module, imp.Name, grant, imp.Known}); !slices.Contains(i.Imports, line) {
			i.Imports = append(i.Imports, line)
		}
		if grant != "" && !slices.Contains(i.Grants, grant) {
			i.Grants = append(i.Grants, grant)
		}
	}
	slices.Sort(i.Grants)
	sections, err := manifest.Sections(wasm)
	if err != nil {
		return nil, err
	}
	for _, s := range sections {
		i.Sections = append(i.Sections, sectionLine{s.Name, s.ID == 0, s.Size})
	}
	about, err := manifest.Read(wasm)
	if err != nil {
		i.Problems = append(i.Problems, err.Error())
	}
	i.Manifest = newAbout(about)
	i.Problems = append(i.Problems, tryLoad(ctx, wasm)...)
	return i, nil
}

// list is never null in JSON.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func newAbout(m *manifest.Manifest) *aboutPlugin {
	if m == nil {
		return nil
	}
	a := &aboutPlugin{Name: m.Name, Version: m.Version, Description: m.Description, Grants: m.Grants}
	if m.Settings != nil {
		a.Settings, a.Required, a.Schema = m.Settings.Keys(), m.Settings.Required(), m.Settings.JSON()
	}
	return a
}

// tryLoad compiles a module as wproxy would, without starting it, and returns what is
// wrong with it.
func tryLoad(ctx context.Context, wasm []byte) []string {
	h, err := host.NewHost(host.HostOptions{CacheDir: plugintest.CacheDir()})
	if err != nil {
		return []string{err.Error()}
	}
	defer h.Close()
	p, err := h.Load(ctx, wasm, host.PluginOptions{Name: "plugin"})
	if err != nil {
		if e, ok := errors.AsType[*host.LoadError](err); ok {
			return e.Problems
		}
		return []string{err.Error()}
	}
	p.Close()
	return nil
}

// write tells people. What comes from the module is quoted where it could have anything in it.
func (i *inspection) write(w io.Writer) error {
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", key, fmt.Sprintf(format, args...))
	}
	line("file", "%s", i.File)
	line("sha256", "%s", i.SHA256)
	line("size", "%s", size(i.Size))
	if m := i.Manifest; m != nil {
		line("name", "%s", strings.TrimSpace(m.Name+" "+m.Version))
		if m.Description != "" {
			line("", "%s", m.Description)
		}
	}
	line("abi", "%s", cmp.Or(i.ABI, "unknown"))
	line("memory", "%s at start", size(int(i.Memory)))
	line("callbacks", "%s", names(i.Callbacks))
	line("bodies", "%s", names(i.Body))
	if i.Manifest != nil {
		line("grants", "asks for %s", names(i.Manifest.Grants))
		line("", "its imports could use %s", names(i.Grants))
	} else {
		line("grants", "its imports could use %s", names(i.Grants))
	}
	switch {
	case i.Manifest == nil:
		line("settings", "it has no manifest: any are handed on unchecked")
	case i.Manifest.Schema == nil:
		line("settings", "it has no schema: any are handed on unchecked")
	default:
		line("settings", "%s", settingNames(i.Manifest))
	}
	i.writeImports(line)
	for n, s := range i.Sections {
		key, name := "", s.Name
		if n == 0 {
			key = "sections"
		}
		if s.Custom {
			name = strconv.Quote(name)
		}
		line(key, "%-24s %s", name, size(s.Size))
	}
	for n, p := range i.Problems {
		key := ""
		if n == 0 {
			key = "REFUSED"
		}
		line(key, "%s", strings.ReplaceAll(p, "\n", " "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeImports lists what is imported, by module.
func (i *inspection) writeImports(line func(key, format string, args ...any)) {
	var modules []string
	by := map[string][]string{}
	for _, imp := range i.Imports {
		if !slices.Contains(modules, imp.Module) {
			modules = append(modules, imp.Module)
		}
		name := imp.Name
		if !plain(name) {
			name = strconv.Quote(name)
		}
		if !imp.Known {
			name += " (unknown here: a call traps)"
		}
		by[imp.Module] = append(by[imp.Module], name)
	}
	for n, m := range modules {
		key := ""
		if n == 0 {
			key = "imports"
		}
		if !plain(m) {
			line(key, "%q: %s", m, names(by[m]))
			continue
		}
		line(key, "%s: %s", m, names(by[m]))
	}
}

// plain reports whether a name can be shown as it is.
func plain(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// settingNames lists the settings, with those that are required.
func settingNames(m *aboutPlugin) string {
	var out []string
	for _, name := range m.Settings {
		shown := name
		if !plain(name) {
			shown = strconv.Quote(name)
		}
		if slices.Contains(m.Required, name) {
			shown += " (required)"
		}
		out = append(out, shown)
	}
	return names(out)
}

func names(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// size writes a number of bytes for people.
func size(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return strconv.Itoa(n) + " bytes"
}
