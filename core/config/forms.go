package config

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// bindForm puts n into the types that have a short and a long form, and into
// structs and maps.
func (b *binder) bindForm(sc scope, n *node, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *[]string:
		*p = b.strings(sc, n)
	case *[]netip.Prefix:
		*p = b.prefixes(sc, n)
	case *[]Target:
		*p = b.targets(sc, n)
	case *[]ServerEntry:
		*p = b.servers(sc, n)
	case *[]Certificate:
		*p = b.certificates(sc, n)
	case *[]Test:
		*p = b.tests(n)
	case *Redirect:
		if n.table == nil {
			p.To = b.text(sc, n).content
			return
		}
		b.bindStruct(sc, n, v)
	case *Mirror:
		if n.table == nil {
			p.Upstream = b.text(sc, n).content
			return
		}
		b.bindStruct(sc, n, v)
	case *Match:
		*p = b.match(sc, n)
	case *map[string]Match:
		*p = bindMap(b, sc, n, b.match)
	case *map[string]Value:
		*p = bindMap(b, sc, n, b.text)
	case *map[string]string:
		*p = bindMap(b, sc, n, func(sc scope, n *node) string { return b.text(sc, n).content })
	case *map[string]map[string]any:
		*p = bindMap(b, sc, n, func(sc scope, n *node) map[string]any {
			var m map[string]any
			b.bindValue(sc, n, reflect.ValueOf(&m).Elem())
			return m
		})
	default:
		b.bindStruct(sc, n, v)
	}
}

// bindMap puts a table of equal things into a map. Names that differ in case
// only stay apart; checks on names come later.
func bindMap[T any](b *binder, sc scope, n *node, bind func(scope, *node) T) map[string]T {
	if n.table == nil {
		b.addf(sc, n, "is %s, want a table", n.kind())
		return nil
	}
	m := make(map[string]T, len(n.table))
	for _, k := range n.names() {
		m[k] = bind(sc, n.table[k])
	}
	return m
}

// strings reads "a" or ["a", "b"].
func (b *binder) strings(sc scope, n *node) []string {
	if !n.array {
		return []string{b.text(sc, n).content}
	}
	list := make([]string, 0, len(n.list))
	for _, e := range n.list {
		list = append(list, b.text(sc, e).content)
	}
	return list
}

// prefixes reads addresses and CIDRs.
func (b *binder) prefixes(sc scope, n *node) []netip.Prefix {
	elems := n.list
	if !n.array {
		elems = []*node{n}
	}
	list := make([]netip.Prefix, 0, len(elems))
	for _, e := range elems {
		v := b.text(sc, e)
		if e.kind() != "a string" {
			continue // reported by text
		}
		if a, err := netip.ParseAddr(v.content); err == nil && a.Zone() == "" {
			list = append(list, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(v.content)
		switch {
		case err != nil:
			b.addf(sc, e, "%q is not an address or CIDR: write e.g. \"10.0.0.0/8\" or \"2001:db8::1\"", v.text)
		case p != p.Masked():
			b.addf(sc, e, "%q has bits set beyond its length: write %q", v.text, p.Masked().String())
		case p.Addr().Is4In6():
			b.addf(sc, e, "%q is an IPv4 network in IPv6 form: write it as IPv4", v.text)
		default:
			list = append(list, p)
		}
	}
	return list
}

// match reads "v", ["v", "w"], true or false.
func (b *binder) match(sc scope, n *node) Match {
	if present, ok := n.val.(bool); ok {
		return Match{Absent: !present}
	}
	if n.array && len(n.list) == 0 {
		b.addf(sc, n, "is an empty list, which nothing can meet; write true for \"there\", false for \"not there\"")
		return Match{}
	}
	if _, ok := n.val.(string); !ok && !n.array {
		b.addf(sc, n, "is %s, want a string, a list of strings, true (there) or false (not there)", n.kind())
		return Match{}
	}
	return Match{Values: b.strings(sc, n)}
}

// targets reads "x" or { x = 95, y = 5 }.
func (b *binder) targets(sc scope, n *node) []Target {
	if n.table == nil {
		if _, ok := n.val.(string); !ok {
			b.addf(sc, n, "is %s, want a name or a table of names and weights such as { a = 95, b = 5 }", n.kind())
			return nil
		}
		return []Target{{b.text(sc, n).content, 1}}
	}
	var list []Target
	sum := int64(0)
	for _, name := range n.names() {
		e := n.table[name]
		w, ok := e.val.(int64)
		if !ok || w < 0 || w > 1_000_000 {
			b.addf(sc, e, "is not a weight; write an integer from 0 to 1000000")
			continue
		}
		sum += w
		list = append(list, Target{name, int(w)})
	}
	if len(list) == len(n.table) && sum == 0 {
		b.addf(sc, n, "the weights add up to 0, so no request could go anywhere; give one more")
	}
	return list
}

// servers reads "a:1", ["a:1"] and [{ address = "a:1", weight = 3 }], mixed too.
func (b *binder) servers(sc scope, n *node) []ServerEntry {
	elems := n.list
	if !n.array {
		elems = []*node{n}
	}
	list := make([]ServerEntry, 0, len(elems))
	for _, e := range elems {
		s := ServerEntry{}
		v := reflect.ValueOf(&s).Elem()
		setDefaults(v)
		at := e
		if e.table != nil {
			b.bindStruct(sc, e, v)
			if at = e.table["address"]; at == nil {
				b.addf(sc, e, "needs an address, e.g. address = \"10.0.0.1:8080\"")
				continue
			}
		} else {
			s.Address = b.text(sc, e).content
		}
		if at.kind() != "a string" {
			continue // reported
		}
		if err := s.resolve(); err != nil {
			b.addf(sc, at, "%v", err)
		}
		list = append(list, s)
	}
	return list
}

// tests reads [[tests]].
func (b *binder) tests(n *node) []Test {
	if !n.array {
		b.addf(scope{}, n, "is %s, want a list: write [[tests]]", n.kind())
		return nil
	}
	list := make([]Test, len(n.list))
	for i, e := range n.list {
		list[i].Pos = e.pos
		b.bindStruct(scope{label: "test " + strconv.Itoa(i+1), key: e.key}, e, reflect.ValueOf(&list[i]).Elem())
	}
	return list
}

// label names an object in messages: route "api".
func label(table, name string) string {
	return strings.TrimSuffix(table, "s") + ` "` + name + `"`
}
