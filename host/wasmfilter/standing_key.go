package wasmfilter

import (
	"strings"
	"unsafe"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host/objectkey"
)

// makeKey makes the key of a request, as far as all orders have it (abi.ObjectStanding), if it is not too long.
func (a *alone) makeKey(r *exchange.Request, route *filter.Route) bool {
	name := ""
	if route != nil {
		name = route.Name
	}
	if len(r.Scheme)+len(r.Authority)+len(r.Target)+len(name) > maxStandingKey {
		return false
	}
	key := append(append(a.key[:0], r.Scheme...), "://"...)
	key = append(append(key, r.Authority...), r.Target...)
	a.key = append(append(key, '\n'), name...)
	return true
}

// standingKey returns the key that was made last. It is borrowed: edits writes over it, and so
// does the next exchange.
func (a *alone) standingKey() string { return unsafe.String(unsafe.SliceData(a.key), len(a.key)) }

// routeOf returns the name of the route from a key, which it is a part of.
func routeOf(key string) string {
	_, route, _ := strings.Cut(key, "\n")
	route, _, _ = strings.Cut(route, "\x00")
	return route
}

// addParts adds to the key of a request what the order has of its fields (abi.ObjectStanding.Key), if it is
// not too long then.
func (a *alone) addParts(parts objectkey.Parts, fields *exchange.Fields) (ok bool) {
	if len(parts) > 0 {
		a.key, ok = parts.Append(a.key, (*keyFields)(fields), maxStandingKey)
		return ok
	}
	return true
}

// keyFields are fields as package objectkey has them.
type keyFields exchange.Fields

func (f *keyFields) fields() *exchange.Fields { return (*exchange.Fields)(f) }

// Len implements objectkey.Fields.
func (f *keyFields) Len() int { return f.fields().Len() }

// Line implements objectkey.Fields.
func (f *keyFields) Line(i int) (name, value string) {
	l := f.fields().At(i)
	return l.Name, l.Value
}
