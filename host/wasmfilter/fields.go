package wasmfilter

import "wproxy/core/exchange"

// sameName is exchange.EqualFold.
func sameName(a, b string) bool { return exchange.EqualFold(a, b) }

// find returns the index of the first line called name, -1 if there is none.
func find(list []exchange.Field, name string) int {
	for i := range list {
		if sameName(name, list[i].Name) {
			return i
		}
	}
	return -1
}
