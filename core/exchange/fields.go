package exchange

import (
	"iter"
	"slices"
)

// A Field is one field line. Name is in lower case.
type Field struct{ Name, Value string }

// Fields is an ordered list of field lines: repeats and order are kept, names
// are in lower case (HPACK, QPACK and the Proxy-Wasm map encoding are ordered
// lists; set-cookie repeats; a map loses both). The zero value is empty and
// ready to use. Lookups compare exact bytes: pass names in lower case.
type Fields struct{ list []Field }

// Len returns the number of field lines.
func (f *Fields) Len() int { return len(f.list) }

// At returns line i.
func (f *Fields) At(i int) Field { return f.list[i] }

// List returns the lines. The slice is owned by f and valid until f is edited.
func (f *Fields) List() []Field { return f.list }

// Get returns the value of the first line called name.
func (f *Fields) Get(name string) (string, bool) {
	for i := range f.list {
		if f.list[i].Name == name {
			return f.list[i].Value, true
		}
	}
	return "", false
}

// Value returns the value of the first line called name, or "".
func (f *Fields) Value(name string) string { v, _ := f.Get(name); return v }

// Joined returns the values of all lines called name as one list (RFC 9110 5.3).
func (f *Fields) Joined(name string) string {
	all := ""
	for i := range f.list {
		if l := &f.list[i]; l.Name == name && l.Value != "" {
			if all != "" {
				all += ", "
			}
			all += l.Value
		}
	}
	return all
}

// Has reports whether there is a line called name.
func (f *Fields) Has(name string) bool { _, ok := f.Get(name); return ok }

// Add appends a line. name must be in lower case.
func (f *Fields) Add(name, value string) { f.list = append(f.list, Field{name, value}) }

// Grow makes room for n more lines.
func (f *Fields) Grow(n int) { f.list = slices.Grow(f.list, n) }

// Set leaves exactly one line called name: the first one is changed in its
// place, further ones are removed; without one a line is appended.
func (f *Fields) Set(name, value string) {
	for i := range f.list {
		if f.list[i].Name == name {
			f.list[i].Value = value
			f.removeFrom(i+1, name)
			return
		}
	}
	f.Add(name, value)
}

// SetAt replaces the value of line i.
func (f *Fields) SetAt(i int, value string) { f.list[i].Value = value }

// Remove removes all lines called name.
func (f *Fields) Remove(name string) { f.removeFrom(0, name) }

func (f *Fields) removeFrom(i int, name string) {
	for ; i < len(f.list); i++ {
		if f.list[i].Name == name {
			break
		}
	}
	if i >= len(f.list) {
		return
	}
	kept := i
	for ; i < len(f.list); i++ {
		if f.list[i].Name != name {
			f.list[kept] = f.list[i]
			kept++
		}
	}
	clear(f.list[kept:])
	f.list = f.list[:kept]
}

// Replace replaces all lines by those of list, which is copied.
func (f *Fields) Replace(list []Field) {
	clear(f.list)
	f.list = append(f.list[:0], list...)
}

// CopyFrom makes f a copy of src, reusing f's capacity.
func (f *Fields) CopyFrom(src *Fields) { f.Replace(src.list) }

// All iterates over the lines in order.
func (f *Fields) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, x := range f.list {
			if !yield(x.Name, x.Value) {
				return
			}
		}
	}
}

// Size returns the sum of the lengths of names and values.
func (f *Fields) Size() int {
	n := 0
	for i := range f.list {
		n += len(f.list[i].Name) + len(f.list[i].Value)
	}
	return n
}

// Reset empties f, keeping its capacity and dropping its strings.
func (f *Fields) Reset() {
	clear(f.list)
	f.list = f.list[:0]
}

// RemoveFunc removes the lines whose name del reports true for.
func (f *Fields) RemoveFunc(del func(name string) bool) {
	kept := 0
	for i := range f.list {
		if del(f.list[i].Name) {
			continue
		}
		if kept != i {
			f.list[kept] = f.list[i]
		}
		kept++
	}
	clear(f.list[kept:])
	f.list = f.list[:kept]
}

// EqualFold compares ASCII, such as field names, without case; b is in lower case.
// strings.EqualFold would take the Kelvin sign for a k.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		c := a[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != b[i] {
			return false
		}
	}
	return true
}
