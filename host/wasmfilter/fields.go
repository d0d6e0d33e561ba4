package wasmfilter

import "wproxy/core/exchange"

// hopByHop reports whether a field is about one connection, or is framing:
// codecs write these themselves (RFC 9110 7.6.1, 9112 6). An edit of one has no
// effect, which is not worth an error to the guest.
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
		"http2-settings", "expect", "te":
		return true
	}
	return false
}

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
