package host

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// shownName is a name that a module has given to something, as people are shown it: an
// owned copy, cut, and quoted unless all of it is printable. A name may be as long as the
// module and have anything in it, escape sequences of terminals too.
func shownName(name string) string {
	name = cutLine(name, maxShownName)
	if name == "" || !isPrintable(name) {
		return strconv.Quote(name)
	}
	return name
}

// shownText is a message that names may have got into, of which this package knows no
// more: one line, cut, with what is not printable written as in a Go string literal.
func shownText(s string) string {
	s = cutLine(s, maxLogLine)
	if isPrintable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		_, n := utf8.DecodeRuneInString(s)
		if c := s[:n]; isPrintable(c) {
			b.WriteString(c)
		} else {
			q := strconv.Quote(c)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// isPrintable reports whether s is UTF-8 without control characters, line breaks, and
// those that change the direction of the text.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}
