package exchange

import "net/http"

// Reasons of errors from [Request.ParseTarget].
const (
	ReasonBadTarget = "bad_target" // not origin-form, or a byte that a target cannot contain
	ReasonBadEscape = "bad_escape" // a "%" in the path that two hex digits do not follow
)

// What ParseTarget does with a byte of a path.
const (
	pathBad    = iota // refuse
	pathKeep          // canonical as it stands
	pathEncode        // not allowed in a URI, but sent by browsers and curl: percent-encode
	pathDot           // canonical unless it makes a dot segment
	pathEscape        // "%"
	pathQuery         // "?": the path ends here
)

// pathClass tells the six kinds of bytes apart. Allowed in a path are pchar and
// "/" (RFC 3986 3.3). A backslash is refused, not encoded: some origins take it
// for a slash, and then they would see another path than the one that was matched.
var pathClass = [256]byte{
	'!': pathKeep, '"': pathEncode, '$': pathKeep, '%': pathEscape, '&': pathKeep, '\'': pathKeep,
	'(': pathKeep, ')': pathKeep, '*': pathKeep, '+': pathKeep, ',': pathKeep, '-': pathKeep,
	'.': pathDot, '/': pathKeep, '0': pathKeep, '1': pathKeep, '2': pathKeep, '3': pathKeep,
	'4': pathKeep, '5': pathKeep, '6': pathKeep, '7': pathKeep, '8': pathKeep, '9': pathKeep,
	':': pathKeep, ';': pathKeep, '<': pathEncode, '=': pathKeep, '>': pathEncode, '?': pathQuery,
	'@': pathKeep, 'A': pathKeep, 'B': pathKeep, 'C': pathKeep, 'D': pathKeep, 'E': pathKeep,
	'F': pathKeep, 'G': pathKeep, 'H': pathKeep, 'I': pathKeep, 'J': pathKeep, 'K': pathKeep,
	'L': pathKeep, 'M': pathKeep, 'N': pathKeep, 'O': pathKeep, 'P': pathKeep, 'Q': pathKeep,
	'R': pathKeep, 'S': pathKeep, 'T': pathKeep, 'U': pathKeep, 'V': pathKeep, 'W': pathKeep,
	'X': pathKeep, 'Y': pathKeep, 'Z': pathKeep, '[': pathEncode, ']': pathEncode, '^': pathEncode,
	'_': pathKeep, '`': pathEncode, 'a': pathKeep, 'b': pathKeep, 'c': pathKeep, 'd': pathKeep,
	'e': pathKeep, 'f': pathKeep, 'g': pathKeep, 'h': pathKeep, 'i': pathKeep, 'j': pathKeep,
	'k': pathKeep, 'l': pathKeep, 'm': pathKeep, 'n': pathKeep, 'o': pathKeep, 'p': pathKeep,
	'q': pathKeep, 'r': pathKeep, 's': pathKeep, 't': pathKeep, 'u': pathKeep, 'v': pathKeep,
	'w': pathKeep, 'x': pathKeep, 'y': pathKeep, 'z': pathKeep, '{': pathEncode, '|': pathEncode,
	'}': pathEncode, '~': pathKeep,
}

const upperHex = "0123456789ABCDEF"

// ParseTarget parses and canonicalises an origin-form target (path with
// optional query) into r (RFC 3986 6.2.2; config.md rule 8):
//
//   - dot segments are removed; ".." above the root stays at the root;
//   - encoded unreserved characters are decoded, other escapes stay encoded with
//     upper-case hex digits. An encoded slash, backslash or NUL sets EncodedSlash;
//   - bytes that RFC 3986 does not allow in a path but user agents send raw
//     (`"<>[]^{|}` and the backtick) are percent-encoded;
//   - empty segments are kept;
//   - the query is kept byte for byte. It may contain any visible ASCII but "#".
//
// Raw control bytes, spaces, "#", non-ASCII bytes, a backslash in the path and
// bad escapes in the path are refused. "*" is accepted with method OPTIONS only
// (RFC 9112 3.2.4). A canonical s is kept as it is, without allocating. Plugins'
// edits of :path come through here too. The error is an *Error with Status 400
// and a Reason; r is unchanged then.
func (r *Request) ParseTarget(s string) error {
	if s == "*" && r.Method == http.MethodOptions {
		r.Target, r.pathLen, r.EncodedSlash = s, len(s), false
		return nil
	}
	if s == "" || s[0] != '/' {
		return targetError(ReasonBadTarget)
	}
	pathLen, canonical, slash, reason := scanPath(s)
	if reason != "" {
		return targetError(reason)
	}
	for i := pathLen; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return targetError(ReasonBadTarget)
		}
	}
	if canonical {
		r.Target, r.pathLen, r.EncodedSlash = s, pathLen, slash
		return nil
	}
	var scratch [256]byte
	b := removeDotSegments(appendPath(scratch[:0], s[:pathLen]))
	n := len(b)
	b = append(b, s[pathLen:]...)
	r.Target, r.pathLen = string(b), n
	if slash { // it may have gone with its segment
		_, _, slash, _ = scanPath(r.Path())
	}
	r.EncodedSlash = slash
	return nil
}

