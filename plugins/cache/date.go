package main

// Dates of HTTP (RFC 9110, 5.6.7), without package time, which would bring its formats and
// zones along.

const (
	weekdays = "SunMonTueWedThuFriSat"
	months   = "JanFebMarAprMayJunJulAugSepOctNovDec"
)

// civil returns the day that is days after 1970-01-01 (Howard Hinnant, "chrono-Compatible
// Low-Level Date Algorithms").
func civil(days int64) (y, m, d int64) {
	days += 719468
	era := days / 146097
	if days < 0 {
		era = (days - 146096) / 146097
	}
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	if m > 12 {
		m -= 12
	}
	y = yoe + era*400
	if m <= 2 {
		y++
	}
	return y, m, d
}

// dayOf is the opposite of civil.
func dayOf(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	mp := m - 3
	if m <= 2 {
		mp = m + 9
	}
	doy := (153*mp+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// formatDate writes a time, in seconds since 1970, as an IMF-fixdate (RFC 9110 5.6.7).
func formatDate(t int64) string {
	dst := []byte("Sun, 06 Nov 1994 08:49:37 GMT")
	days, left := t/86400, t%86400
	y, m, d := civil(days)
	w := (days + 4) % 7
	copy(dst, weekdays[3*w:3*w+3])
	put2(dst[5:], d)
	copy(dst[8:], months[3*m-3:3*m])
	put2(dst[12:], y/100)
	put2(dst[14:], y)
	put2(dst[17:], left/3600)
	put2(dst[20:], left/60%60)
	put2(dst[23:], left%60)
	return text(dst)
}

// put2 writes the last two digits of a number.
//
//go:noinline
func put2(dst []byte, n int64) { dst[0], dst[1] = byte('0'+n/10%10), byte('0'+n%10) }

// parseDate reads a date in one of the three formats that a recipient must accept. now, in seconds
// since 1970, says which century a year of two digits is in.
func parseDate(s string, now int64) (int64, bool) {
	switch {
	case len(s) == 29 && s[3] == ',': // Sun, 06 Nov 1994 08:49:37 GMT
		return fixdate(s)
	case len(s) == 24 && s[3] == ' ': // Sun Nov  6 08:49:37 1994
		y, ok1 := number(s[20:24])
		day := s[8:10]
		if day[0] == ' ' {
			day = "0" + day[1:]
		}
		return date(y, month(s[4:7]), day, s[11:19], ok1 && s[7] == ' ' && s[10] == ' ' && s[19] == ' ')
	}
	for i := range s { // Sunday, 06-Nov-94 08:49:37 GMT
		if s[i] != ',' {
			continue
		}
		if s = s[i:]; len(s) != 24 || s[1] != ' ' || s[4] != '-' || s[8] != '-' || s[11] != ' ' || !equalFold(s[20:], " GMT") {
			return 0, false
		}
		y, ok := number(s[9:11])
		year, _, _ := civil(now / 86400)
		if y += year / 100 * 100; y > year+50 {
			y -= 100
		}
		return date(y, month(s[5:8]), s[2:4], s[12:20], ok)
	}
	return 0, false
}

// fixdate reads an IMF-fixdate, of which the length and the comma are right: what nearly all
// messages have, and some three times.
func fixdate(s string) (int64, bool) {
	d, y1, y2 := two(s, 5), two(s, 12), two(s, 14)
	h, minute, sec := two(s, 17), two(s, 20), two(s, 23)
	m := month(s[8:11])
	if d|y1|y2|h|minute|sec < 0 || m == 0 || d < 1 || d > 31 || h > 23 || minute > 59 || sec > 60 {
		return 0, false
	}
	if s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || s[19] != ':' || s[22] != ':' || !equalFold(s[25:], " GMT") {
		return 0, false
	}
	return dayOf(y1*100+y2, m, d)*86400 + h*3600 + minute*60 + sec, true
}

// two reads two digits; what is none is less than 0.
func two(s string, at int) int64 {
	a, b := s[at]-'0', s[at+1]-'0'
	if a > 9 || b > 9 {
		return -1
	}
	return int64(a)*10 + int64(b)
}

func date(y, m int64, day, clock string, ok bool) (int64, bool) {
	d, ok1 := number(day)
	h, ok2 := number(clock[:2])
	minute, ok3 := number(clock[3:5])
	sec, ok4 := number(clock[6:])
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || m == 0 || d < 1 || d > 31 || h > 23 || minute > 59 || sec > 60 || clock[2] != ':' || clock[5] != ':' {
		return 0, false
	}
	return dayOf(y, m, d)*86400 + h*3600 + minute*60 + sec, true
}

func month(s string) int64 {
	for i := 0; i < len(months); i += 3 {
		if lower(months[i]) == lower(s[0]) && equalFold(months[i:i+3], s) {
			return int64(i/3 + 1)
		}
	}
	return 0
}

// number reads digits.
func number(s string) (int64, bool) {
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n = n*10 + int64(s[i]-'0'); n > maxNumber {
			n = maxNumber
		}
	}
	return n, s != ""
}

// maxNumber is what larger numbers are taken for.
const maxNumber = 1 << 59

// maxSeconds is the largest time that is told apart (RFC 9111, 1.2.2).
const maxSeconds = 1 << 31

// equalFold compares ASCII without regard to case.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
