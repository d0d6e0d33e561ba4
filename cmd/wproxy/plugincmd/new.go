package plugincmd

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed template
var templates embed.FS

// A kind is what a new plugin is an example of.
type kind struct {
	name        string
	description string // of the example; a sentence
	grant       string // the list in plugin.toml
	config      string // of the README's example
	settings    string // the README's table
	use         string // the rest of its example
}

// onRoute is how most plugins are put into use.
const onRoute = `
[routes.all]
to  = "127.0.0.1:3000"
use = ["@NAME@"]`

// onListener is how plugins for connections are.
const onListener = `kind   = "tcp"

[listeners.door]
address   = ":2222"
protocols = ["tcp"]

[routes.door]
listener = "door"
to       = "127.0.0.1:22"
use      = ["@NAME@"]`

func kinds() []kind {
	return []kind{
		{
			"request", "Lets requests through that have a key, and answers all others with 403.",
			`"log", "metrics"`, `keys = ["a-long-random-text"]`,
			table("`header`", "`\"x-api-key\"`", "the request header that has the key",
				"`keys`", "required", "list of the keys that are let through"),
			onRoute,
		},
		{
			"response", "Sets and removes response headers.",
			`"log"`, `set = { x-served-by = "wproxy" }, remove = ["server"]`,
			table("`set`", "none", "table of response headers and their values",
				"`remove`", "none", "list of response headers that do not get out"),
			onRoute,
		},
		{
			"body", "Replaces a text in the bodies of responses.",
			`"log"`, `find = "http://old.example.com", replace = "https://example.com"`,
			table("`find`", "required", "a text in the body",
				"`replace`", "`\"\"`", "what stands there afterwards",
				"`type`", "`\"text/html\"`", "only in bodies of this content type"),
			onRoute,
		},
		{
			"service", "Counts up a number in shared data at a steady pace.",
			`"log", "metrics", "shared-data"`, `every = "10s"`,
			table("`every`", "`\"10s\"`", "the time between two ticks, 100ms to 24h",
				"`key`", "`\"beats\"`", "the key of the shared data that is counted up"),
			`kind   = "service"   # it runs by itself, and no route uses it`,
		},
		{
			"tcp", "Lets TCP connections through that begin as they should, and closes all others.",
			`"log", "metrics"`, `starts = ["SSH-2.0-"]`,
			table("`starts`", "required", "list of texts; with one of them a connection has to begin"),
			onListener,
		},
	}
}

// table writes a table of settings from names, defaults and meanings in turn.
func table(cells ...string) string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|")
	for i := 0; i < len(cells); i += 3 {
		b.WriteString("\n| " + strings.Join(cells[i:i+3], " | ") + " |")
	}
	return b.String()
}

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// errTaken is returned for a name that the Go toolchain would take for one of its own packages.
var errTaken = errors.New("is the name of a package of Go's standard library; the go command would not find the plugin")

// taken are the names at the top of Go's standard library, and of the commands beside it.
func taken(name string) bool {
	return slices.Contains(strings.Fields(`archive arena bufio builtin bytes cmd cmp compress container context crypto database
		debug embed encoding errors expvar flag fmt go hash html image index internal io iter log main maps math mime net os path
		plugin reflect regexp runtime simd slices sort std strconv strings structs sync syscall test testing text time unicode unique
		unsafe uuid vendor weak`), name)
}

// newPlugin is `wproxy plugin new`.
func newPlugin(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fail := failer("new", stderr)
	fs := flag.NewFlagSet("wproxy plugin new", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	kindName := fs.String("kind", "request", "")
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageOf("new"))
		return exitOK
	case err != nil:
		return fail(exitFailed, err)
	case len(rest) != 1:
		return fail(exitFailed, fmt.Errorf("one NAME is needed: wproxy plugin new NAME [--kind %s]", kindNames()))
	}
	dir := filepath.Clean(rest[0])
	name := filepath.Base(dir)
	switch {
	case !pluginName.MatchString(name):
		return fail(exitFailed, fmt.Errorf("%q is not a name for a plugin: it has lower-case letters, digits, - and _, and starts with a letter", name))
	case taken(name):
		return fail(exitFailed, fmt.Errorf("%q %w", name, errTaken))
	}
	i := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == *kindName })
	if i < 0 {
		return fail(exitFailed, fmt.Errorf("there is no kind %q; there are: %s", *kindName, kindNames()))
	}
	files, err := render(kinds()[i], name)
	if err == nil {
		err = writeDir(dir, files)
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	for _, f := range files {
		fmt.Fprintf(stdout, "%s\n", filepath.Join(dir, f.name))
	}
	fmt.Fprintf(stdout, "\nNow: cd %s && wproxy plugin build && wproxy plugin test\n", dir)
	return exitOK
}

func kindNames() string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

type newFile struct{ name, text string }

// render makes the files of a new plugin.
func render(k kind, name string) ([]newFile, error) {
	fill := strings.NewReplacer("@NAME@", name, "@DESCRIPTION@", k.description, "@GRANT@", k.grant,
		"@CONFIG@", k.config, "@SETTINGS@", k.settings,
		"@USE@", strings.ReplaceAll(k.use, "@NAME@", name))
	var files []newFile
	for _, dir := range []string{"common", k.name} {
		entries, err := fs.ReadDir(templates, path.Join("template", dir))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := fs.ReadFile(templates, path.Join("template", dir, e.Name()))
			if err != nil {
				return nil, err
			}
			file := strings.TrimSuffix(e.Name(), ".tmpl")
			switch file {
			case "gitignore": // a file with a dot would not be embedded
				file = ".gitignore"
			case "test.toml":
				file = name + ".test.toml"
			}
			files = append(files, newFile{file, fill.Replace(string(text))})
		}
	}
	slices.SortFunc(files, func(a, b newFile) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// writeDir makes a directory with files. One that is there already is left as it is.
func writeDir(dir string, files []newFile) error {
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) { //nolint:gosec // source, as an editor would write it
		return fmt.Errorf("%s is there already; nothing was written", dir)
	} else if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o644); err != nil { //nolint:gosec // the same
			return err
		}
	}
	return nil
}
