package settings

import "strconv"

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
		count, err := strconv.ParseInt(text[:n], 10, 32) // 32 bits times the longest unit fits into 64
		if err != nil {
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
