package wasmfilter

import (
	"slices"
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// methodRequest lets a request by for its method, if the order has that (abi.ObjectStanding.SafeMethods); unsafe says that
// it changes something.
func (f *Filter) methodRequest(route *filter.Route, unsafe bool) bool {
	s, x := f.factory.lookup, f.x
	r := x.Request
	if !f.alone.makeKey(r, route) || !s.Serving() {
		return false
	}
	f.byMethod, f.unsafe = true, unsafe
	f.goBy(r, f.alone.standingKey(), s.Now())
	x.Mu.Lock()
	f.logOrderLocked(s.MethodValue)
	x.Mu.Unlock()
	s.CountByMethod(routeOf(f.key))
	return true
}

// methodAnswer deletes what the answer to such a request has made wrong, before its client hears of it; false: the
// guest is to be told, as the answer says of more than the URL of the request.
func (f *Filter) methodAnswer(r *exchange.Response) bool {
	if !f.unsafe || r.Status < 200 || r.Status > 399 {
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
