package tabletest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkMatcher says what is wrong with a matcher, or "". A matcher is a string (equal), a
// number (equal), true (there) or false (not there), a list of strings (all values, in
// order), or a table of contains, matches (RE2), least and most.
func checkMatcher(m any) string {
	switch m := m.(type) {
	case nil, string, bool, int64:
		return ""
	case []any:
		for _, v := range m {
			if _, ok := v.(string); !ok {
				return "a list has strings only"
			}
		}
		return ""
	case map[string]any:
		for k, v := range m {
			text, isText := v.(string)
			_, isNumber := v.(int64)
			switch k {
			case "contains":
				if !isText {
					return "contains is a string"
				}
			case "matches":
				if _, err := regexp.Compile(text); !isText || err != nil {
					return fmt.Sprintf("matches is a regular expression; %v", err)
				}
			case "least", "most":
				if !isNumber {
					return k + " is a whole number"
				}
			default:
				return fmt.Sprintf("unknown key %q; known are contains, matches, least, most", k)
			}
		}
		if len(m) == 0 {
			return "an empty table matches nothing; known are contains, matches, least, most"
		}
		return ""
	}
	return fmt.Sprintf("%v is no expectation: write a string, a whole number, true, false, a list of strings, or a table of contains, matches, least and most", m)
}

// match reports whether values, all of a field or one of anything else, are as m says.
func match(m any, values []string) bool {
	one := ""
	if len(values) > 0 {
		one = values[0]
	}
	switch m := m.(type) {
	case bool:
		return m == (len(values) > 0)
	case string:
		return len(values) == 1 && one == m
	case int64:
		return len(values) == 1 && one == strconv.FormatInt(m, 10)
	case []any:
		return slices.EqualFunc(values, m, func(v string, w any) bool { return v == w })
	case map[string]any:
		return slices.ContainsFunc(values, func(v string) bool { return matchTable(m, v) })
	}
	return false
}

func matchTable(m map[string]any, value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	for k, v := range m {
		text, _ := v.(string)
		bound, _ := v.(int64)
		ok := false
		switch k {
		case "contains":
			ok = strings.Contains(value, text)
		case "matches":
			ok = regexp.MustCompile(text).MatchString(value) // checkMatcher has tried
		case "least":
			ok = err == nil && n >= bound
		case "most":
			ok = err == nil && n <= bound
		}
		if !ok {
			return false
		}
	}
	return true
}

// wanted writes what a matcher asks for.
func wanted(m any) string {
	switch m := m.(type) {
	case bool:
		if m {
			return "(there, any value)"
		}
		return "(not there)"
	case string:
		return strconv.Quote(m)
	case []any:
		var list []string
		for _, v := range m {
			list = append(list, fmt.Sprintf("%q", v))
		}
		return strings.Join(list, ", ")
	case map[string]any:
		var list []string
		for _, k := range []string{"contains", "matches", "least", "most"} {
			if v, ok := m[k]; ok {
				if s, ok := v.(string); ok {
					v = strconv.Quote(s)
				}
				list = append(list, fmt.Sprintf("%s %v", k, v))
			}
		}
		return strings.Join(list, " and ")
	}
	return fmt.Sprint(m)
}

// gotten writes what there was.
func gotten(values []string) string {
	if len(values) == 0 {
		return "(not there)"
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		if quoted[i] = strconv.Quote(v); len(v) > maxShown {
			quoted[i] = fmt.Sprintf("%q and %d bytes more", v[:maxShown], len(v)-maxShown)
		}
	}
	return strings.Join(quoted, ", ")
}

// maxShown is how many bytes of a value a failure shows.
const maxShown = 400
