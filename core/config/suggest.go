package config

import (
	"strconv"
	"strings"

	"wproxy/core/spelling"
)

// suggest returns ` (did you mean "X"?)` for the member of known that is
// nearest to s, or "" if none is near.
func suggest(s string, known []string) string { return spelling.Suggest(s, known) }

// orWhich is suggest for the name of an object: where no other is near, it tells which there
// are.
func orWhich(s string, known []string) string {
	if hint := suggest(s, known); hint != "" {
		return hint
	}
	var list []string
	for _, k := range known {
		if !strings.Contains(k, ":") { // the upstream of a `to` has none that could be written
			list = append(list, strconv.Quote(k))
		}
	}
	switch n := len(list); {
	case n == 0:
		return "; there is none yet"
	case n > maxShown:
		return "; there are " + strings.Join(list[:maxShown], ", ") + " and " + strconv.Itoa(n-maxShown) + " more"
	case n == 1:
		return "; there is " + list[0]
	default:
		return "; there are " + strings.Join(list, ", ")
	}
}
