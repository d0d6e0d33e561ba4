package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// DefaultListener is the name of the listener of a file that has none, and
// DefaultAddress where it listens.
const (
	DefaultListener = "http"
	DefaultAddress  = ":8080"
)

// Load reads the file at path and what it includes. The error is a Problems
// list with everything that is wrong, sorted by place, or, if the file at path
// cannot be read at all, one that says why; the File is nil then.
func Load(path string) (*File, error) {
	content, err := readFile(path, maxFileSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return Parse(path, content)
}

// Parse is Load for a main file whose content is already at hand; name is used
// in messages, and relative paths resolve against its directory. The error is a
// Problems list.
func Parse(name string, content []byte) (*File, error) {
	root, p := parseTree(name, content)
	if p != nil {
		return nil, Problems{*p}
	}
	l := loader{b: binder{expander: newExpander()}, files: []string{name}}
	l.include(root)
	return l.load(name, root)
}

// ForAddress returns the configuration of `wproxy run --to ADDRESS`: one route
// "all" for everything, on the default listener, to one server. The error is a
// Problems list.
func ForAddress(address string) (*File, error) {
	s := ServerEntry{Address: address}
	if err := s.resolve(); err != nil {
		return nil, Problems{{Text: "--to: " + err.Error()}}
	}
	pos := Pos{File: "--to"}
	key := &node{pos: pos, key: "routes.all.to", val: strings.ReplaceAll(address, "${", "$${")}
	all := &node{pos: pos, key: "routes.all", table: map[string]*node{"to": key}}
	routes := &node{pos: pos, key: "routes", table: map[string]*node{"all": all}}
	l := loader{b: binder{expander: newExpander()}}
	return l.load("", &node{table: map[string]*node{"routes": routes}})
}

// Defaults returns what a file without routes would mean, if it were allowed.
func Defaults() *File {
	f := newFile("")
	f.finish()
	return f
}

// newFile returns a File with the defaults of its tags.
func newFile(path string) *File {
	f := &File{
		Path:      path,
		Listeners: map[string]*Listener{},
		Routes:    map[string]*Route{},
		Upstreams: map[string]*Upstream{},
		Plugins:   map[string]*Plugin{},
		index:     index{},
	}
	setDefaults(reflect.ValueOf(f).Elem())
	return f
}

// readFile reads a regular file of at most limit bytes; a pipe or a device could
// keep a reload waiting for ever. Its error does not repeat the path.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without a writer does not block
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() { // that one, reading says well
		return nil, errors.New("is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, bare(err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("file is larger than %s", Size(limit))
	}
	return content, nil
}

// bare takes operation and path off an error of package os, and says which
// file is missing in words.
func bare(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("file not found")
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot be read: %w", pe.Err)
	}
	return err
}

// A loader merges trees and binds the result.
type loader struct {
	b     binder
	files []string
}

// include merges the files that root includes into root.
func (l *loader) include(root *node) {
	n := root.table["include"]
	if n == nil {
		return
	}
	elems := n.list
	if !n.array {
		elems = []*node{n}
	}
	dir := filepath.Dir(l.files[0])
	for _, e := range elems {
		pattern := l.b.text(scope{}, e).content
		if pattern == "" {
			continue // reported by text, or by validate
		}
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		found, err := filepath.Glob(pattern)
		switch {
		case err != nil:
			l.b.addf(scope{}, e, "%q is not a glob: %v; write as in \"conf.d/*.toml\"", pattern, err)
		case len(found) == 0 && !strings.ContainsAny(pattern, "*?["):
			l.b.addf(scope{}, e, "%s: file not found; a glob may find nothing, as in \"conf.d/*.toml\"", pattern)
		case len(l.files)+len(found) > maxIncludes:
			l.b.addf(scope{}, e, "%q finds more than %d files", pattern, maxIncludes)
		}
		for _, path := range found {
			if len(l.files) < maxIncludes && !slices.ContainsFunc(l.files, func(f string) bool { return sameFile(f, path) }) {
				l.merge(root, e, path)
			}
		}
	}
}

// sameFile reports whether two names are of one file: a glob may find the main
// file, or a file that another glob has found.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// merge adds the file at path to root; at is the include that found it.
func (l *loader) merge(root, at *node, path string) {
	content, err := readFile(path, maxFileSize)
	if err != nil {
		l.b.addf(scope{}, at, "%s: %v; name files of TOML", path, err)
		return
	}
	l.files = append(l.files, path)
	inc, p := parseTree(path, content)
	if p != nil {
		l.b.problems = append(l.b.problems, *p)
		return
	}
	for _, k := range inc.names() {
		n, old := inc.table[k], root.table[k]
		switch {
		case k == "include":
			l.b.addf(scope{}, n, "an included file cannot include; name the file in %s", l.files[0])
		case old == nil:
			root.table[k] = n
		case isNoun(k) && n.table != nil && old.table != nil:
			for _, name := range n.names() {
				if first := old.table[name]; first != nil {
					l.b.addf(scope{label(k, name), n.table[name].key}, n.table[name], "is defined twice; the other one is at %s", first.pos)
					continue
				}
				old.table[name] = n.table[name]
			}
		case k == "tests" && n.array && old.array:
			old.list = append(old.list, n.list...)
		default:
			l.b.addf(scope{}, n, "is set twice; the other one is at %s", old.pos)
		}
	}
}

