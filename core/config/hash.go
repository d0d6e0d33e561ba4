package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"reflect"
	"sort"
)

// A Hash identifies the settings of an object: equal for equal settings,
// wherever they were written. Secrets count with their content. The zero Hash
// is no hash.
type Hash [sha256.Size]byte

// String returns the first 12 hex digits, for people to compare.
func (h Hash) String() string { return hex.EncodeToString(h[:6]) }

// HashOf hashes a struct of this package or a tree of settings. Fields tagged
// hash:"-" (places, and hashes themselves) do not count.
func HashOf(v any) Hash {
	h := sha256.New()
	hashValue(h, reflect.ValueOf(v))
	return Hash(h.Sum(nil))
}

// hash fills every Hash of f.
func (f *File) hash() {
	for _, l := range f.Listeners {
		l.Hash = HashOf(*l)
	}
	for _, u := range f.Upstreams {
		u.Hash = HashOf(*u)
	}
	for _, p := range f.Plugins {
		p.Hash = HashOf(*p)
	}
	for _, r := range f.Routes {
		for i := range r.Plugins {
			r.Plugins[i].Hash = HashOf(r.Plugins[i])
		}
		r.Hash = HashOf(*r)
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

// hashValue writes v in a form that differs for different values: every part
// carries its kind and, if it varies, its length.
func hashValue(h hash.Hash, v reflect.Value) {
	if !v.IsValid() {
		h.Write([]byte{0})
		return
	}
	h.Write([]byte{byte(v.Kind())})
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		hashValue(h, v.Elem())
	case reflect.Struct:
		if s, ok := reflect.TypeAssert[Value](v); ok {
			hashString(h, s.content)
			return
		}
		if s, ok := reflect.TypeAssert[fmt.Stringer](v); ok && v.NumField() > 0 && !v.Type().Field(0).IsExported() {
			hashString(h, s.String()) // netip.Prefix
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("hash") != "-" {
				hashString(h, f.Name)
				hashValue(h, v.Field(i))
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		hashInt(h, uint64(len(keys)))
		for _, k := range keys {
			hashString(h, k.String())
			hashValue(h, v.MapIndex(k))
		}
	case reflect.Slice:
		nilness := uint64(0)
		if v.IsNil() {
			nilness = 1 // an absent grant is not an empty one
		}
		hashInt(h, nilness)
		hashInt(h, uint64(v.Len()))
		for i := range v.Len() {
			hashValue(h, v.Index(i))
		}
	case reflect.String:
		hashString(h, v.String())
	default:
		hashString(h, fmt.Sprint(v.Interface()))
	}
}

func hashString(h hash.Hash, s string) {
	hashInt(h, uint64(len(s)))
	h.Write([]byte(s))
}

func hashInt(h hash.Hash, n uint64) {
	h.Write(binary.LittleEndian.AppendUint64(nil, n))
}
