package settings

// Seconds reads a length of time made of whole numbers with the units y (365 days), w, d,
// h, m, s, such as "1y", "12h" or "1h30m", into seconds.
func Seconds(text string) (int64, bool) {
	var total int64
	if text == "" {
		return 0, false
	}
	for text != "" {
		n := 0
		for n < len(text) && '0' <= text[n] && text[n] <= '9' {
			n++
		}
		if n == 0 || n == len(text) {
			return 0, false
		}
		count, ok := Int(text[:n])
		if !ok || count > 1<<31-1 { // 32 bits times the longest unit fits into 64
			return 0, false
		}
		unit, ok := unitSeconds(text[n])
		if !ok {
			return 0, false
		}
		total += count * unit
		if total > maxSeconds {
			return 0, false
		}
		text = text[n+1:]
	}
	return total, true
}

// maxSeconds is the longest time Seconds returns: about 1000 years. It keeps sums away
// from overflow.
const maxSeconds = 1000 * 365 * 86400

func unitSeconds(unit byte) (int64, bool) {
	switch unit {
	case 'y':
		return 365 * 86400, true
	case 'w':
		return 7 * 86400, true
	case 'd':
		return 86400, true
	case 'h':
		return 3600, true
	case 'm':
		return 60, true
	case 's':
		return 1, true
	}
	return 0, false
}

// Nanoseconds reads a length of time made of numbers with the units h, m, s, ms, us, such
// as "500ms", "1.5s" or "1m30s", into nanoseconds. At most 1000 days.
func Nanoseconds(text string) (int64, bool) {
	var total int64
	if text == "" {
		return 0, false
	}
	for text != "" {
		n := 0
		for n < len(text) && ('0' <= text[n] && text[n] <= '9' || text[n] == '.') {
			n++
		}
		count, ok := Millionths(text[:n])
		if text = text[n:]; !ok {
			return 0, false
		}
		n = 0
		for n < len(text) && 'a' <= text[n] && text[n] <= 'z' {
			n++
		}
		var unit int64 // nanoseconds, a thousand at least
		switch text[:n] {
		case "h":
			unit = 3600e9
		case "m":
			unit = 60e9
		case "s":
			unit = 1e9
		case "ms":
			unit = 1e6
		case "us":
			unit = 1e3
		default:
			return 0, false
		}
		text = text[n:]
		if count > maxNanoseconds/unit*1e6 {
			return 0, false
		}
		total += count/1e6*unit + count%1e6*(unit/1e3)/1e3
		if total > maxNanoseconds {
			return 0, false
		}
	}
	return total, true
}

// maxNanoseconds is the longest time Nanoseconds returns: 1000 days.
const maxNanoseconds = 1000 * 86400e9

// Millionths reads a decimal number that is not negative, in millionths: "0.5" is
// 500,000. What is beyond is refused if it is not 0.
func Millionths(text string) (int64, bool) {
	whole, part, point := text, "", false
	for i := range len(text) {
		if text[i] == '.' {
			whole, part, point = text[:i], text[i+1:], true
			break
		}
	}
	if whole == "" || len(whole) > 12 || point && part == "" {
		return 0, false
	}
	for len(part) > 6 && part[len(part)-1] == '0' {
		part = part[:len(part)-1]
	}
	if len(part) > 6 {
		return 0, false
	}
	var n int64
	for i := range 6 + len(whole) {
		var c byte = '0'
		if i < len(whole) {
			c = whole[i]
		} else if i-len(whole) < len(part) {
			c = part[i-len(whole)]
		}
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}
