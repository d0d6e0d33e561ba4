package manifest

import "wproxy/core/spelling"

// suggest returns ` (did you mean "X"?)` for what is known and nearest to s, or "".
func suggest(s string, known []string) string { return spelling.Suggest(s, known) }
