package main

import (
	"reflect"
	"testing"
)

// TestLately: what is remembered makes no difference, whatever came before.
func TestLately(t *testing.T) {
	heads := []*head{
		headOf("cache-control", ""), // before anything is remembered
		headOf(),
		headOf("cache-control", "max-age=5", "date", at(0)),
		headOf("cache-control", "max-age=5", "date", at(0)),
		headOf("cache-control", "max-age=5", "cache-control", "no-store", "date", at(1)),
		headOf("cache-control", "max-age=55", "date", at(-1)),
		headOf("cache-control", `no-cache="a", max-age=5`, "date", "Saturday, 28-Nov-26 12:00:00 GMT"),
		headOf("cache-control", `no-cache="b", max-age=5`, "date", "Sat Nov 28 12:00:00 2026"),
		headOf("cache-control", `no-cache="a", max-age=5`, "date", "Sat, 28 Nov 2026 12:00:00 XYZ"),
		headOf("cdn-cache-control", "max-age=7", "date", "Sat, 28 Nov 2026 25:00:00 GMT"),
		headOf("cdn-cache-control", `max-age="7"`, "cache-control", `max-age="7"`),
		headOf("cache-control", `max-age="7"`),
	}
	var l lately
	for i, first := range heads {
		for j, second := range heads {
			for _, h := range []*head{first, second} {
				h.noteNames()
				for _, name := range []string{"cache-control", cdnControl} {
					if got, want := l.controlOf(h, name), h.control(name); !reflect.DeepEqual(got, want) {
						t.Errorf("%d, %d: %s is %+v, want %+v", i, j, name, got, want)
					}
				}
				got, ok := l.dateOf(h, noon)
				if want, wantOK := parseDate(h.get("date"), noon); got != want || ok != wantOK {
					t.Errorf("%d, %d: date is %d, %t, want %d, %t", i, j, got, ok, want, wantOK)
				}
			}
		}
	}
}

// TestFind: the places that are noted of a head lead to the first line of each name, and to none of
// those that share a bit with one.
func TestFind(t *testing.T) {
	var list []string
	for i := range 150 { // more names than bits
		list = append(list, "x-"+decimal(int64(i*i)), decimal(int64(i)))
	}
	list = append(list, "x-4", "again", "", "no name")
	for _, n := range []int{0, 2, 100, len(list)} {
		plain, noted := headOf(list[:n]...), headOf(list[:n]...)
		noted.noteNames()
		for i := range 160 {
			name := "x-" + decimal(int64(i*i))
			want, wantOK := plain.find(name)
			if got, ok := noted.find(name); got != want || ok != wantOK || noted.count(name) != plain.count(name) {
				t.Errorf("%d fields, %s: got %q, %t, want %q, %t", n/2, name, got, ok, want, wantOK)
			}
		}
	}
	many := headOf()
	for range 300 {
		many.pairs = append(many.pairs, headOf("a", "b").pairs...)
	}
	many.pairs = append(many.pairs, headOf("date", "c").pairs...)
	many.noteNames()
	if many.get("date") != "c" || many.get("a") != "b" || many.has("x") {
		t.Error("a head with more fields than can be noted is not read")
	}
}
