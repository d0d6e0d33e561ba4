// Package spelling finds the word that was meant. It is a leaf: configurations and the
// schemas of plugins both use it, so that a key of either is corrected in the same way.
package spelling

import (
	"strconv"
	"strings"
)

// maxWord is the longest word, in bytes, that is looked at: a longer one is no
// misspelling, and comparing two takes the product of their lengths.
const maxWord = 64

// Suggest returns ` (did you mean "X"?)` for the member of known that is nearest to s,
// upper and lower case alike, or "" if none is near: the first of several.
func Suggest(s string, known []string) string {
	best, least := "", 1+min(2, (len(s)+1)/3) // short words: one letter, longer ones two
	for _, k := range known {
		if d := distance(strings.ToLower(s), strings.ToLower(k), least); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + strconv.Quote(best) + "?)"
}

// distance is the number of letters to insert, delete, replace or swap with their
// neighbour (optimal string alignment) between a and b; limit if it is not less than
// that.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit || max(len(a), len(b)) > maxWord {
		return limit
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return min(prev[len(b)], limit)
}
