package config

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A binder puts the values of nodes into structs, by their toml tags, and
// collects what does not fit.
type binder struct {
	expander *expander
	problems Problems
}

// A scope is the object that a message is about.
type scope struct {
	label string // `route "api"`, or "" for the file
	key   string // full key of the object: "routes.api"
}

// addf records a problem at n.
func (b *binder) addf(sc scope, n *node, format string, args ...any) {
	path := n.key
	if sc.label != "" {
		path = strings.TrimPrefix(strings.TrimPrefix(n.key, sc.key), ".")
	}
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	if sc.label != "" {
		text = sc.label + ": " + text
	}
	p := Problem{Pos: n.pos, Key: n.key, Text: oneLine(text)}
	if strings.HasPrefix(format, "is %s, want ") {
		p.Code = CodeWrongType
	}
	b.problems = append(b.problems, p)
}

// unknown records the key of n, which parent's type does not have.
func (b *binder) unknown(sc scope, parent, n *node, name string, t reflect.Type) {
	at := *parent
	at.pos = n.pos
	if slices.Contains(later(t.Name()), name) {
		b.addf(sc, &at, "key %q is not supported by this version yet; leave it out", name)
		b.code(CodeUnsupported)
		b.problems[len(b.problems)-1].Key = n.key
		return
	}
	known := keysOf(t)
	hint := suggest(name, known)
	switch {
	case hint != "":
	case len(known) > maxKnown:
		hint = "; docs/configuration.md and `wproxy schema` list the keys"
	default:
		hint = "; known are " + strings.Join(known, ", ")
	}
	b.addf(sc, &at, "unknown key %q%s", name, hint)
	b.code(CodeUnknownKey)
	b.problems[len(b.problems)-1].Key = n.key
}

// code says what kind the problem is that was recorded last.
func (b *binder) code(code string) { b.problems[len(b.problems)-1].Code = code }

// keysOf returns the keys of a struct type.
func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if k := field.Tag.Get("toml"); k != "" && k != "-" {
			keys = append(keys, k)
		}
	}
	return keys
}

// bindStruct puts the table n into the struct v, whose defaults are set.
func (b *binder) bindStruct(sc scope, n *node, v reflect.Value) {
	if n.table == nil {
		b.addf(sc, n, "is %s, want a table", n.kind())
		return
	}
	t := v.Type()
	for _, name := range n.names() {
		i := fieldOf(t, name)
		if i < 0 {
			b.unknown(sc, n, n.table[name], name, t)
			continue
		}
		b.bindField(sc, n.table[name], v.Field(i), t.Field(i).Tag)
	}
}

// fieldOf returns the index of the field for key, or -1.
func fieldOf(t reflect.Type, key string) int {
	for i := range t.NumField() {
		if k := t.Field(i).Tag.Get("toml"); k == key && k != "-" && k != "" {
			return i
		}
	}
	return -1
}

// bindField puts n into one field, and checks range and choice.
func (b *binder) bindField(sc scope, n *node, v reflect.Value, tag reflect.StructTag) {
	before := len(b.problems)
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		setDefaults(p.Elem())
		b.bindValue(sc, n, p.Elem())
		v.Set(p)
		v = p.Elem()
	} else {
		b.bindValue(sc, n, v)
	}
	if len(b.problems) > before {
		return
	}
	if r := tag.Get("range"); r != "" {
		b.checkRange(sc, n, v, r)
	}
	if c := tag.Get("oneof"); c != "" {
		b.checkChoice(sc, n, v, strings.Split(c, "|"), strings.Split(tag.Get("later"), "|"))
	}
}

// bindValue puts n into v by v's type.
func (b *binder) bindValue(sc scope, n *node, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = b.text(sc, n).content
	case *Value:
		*p = b.text(sc, n)
	case *bool:
		if x, ok := n.val.(bool); ok {
			*p = x
		} else {
			b.addf(sc, n, "is %s, want true or false", n.kind())
		}
	case *int:
		x, ok := n.val.(int64)
		if !ok {
			b.addf(sc, n, "is %s, want an integer", n.kind())
		} else if x != int64(int(x)) {
			b.addf(sc, n, "%d is out of range", x)
		}
		*p = int(x)
	case *Size:
		bindUnit(b, sc, n, p, "a size such as \"16MiB\"", parseSize)
	case *Percent:
		bindUnit(b, sc, n, p, "a percentage such as \"20%\"", parsePercent)
	case *time.Duration:
		bindUnit(b, sc, n, p, "a duration such as \"30s\"", parseDuration)
	case *Rate:
		bindUnit(b, sc, n, p, "a rate such as \"3/s\"", parseRate)
	case *Backoff:
		bindUnit(b, sc, n, p, "a back-off such as \"1s..30s\"", parseBackoff)
	case *map[string]any:
		if n.table == nil {
			b.addf(sc, n, "is %s, want a table", n.kind())
			return
		}
		*p, _ = b.tree(sc, n).(map[string]any)
	case *any:
		*p = b.tree(sc, n)
	default:
		b.bindForm(sc, n, v)
	}
}

