package filter

import (
	"strconv"
	"strings"
)

// prefersJSON reports whether a client with this Accept (RFC 9110 12.5.1) rather
// has application/json than text/plain. Without a preference it gets text.
func prefersJSON(accept string) bool {
	if accept == "" {
		return false
	}
	return quality(accept, "application", "json") > quality(accept, "text", "plain")
}

// quality returns the weight that accept gives kind/sub: that of the most
// specific range that matches, 0 if none does.
func quality(accept, kind, sub string) float64 {
	best, specific := 0.0, 0
	for accept != "" {
		var member string
		member, accept, _ = strings.Cut(accept, ",")
		rang, params, _ := strings.Cut(member, ";")
		k, s, ok := strings.Cut(strings.TrimSpace(rang), "/")
		if !ok {
			continue
		}
		level := 0
		switch {
		case strings.EqualFold(k, kind) && strings.EqualFold(s, sub):
			level = 3
		case strings.EqualFold(k, kind) && s == "*":
			level = 2
		case k == "*" && s == "*":
			level = 1
		}
		if level > specific {
			best, specific = weight(params), level
		}
	}
	return best
}

// weight returns the q parameter (RFC 9110 12.4.2), 1 without a valid one.
func weight(params string) float64 {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, "q") {
			if q, err := strconv.ParseFloat(v, 64); err == nil && q >= 0 && q <= 1 {
				return q
			}
		}
	}
	return 1
}
