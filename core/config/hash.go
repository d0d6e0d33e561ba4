package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"time"
)

// A Hash identifies the settings of an object: equal for equal settings,
// wherever they were written. Secrets count with their content. The zero Hash
// is no hash.
type Hash [sha256.Size]byte

// String returns the first 12 hex digits, for people to compare.
func (h Hash) String() string { return hex.EncodeToString(h[:6]) }

// HashOf hashes a struct of this package or a tree of settings. Fields tagged
// hash:"-" (places, and hashes themselves) do not count.
func HashOf(v any) Hash { return newHasher().of(v) }

// hash fills every Hash of f.
func (f *File) hash() {
	h := newHasher()
	for _, l := range f.Listeners {
		l.Hash = h.of(l)
	}
	for _, u := range f.Upstreams {
		u.Hash = h.of(u)
	}
	for _, p := range f.Plugins {
		p.Hash = h.of(p)
	}
	for _, r := range f.Routes {
		for i := range r.Plugins {
			r.Plugins[i].Hash = h.of(&r.Plugins[i])
		}
		r.Hash = h.of(r)
	}
}

// Sum identifies all settings of f, which has been loaded: equal on machines that are
// configured alike.
func (f *File) Sum() Hash {
	all := struct {
		Objects map[string]string
		Server  Server
		Admin   Admin
		Log     Log
		Metrics Metrics
		Tracing Tracing
	}{map[string]string{}, f.Server, f.Admin, f.Log, f.Metrics, f.Tracing}
	for name, o := range f.Listeners {
		all.Objects["listeners."+name] = o.Hash.String()
	}
	for name, o := range f.Routes {
		all.Objects["routes."+name] = o.Hash.String()
	}
	for name, o := range f.Upstreams {
		all.Objects["upstreams."+name] = o.Hash.String()
	}
	for name, o := range f.Plugins {
		all.Objects["plugins."+name] = o.Hash.String()
	}
	return HashOf(all)
}

// A hasher hashes many values, of few types.
type hasher struct {
	b     []byte // what is hashed
	types map[reflect.Type]hashedType
}

// A hashedType is what is to be known of a type.
type hashedType struct {
	text   bool // its values are told apart by their String
	fields []hashedField
}

type hashedField struct {
	name  string
	index int
}

func newHasher() *hasher { return &hasher{types: map[reflect.Type]hashedType{}} }

// of is HashOf; a pointer counts as what it points to.
func (h *hasher) of(v any) Hash {
	h.b = h.b[:0]
	h.value(reflect.Indirect(reflect.ValueOf(v)))
	return sha256.Sum256(h.b)
}

// typeOf looks at a type, once.
func (h *hasher) typeOf(t reflect.Type) hashedType {
	k, ok := h.types[t]
	if ok {
		return k
	}
	k.text = t.Implements(reflect.TypeFor[fmt.Stringer]())
	if t.Kind() == reflect.Struct {
		k.text = k.text && t.NumField() > 0 && !t.Field(0).IsExported() // netip.Prefix
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("hash") != "-" {
				k.fields = append(k.fields, hashedField{f.Name, i})
			}
		}
	}
	h.types[t] = k
	return k
}

// value writes v in a form that differs for different values: every part
// carries its kind and, if it varies, its length.
func (h *hasher) value(v reflect.Value) {
	if !v.IsValid() {
		h.b = append(h.b, 0)
		return
	}
	h.b = append(h.b, byte(v.Kind()))
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		h.value(v.Elem())
	case reflect.Struct:
		h.structure(v)
	case reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		h.int(uint64(len(keys)))
		for _, k := range keys {
			h.string(k.String())
			h.value(v.MapIndex(k))
		}
	case reflect.Slice:
		nilness := uint64(0)
		if v.IsNil() {
			nilness = 1 // an absent grant is not an empty one
		}
		h.int(nilness)
		h.int(uint64(v.Len()))
		for i := range v.Len() {
			h.value(v.Index(i))
		}
	case reflect.String:
		h.string(v.String())
	default:
		h.string(h.number(v))
	}
}

func (h *hasher) structure(v reflect.Value) {
	if s, ok := reflect.TypeAssert[Value](v); ok {
		h.string(s.content)
		return
	}
	t := h.typeOf(v.Type())
	if t.text {
		s, _ := reflect.TypeAssert[fmt.Stringer](v)
		h.string(s.String())
		return
	}
	for _, f := range t.fields {
		h.string(f.name)
		h.value(v.Field(f.index))
	}
}

// number returns v as fmt.Sprint writes it, without its detours where there are many.
func (h *hasher) number(v reflect.Value) string {
	switch d, ok := reflect.TypeAssert[time.Duration](v); {
	case ok:
		return d.String()
	case h.typeOf(v.Type()).text:
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	}
	return fmt.Sprint(v.Interface())
}

func (h *hasher) string(s string) {
	h.int(uint64(len(s)))
	h.b = append(h.b, s...)
}

func (h *hasher) int(n uint64) { h.b = binary.LittleEndian.AppendUint64(h.b, n) }