// bindUnit puts a string with a unit into p. A bare integer is taken where it
// is 0, or a size in bytes.
func bindUnit[T Size | Percent | Rate | time.Duration | Backoff](b *binder, sc scope, n *node, p *T, want string, parse func(string) (T, error)) {
	switch x := n.val.(type) {
	case string:
		v := b.text(sc, n)
		u, err := parse(v.content)
		if err != nil && v.content != v.text {
			b.addf(sc, n, "the value of %s is not %s", v.text, want) // never show the content
		} else if err != nil && v.content != "" {
			b.addf(sc, n, "%v", err)
		} else if err != nil {
			b.addf(sc, n, "is empty, want %s", want)
		}
		*p = u
	case int64:
		if s, ok := any(p).(*Size); ok && x >= 0 {
			*s = Size(x)
			return
		}
		if d, ok := any(p).(*time.Duration); ok && x == 0 {
			*d = 0
			return
		}
		b.addf(sc, n, "%d has no unit, want %s", x, want)
	default:
		b.addf(sc, n, "is %s, want %s", n.kind(), want)
	}
}

// text returns the string n with references resolved.
func (b *binder) text(sc scope, n *node) Value {
	s, ok := n.val.(string)
	if !ok {
		b.addf(sc, n, "is %s, want a string", n.kind())
		return Value{}
	}
	v, err := b.expander.expand(s, filepath.Dir(n.pos.File))
	if err != nil {
		b.addf(sc, n, "%v", err)
	}
	return v
}

// tree returns n as plain Go values for settings that wproxy does not
// interpret: strings (Value if they hold references), int64, float64, bool,
// []any, map[string]any; dates as strings, which is what JSON has.
func (b *binder) tree(sc scope, n *node) any {
	switch {
	case n.table != nil:
		m := make(map[string]any, len(n.table))
		for _, k := range n.names() {
			m[k] = b.tree(sc, n.table[k])
		}
		return m
	case n.array:
		l := make([]any, len(n.list))
		for i, e := range n.list {
			l[i] = b.tree(sc, e)
		}
		return l
	}
	switch x := n.val.(type) {
	case string:
		v := b.text(sc, n)
		if v.text != v.content {
			return v
		}
		return v.content
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			b.addf(sc, n, "%v cannot be handed on: JSON has no such number; write another", x)
		}
		return x
	case time.Time:
		return x.Format(time.RFC3339Nano)
	default:
		return x
	}
}

// isChoice reports whether s is the choice k. One like "call:UPSTREAM" stands for all
// that begin as it does up to the colon, and have something behind it.
func isChoice(s, k string) bool {
	if kind, _, ok := strings.Cut(k, ":"); ok {
		rest, ok := strings.CutPrefix(s, kind+":")
		return ok && rest != ""
	}
	return s == k
}

// checkChoice checks a string, or each of a list, against what is allowed.
func (b *binder) checkChoice(sc scope, n *node, v reflect.Value, known, notYet []string) {
	check := func(n *node, s string) {
		if slices.ContainsFunc(known, func(k string) bool { return isChoice(s, k) }) {
			return
		}
		quoted := `"` + strings.Join(known, `", "`) + `"`
		for _, k := range notYet {
			if k != "" && isChoice(s, k) {
				b.addf(sc, n, "%q is not supported by this version yet; supported: %s", s, quoted)
				b.code(CodeUnsupported)
				return
			}
		}
		if len(known) == 1 {
			b.addf(sc, n, "%q is not known, want %s", s, quoted)
		} else {
			b.addf(sc, n, "%q is not one of %s%s", s, quoted, suggest(s, known))
		}
		b.code(CodeBadChoice)
	}
	switch x := v.Interface().(type) {
	case string:
		check(n, x)
	case []string:
		for i, s := range x {
			if n.array {
				check(n.list[i], s)
			} else {
				check(n, s)
			}
		}
	}
}

// checkRange checks a number against "lo..hi".
func (b *binder) checkRange(sc scope, n *node, v reflect.Value, r string) {
	lo, hi, _ := strings.Cut(r, "..")
	a, z, x := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem(), v
	setScalar(a, lo)
	setScalar(z, hi)
	var outside bool
	if v.Kind() == reflect.Float64 {
		outside = x.Float() < a.Float() || x.Float() > z.Float()
	} else {
		outside = x.Int() < a.Int() || x.Int() > z.Int()
	}
	switch {
	case !outside:
		return
	case lo == hi:
		b.addf(sc, n, "%s is not known, the only one is %s", show(x), show(a))
	default:
		b.addf(sc, n, "%s is out of range, allowed is %s to %s", show(x), show(a), show(z))
	}
	b.code(CodeOutOfRange)
}

// show writes a number as it would stand in the file.
func show(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return FormatDuration(x)
	case fmt.Stringer:
		return x.String()
	default:
		return fmt.Sprint(x)
	}
}

// setDefaults fills v, a struct, from the default tags of its fields.
func setDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if d, ok := f.Tag.Lookup("default"); ok {
			setScalar(v.Field(i), d)
		} else if f.Type.Kind() == reflect.Struct && f.Tag.Get("toml") != "" {
			setDefaults(v.Field(i))
		}
	}
}

// setScalar puts text from a tag into v. The tags are constants, so a bad one
// is a bug of this package, and a test reads them all.
func setScalar(v reflect.Value, text string) {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = strings.Split(text, ",")
	case *bool:
		*p, err = strconv.ParseBool(text)
	case *int:
		*p, err = strconv.Atoi(text)
	case *Size:
		*p, err = parseSize(text)
	case *Percent:
		*p, err = parsePercent(text)
	case *time.Duration:
		*p, err = parseDuration(text)
	case *Rate:
		*p, err = parseRate(text)
	case *Backoff:
		*p, err = parseBackoff(text)
	default:
		err = fmt.Errorf("config: no default for %s", v.Type())
	}
	if err != nil {
		panic(err)
	}
}

// setDefaultsOf is setDefaults for a pointer to a struct.
func setDefaultsOf[T any](o *T) { setDefaults(reflect.ValueOf(o).Elem()) }
