package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A KeyChange is a key that two versions of an object differ in.
type KeyChange struct {
	// Key is dotted, from the object on: "retry.attempts".
	Key string `json:"key"`
	// Old and New are its values, where these can be shown in a few words and cannot be
	// secret: numbers, durations, one of several words, names of objects, addresses of
	// servers. Both are "" elsewhere, and one is where the key is not set.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// String returns "key: old -> new", or "key" where there is nothing to be shown.
func (c KeyChange) String() string {
	if c.Old == "" && c.New == "" {
		return c.Key
	}
	show := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	return c.Key + ": " + show(c.Old) + " -> " + show(c.New)
}

// Differences returns the keys in which old and next differ: two objects of a kind that
// [File] has, such as *Route or Server, in the order in which the type has the keys.
// What the types compute from other keys is left out.
func Differences[T any](old, next T) []KeyChange {
	var d differ
	d.walk("", reflect.ValueOf(old), reflect.ValueOf(next), "")
	return d.changes
}

// A differ collects what differs.
type differ struct{ changes []KeyChange }

// add records that key differs, which is all that may be said of most values.
func (d *differ) add(key string) { d.changes = append(d.changes, KeyChange{Key: key}) }

// walk compares the values of key; tag is that of the field that they are in.
func (d *differ) walk(key string, a, b reflect.Value, tag reflect.StructTag) {
	switch {
	case !a.IsValid() || !b.IsValid():
		if a.IsValid() != b.IsValid() {
			d.add(key)
		}
		return
	case a.Type() != b.Type(): // settings of a plugin: a text and a table
		d.add(key)
		return
	}
	if v, ok := reflect.TypeAssert[Value](a); ok {
		d.value(key, v, b)
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		switch {
		case a.IsNil() && b.IsNil():
		case a.IsNil() || b.IsNil():
			d.add(key)
		default:
			d.walk(key, a.Elem(), b.Elem(), tag)
		}
	case reflect.Struct:
		d.fields(key, a, b)
	case reflect.Map:
		d.table(key, a, b)
	default:
		if HashOf(written(a)) != HashOf(written(b)) {
			d.differ(key, shown(key, a, tag), shown(key, b, tag))
		}
	}
}

// differ records that key differs, and its values unless they would look the same.
func (d *differ) differ(key, old, next string) {
	if old == next {
		old, next = "", ""
	}
	d.changes = append(d.changes, KeyChange{key, old, next})
}

// written returns a value without what was computed from other keys.
func written(v reflect.Value) any {
	servers, ok := reflect.TypeAssert[[]ServerEntry](v)
	if !ok {
		return v.Interface()
	}
	servers = slices.Clone(servers)
	for i := range servers {
		servers[i].Network, servers[i].Dial, servers[i].Scheme = "", "", ""
	}
	return servers
}

// value compares texts with references in them, which are shown as they were written.
func (d *differ) value(key string, a Value, other reflect.Value) {
	b, _ := reflect.TypeAssert[Value](other)
	switch {
	case a.content == b.content:
	case a.text != a.content && b.text != b.content && a.text != b.text:
		d.changes = append(d.changes, KeyChange{key, a.text, b.text})
	default:
		d.add(key)
	}
}

// fields compares structs by their keys. One without keys, such as a back-off, is a value.
func (d *differ) fields(key string, a, b reflect.Value) {
	t, keys := a.Type(), 0
	for i := range t.NumField() {
		k := t.Field(i).Tag.Get("toml")
		if k == "" || k == "-" {
			continue
		}
		keys++
		if key != "" {
			k = key + "." + k
		}
		d.walk(k, a.Field(i), b.Field(i), t.Field(i).Tag)
	}
	if keys == 0 && HashOf(a.Interface()) != HashOf(b.Interface()) {
		d.differ(key, shown(key, a, ""), shown(key, b, ""))
	}
}

// table compares tables name by name.
func (d *differ) table(key string, a, b reflect.Value) {
	names := map[string]bool{}
	for _, m := range []reflect.Value{a, b} {
		for _, k := range m.MapKeys() {
			names[k.String()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		k := reflect.ValueOf(name)
		d.walk(key+"."+name, a.MapIndex(k), b.MapIndex(k), "")
	}
}

// shown writes a value, if everybody may see it and it is short.
func shown(key string, v reflect.Value, tag reflect.StructTag) string {
	switch x := v.Interface().(type) {
	case []ServerEntry:
		return join(x, func(s ServerEntry) string { return s.Address })
	case []Target:
		return join(x, func(t Target) string {
			if len(x) == 1 {
				return t.Upstream
			}
			return fmt.Sprintf("%s (%d)", t.Upstream, t.Weight)
		})
	case []string:
		if key == "use" || key == "protocols" || tag.Get("oneof") != "" {
			return strings.Join(x, ", ")
		}
		return ""
	case string:
		if key == "address" || tag.Get("oneof") != "" {
			return x
		}
		return ""
	case bool:
		return fmt.Sprint(x)
	}
	if v.CanInt() || v.CanFloat() {
		return show(v)
	}
	if s, ok := reflect.TypeAssert[fmt.Stringer](v); ok { // a back-off
		return s.String()
	}
	return ""
}

// join lists what f says of each, but not of very many.
func join[T any](list []T, f func(T) string) string {
	var all []string
	for _, x := range list[:min(len(list), maxShown)] {
		all = append(all, f(x))
	}
	if n := len(list) - len(all); n > 0 {
		all = append(all, fmt.Sprintf("%d more", n))
	}
	return strings.Join(all, ", ")
}
