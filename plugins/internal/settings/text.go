package settings

// What package strings, strconv and slices have is for all of Unicode, and costs a guest 60 KB of
// tables and code. Settings and fields need less.

// Sort sorts a short list in its place, and returns it.
func Sort(list []string) []string {
	for i := range list {
		for j := i; j > 0 && list[j] < list[j-1]; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return list
}

// Lower returns text with the letters of ASCII in lower case.
func Lower(text string) string {
	for i := range len(text) {
		if 'A' <= text[i] && text[i] <= 'Z' {
			b := []byte(text)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return text
}

// Quote returns text in quotes, for messages: what would end them, and what a terminal might
// take for an order, is escaped.
func Quote(text string) string {
	const hex = "0123456789abcdef"
	b := append(make([]byte, 0, len(text)+2), '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		case c == 0xc2 && i+1 < len(text) && text[i+1] < 0xa0: // U+0080 to U+009F
			b = append(b, '\\', 'x', 'c', '2')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// Int reads a whole number in decimal digits, with a minus in front of it or not.
func Int(text string) (n int64, ok bool) {
	digits := text
	if text != "" && text[0] == '-' {
		digits = text[1:]
	}
	if digits == "" {
		return 0, false
	}
	for i := range len(digits) {
		d := int64(digits[i] - '0')
		if d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, true
}

// isSpace reports whether c is white space or a comma.
func isSpace(c byte, commas bool) bool { return c == ' ' || c == '\t' || commas && c == ',' }

// Words appends the words of text, which white space, and commas if they count, keep apart.
func Words(list []string, text string, commas bool) []string {
	for text != "" {
		i := 0
		for i < len(text) && !isSpace(text[i], commas) {
			i++
		}
		if i > 0 {
			list = append(list, text[:i])
		}
		text = text[min(i+1, len(text)):]
	}
	return list
}
