package config

import (
	"flag"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const referencePath = "../../docs/configuration.md"

var (
	headingName = regexp.MustCompile("`\\[+([^]`]+)\\]+`")
	tomlBlock   = regexp.MustCompile("(?ms)^```toml\n(.*?)^```")
)

// TestReference checks docs/configuration.md: every table and key of the file format
// is there and no other, with the values and the default that the tags say; the
// examples are one valid file in which every key is set. With -update the columns
// of values and defaults are written anew.
func TestReference(t *testing.T) {
	b, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	tables := map[string]reflect.Type{}
	tablesOf(reflect.TypeFor[File](), "", tables)
	if len(tables) < 20 {
		t.Fatalf("only %d tables are reached", len(tables))
	}
	r := referenceReader{t: t, tables: tables, seen: map[string]bool{}}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = r.line(line)
	}
	r.leave()
	for path := range tables {
		if !r.seen[path] {
			t.Errorf("there is no table of [%s]", path)
		}
	}
	if now := strings.Join(lines, "\n"); now != text {
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(referencePath, []byte(now), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Error("values or defaults differ from the code: `go test ./core/config -run TestReference -update` mends them")
		}
	}

	t.Setenv("API_TOKEN", "token")
	var example strings.Builder
	for _, m := range tomlBlock.FindAllStringSubmatch(text, -1) {
		example.WriteString(m[1])
	}
	if _, err := Parse("example.toml", []byte(example.String())); err != nil {
		t.Fatalf("the examples together are refused:\n%v", err)
	}
	root, _ := parseTree("example.toml", []byte(example.String()))
	set := map[string]bool{}
	keysSet(root, reflect.TypeFor[File](), set)
	for path, typ := range tables {
		for _, key := range keysOf(typ) {
			if !set[typ.Name()+"."+key] {
				t.Errorf("no example sets %s of [%s]", key, path)
			}
		}
	}
}

// referenceReader reads the tables of keys line by line.
type referenceReader struct {
	t      *testing.T
	tables map[string]reflect.Type
	seen   map[string]bool // tables
	paths  []string        // of the section
	typ    reflect.Type
	keys   []string // rows so far; nil outside of a table of keys
}

// line checks one line and returns what it should be.
func (r *referenceReader) line(line string) string {
	switch {
	case strings.HasPrefix(line, "#"):
		r.leave()
		r.paths = nil
		for _, m := range headingName.FindAllStringSubmatch(line, -1) {
			r.paths = append(r.paths, m[1])
		}
		if line == "## The file" {
			r.paths = []string{""}
		}
		for _, path := range r.paths {
			if r.typ = r.tables[path]; r.typ == nil {
				r.t.Errorf("%s: there is no such table", line)
				r.paths = nil
			}
			r.seen[path] = true
		}
	case !strings.HasPrefix(line, "| `") || len(r.paths) == 0:
	default:
		cells := strings.SplitN(line, "|", 5)
		key := strings.Trim(cells[1], " `")
		r.keys = append(r.keys, key)
		i := fieldOf(r.typ, key)
		if i < 0 {
			r.t.Errorf("[%s] has no key %q", r.paths[0], key)
			return line
		}
		if len(strings.Trim(cells[4], " |")) < 8 {
			r.t.Errorf("[%s]: %s: what does it mean?", r.paths[0], key)
		}
		values, fallback := describeField(r.typ.Field(i))
		return "| `" + key + "` | " + values + " | " + fallback + " |" + cells[4]
	}
	return line
}

// leave ends a section: every key must have been there, once.
func (r *referenceReader) leave() {
	if len(r.paths) > 0 {
		want := keysOf(r.typ)
		slices.Sort(want)
		slices.Sort(r.keys)
		if !slices.Equal(r.keys, want) {
			r.t.Errorf("[%s]: keys %q, want %q", r.paths[0], r.keys, want)
		}
	}
	r.keys = nil
}

// describeField returns what stands in the columns of values and defaults.
func describeField(f reflect.StructField) (values, fallback string) {
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	zero := reflect.New(typ).Interface()
	quoted := true
	switch zero.(type) {
	case *bool:
		values, fallback, quoted = "true or false", "`false`", false
	case *int:
		values, quoted = "integer", false
	case *string, *Value:
		values = "text"
	case *Size:
		values = "size"
	case *Percent:
		values = "percentage"
	case *time.Duration:
		values = "duration"
	case *Rate:
		values = "rate"
	case *Backoff:
		values = "back-off"
	case *[]string:
		values = "list of text"
	case *[]netip.Prefix:
		values = "list of addresses and CIDRs"
	case *[]Target:
		values = "name, or table of names and weights"
	case *[]ServerEntry:
		values = "list of addresses and tables"
	case *[]Test, *[]Certificate:
		values = "list of tables"
	case *any:
		values = "table or text"
	case *Redirect:
		values = "text or table"
	case *Mirror:
		values = "name or table"
	default:
		values = "table"
	}
	if one := f.Tag.Get("oneof"); one != "" {
		values = strings.Replace(values, "text", "`\""+strings.ReplaceAll(one, "|", "\"`, `\"")+"\"`", 1)
	}
	if lo, hi, ok := strings.Cut(f.Tag.Get("range"), ".."); ok {
		values += ", " + lo + " to " + hi
		if lo == hi {
			values = lo
		}
	}
	if d, ok := f.Tag.Lookup("default"); ok {
		if quoted && d != "0" {
			d = `"` + strings.ReplaceAll(d, ",", `", "`) + `"`
		}
		fallback = "`" + d + "`"
	}
	return values, fallback
}

// tablesOf collects the tables of the file format by path.
func tablesOf(typ reflect.Type, path string, all map[string]reflect.Type) {
	sub := path
	for typ.Kind() != reflect.Struct {
		switch typ.Kind() {
		case reflect.Map:
			sub += ".NAME"
			typ = typ.Elem()
		case reflect.Pointer, reflect.Slice:
			typ = typ.Elem()
		default:
			return
		}
	}
	if len(keysOf(typ)) == 0 {
		return
	}
	all[sub] = typ
	for f := range typ.Fields() {
		if key := f.Tag.Get("toml"); key != "" && key != "-" {
			tablesOf(f.Type, strings.TrimPrefix(sub+"."+key, "."), all)
		}
	}
}

// keysSet collects the keys that n sets, after the name of their struct: tables of
// one kind have one description.
func keysSet(n *node, typ reflect.Type, set map[string]bool) {
	switch typ.Kind() {
	case reflect.Pointer:
		keysSet(n, typ.Elem(), set)
	case reflect.Slice:
		for _, e := range n.list {
			keysSet(e, typ.Elem(), set)
		}
	case reflect.Map:
		for _, e := range n.table {
			keysSet(e, typ.Elem(), set)
		}
	case reflect.Struct:
		for key, e := range n.table {
			if i := fieldOf(typ, key); i >= 0 {
				set[typ.Name()+"."+key] = true
				keysSet(e, typ.Field(i).Type, set)
			}
		}
	default: // a value
	}
}