// isNoun reports whether k is a table of named tables.
func isNoun(k string) bool {
	return k == "listeners" || k == "routes" || k == "upstreams" || k == "plugins"
}

// load turns the merged tree into a File.
func (l *loader) load(path string, root *node) (*File, error) {
	f := newFile(path)
	f.index.add(root)
	b := &l.b
	if n := root.table["sandbox"]; n != nil { // first: plugins start from it
		b.bindStruct(scope{"sandbox", "sandbox"}, n, reflect.ValueOf(&f.Sandbox).Elem())
	}
	v := reflect.ValueOf(f).Elem()
	for _, k := range root.names() {
		n := root.table[k]
		i := fieldOf(v.Type(), k)
		switch {
		case i < 0:
			b.unknown(scope{}, root, n, k, v.Type())
		case k == "sandbox":
		case isNoun(k):
			if n.table == nil {
				b.addf(scope{}, n, "is %s, want tables: write [%s.NAME]", n.kind(), k)
				continue
			}
			for _, name := range n.names() {
				b.object(f, k, name, n.table[name])
			}
		default:
			b.bindField(scope{}, n, v.Field(i), v.Type().Field(i).Tag)
		}
	}
	f.finish()
	check := validator{f: f, problems: b.problems}
	check.file()
	if len(check.problems) > 0 {
		check.problems.Sort()
		return nil, check.problems[:min(len(check.problems), maxProblems)]
	}
	f.hash()
	f.Files = append(l.files, b.expander.files...)
	return f, nil
}

// object binds one named table.
func (b *binder) object(f *File, table, name string, n *node) {
	sc := scope{label(table, name), n.key}
	if !isObjectName(name) {
		b.addf(sc, n, "is not a name; write letters, digits, '-', '_' and '.', a letter or digit first, %d characters at most", maxName)
	}
	switch table {
	case "listeners":
		o := &Listener{Name: name, Pos: n.pos}
		f.Listeners[name] = o
		bindObject(b, sc, n, o)
		if o.TLS != nil && o.TLS.ACME != nil {
			o.TLS.ACME.resolve(n.table["tls"].table["acme"])
		}
	case "routes":
		o := &Route{Name: name, Pos: n.pos}
		f.Routes[name] = o
		bindObject(b, sc, n, o)
	case "upstreams":
		o := &Upstream{Name: name, Pos: n.pos}
		f.Upstreams[name] = o
		bindObject(b, sc, n, o)
		if t := n.table["tls"]; o.TLS != nil && t != nil {
			o.TLS.resolve(t)
		}
	case "plugins":
		o := &Plugin{Name: name, Pos: n.pos, Kind: "http", VMID: name, Sandbox: f.Sandbox}
		f.Plugins[name] = o
		// Not setDefaults: the sandbox starts from [sandbox].
		b.bindStruct(sc, n, reflect.ValueOf(o).Elem())
		o.resolve(f, n)
	}
}

// bindObject sets defaults and binds.
func bindObject[T any](b *binder, sc scope, n *node, o *T) {
	v := reflect.ValueOf(o).Elem()
	setDefaults(v)
	b.bindStruct(sc, n, v)
}

// builtinMemory is the memory cap of a built-in plugin that nobody set: they
// are known to need less than strangers.
const builtinMemory Size = 16 << 20

// resolve fills Builtin and Path, and the memory default of built-ins.
func (p *Plugin) resolve(f *File, n *node) {
	if name, ok := strings.CutPrefix(p.Wasm, "builtin:"); ok {
		p.Builtin = name
		own := n.table["sandbox"]
		if _, all := f.index["sandbox.memory"]; !all && (own == nil || own.table["memory"] == nil) {
			p.Sandbox.Memory = builtinMemory
		}
		return
	}
	if p.Path = p.Wasm; p.Wasm != "" && !filepath.IsAbs(p.Wasm) {
		dir := filepath.Dir(n.pos.File)
		if w := n.table["wasm"]; w != nil {
			dir = filepath.Dir(w.pos.File)
		}
		p.Path = filepath.Join(dir, p.Wasm)
	}
}

// resolve makes the paths relative to the file that names them.
func (t *UpstreamTLS) resolve(n *node) {
	for key, path := range map[string]*string{"ca": &t.CA, "cert": &t.Cert, "key": &t.Key} {
		if k := n.table[key]; k != nil && *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(k.pos.File), *path)
		}
	}
}

// isObjectName reports whether s may name a table. No ':', so that upstreams
// made from `to` cannot clash; no '/', which the commands use to join names.
func isObjectName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return true
}
