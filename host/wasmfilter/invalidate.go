package wasmfilter

import (
	"slices"
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// unsafeRequest lets a request by whose method changes something, if the order has that
// (abi.ObjectStanding.SafeMethods).
func (f *Filter) unsafeRequest(route *filter.Route) bool {
	s, x := f.factory.lookup, f.x
	r := x.Request
	if !f.alone.makeKey(r, route) || !s.Serving() {
		return false
	}
	f.unsafe = true
	f.goBy(r, f.alone.standingKey(), s.Now())
	if s.LogPath != "" && s.UnsafeValue != "" {
		x.Mu.Lock()
		f.setOwnLocked(s.LogPath, s.UnsafeValue)
		x.Mu.Unlock()
	}
	s.CountUnsafe(routeOf(f.key))
	return true
}

// unsafeAnswer deletes what the answer to such a request has made wrong, before its client hears of it; false: the
// guest is to be told, as the answer says of more than the URL of the request.
func (f *Filter) unsafeAnswer(r *exchange.Response) bool {
	if r.Status < 200 || r.Status > 399 {
		return true
	}
	shown := f.factory.lookup.UnsafeShown
	for i := range r.Fields.List() {
		if slices.Contains(shown, r.Fields.List()[i].Name) {
			return false
		}
	}
	f.factory.space.DeletePrefix(f.key[:strings.IndexByte(f.key, '\n')+1])
	return true
}
