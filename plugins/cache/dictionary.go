package main

import "strings"

// isDictionary reports whether a field is a dictionary of structured fields (RFC 9651,
// 4.2.2), with items for values. Inner lists, dates and byte sequences, which nothing that is
// read here has, are taken for malformed.
func isDictionary(s string) bool {
	s = strings.Trim(s, " \t")
	for s != "" {
		var ok bool
		if s, ok = cutKey(s); !ok {
			return false
		}
		if strings.HasPrefix(s, "=") {
			if s, ok = cutItem(s[1:]); !ok {
				return false
			}
		}
		if s, ok = cutParameters(s); !ok {
			return false
		}
		if s = strings.TrimLeft(s, " \t"); s == "" {
			return true
		}
		if s[0] != ',' {
			return false
		}
		if s = strings.TrimLeft(s[1:], " \t"); s == "" {
			return false
		}
	}
	return true
}

func cutParameters(s string) (rest string, ok bool) {
	for strings.HasPrefix(s, ";") {
		if s, ok = cutKey(strings.TrimLeft(s[1:], " ")); !ok {
			return s, false
		}
		if strings.HasPrefix(s, "=") {
			if s, ok = cutItem(s[1:]); !ok {
				return s, false
			}
		}
	}
	return s, true
}

func cutKey(s string) (rest string, ok bool) {
	i := 0
	for i < len(s) && ('a' <= s[i] && s[i] <= 'z' || s[i] == '*' || i > 0 && (isDigit(s[i]) || strings.IndexByte("_-.", s[i]) >= 0)) {
		i++
	}
	return s[i:], i > 0
}

func cutItem(s string) (rest string, ok bool) {
	switch {
	case s == "":
		return s, false
	case s[0] == '"':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return s[i+1:], true
			}
		}
		return s, false
	case s[0] == '?':
		return s[min(2, len(s)):], len(s) > 1 && (s[1] == '0' || s[1] == '1')
	case s[0] == '-' || isDigit(s[0]):
		i := 1
		for i < len(s) && (isDigit(s[i]) || s[i] == '.') {
			i++
		}
		return s[i:], isDigit(s[i-1])
	}
	i := 0
	for i < len(s) && (isLetter(s[i]) || i == 0 && s[i] == '*' || i > 0 && (isDigit(s[i]) || strings.IndexByte("!#$%&'*+-.^_`|~:/", s[i]) >= 0)) {
		i++
	}
	return s[i:], i > 0
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= lower(c) && lower(c) <= 'z' }