func targetError(reason string) error {
	return &Error{Op: "parse target", Side: ClientSide, Status: http.StatusBadRequest, Reason: reason}
}

// scanPath looks at the path at the start of s, which starts with "/". It
// returns its length, whether it is canonical, whether it has an encoded slash,
// backslash or NUL, and why it must be refused ("": it need not).
func scanPath(s string) (n int, canonical, slash bool, reason string) {
	canonical = true
	for i := 0; i < len(s); i++ {
		switch pathClass[s[i]] {
		case pathKeep:
		case pathDot:
			if s[i-1] == '/' && dotSegment(s[i:]) {
				canonical = false
			}
		case pathEncode:
			canonical = false
		case pathQuery:
			return i, canonical, slash, ""
		case pathEscape:
			v, ok := unescape(s[i:])
			if !ok {
				return 0, false, false, ReasonBadEscape
			}
			if unreserved(v) || lowerHex(s[i+1]) || lowerHex(s[i+2]) {
				canonical = false
			}
			slash = slash || v == '/' || v == '\\' || v == 0
			i += 2
		default:
			return 0, false, false, ReasonBadTarget
		}
	}
	return len(s), canonical, slash, ""
}

// dotSegment reports whether s, the rest of a path from the start of a segment,
// starts with a "." or ".." segment.
func dotSegment(s string) bool {
	if len(s) > 1 && s[1] == '.' {
		s = s[1:]
	}
	return len(s) == 1 || s[1] == '/' || s[1] == '?'
}

// appendPath appends path, which scanPath has accepted, with its bytes in
// canonical form; dot segments are still there.
func appendPath(b []byte, path string) []byte {
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch pathClass[c] {
		case pathEncode:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		case pathEscape:
			v, _ := unescape(path[i:])
			if unreserved(v) {
				b = append(b, v)
			} else {
				b = append(b, '%', upperHex[v>>4], upperHex[v&15])
			}
			i += 2
		default:
			b = append(b, c)
		}
	}
	return b
}

// removeDotSegments is RFC 3986 5.2.4, in place, for a path that starts with "/".
func removeDotSegments(p []byte) []byte {
	out := 0 // p[:out] is done and ends before a "/"
	for i := 0; i < len(p); {
		end := i + 1 // p[i] is "/", p[i+1:end] the segment
		for end < len(p) && p[end] != '/' {
			end++
		}
		seg := p[i+1 : end]
		last := end == len(p)
		switch {
		case len(seg) == 1 && seg[0] == '.':
		case len(seg) == 2 && seg[0] == '.' && seg[1] == '.':
			for out > 0 {
				out--
				if p[out] == '/' {
					break
				}
			}
		default:
			out += copy(p[out:], p[i:end])
			last = false
		}
		if last { // a dot segment at the end leaves its "/"
			p[out] = '/'
			out++
		}
		i = end
	}
	return p[:out]
}

// unescape decodes the escape at the start of s.
func unescape(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	hi, ok1 := HexDigit(s[1])
	lo, ok2 := HexDigit(s[2])
	return hi<<4 | lo, ok1 && ok2
}

// HexDigit returns the value of a hexadecimal digit, and whether c is one.
func HexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func lowerHex(c byte) bool { return 'a' <= c && c <= 'f' }

// unreserved is RFC 3986 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
