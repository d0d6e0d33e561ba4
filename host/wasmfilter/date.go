package wasmfilter

// parseDate reads a time in the one form in which dates are to be sent, an IMF-fixdate (RFC 9110, 5.6.7),
// in seconds since 1970. The other forms, and what is no date, are the guest's to judge.
func parseDate(s string) (seconds int64, ok bool) {
	if len(s) != len("Sun, 06 Nov 1994 08:49:37 GMT") || s[3] != ',' || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' ||
		s[16] != ' ' || s[19] != ':' || s[22] != ':' || s[25:] != " GMT" {
		return 0, false
	}
	d, y1, y2 := twoDigits(s[5:]), twoDigits(s[12:]), twoDigits(s[14:])
	h, minute, second := twoDigits(s[17:]), twoDigits(s[20:]), twoDigits(s[23:])
	m := monthNamed(s[8:11])
	if d|y1|y2 < 0 || m == 0 || h < 0 || h > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	y := y1*100 + y2
	if d < 1 || d > daysIn(y, m) {
		return 0, false
	}
	days := dayNumber(y, m, d)
	weekday := (days + 4 + 7*102_790) % 7 // 1970-01-01 was a Thursday; years begin with 0
	if s[:3] != weekdays[weekday*3:weekday*3+3] {
		return 0, false
	}
	return days*86400 + h*3600 + minute*60 + second, true
}

const weekdays = "SunMonTueWedThuFriSat"

// monthNamed returns the number of a month, from 1 on; 0: there is none of that name.
func monthNamed(s string) int64 {
	switch s {
	case "Jan":
		return 1
	case "Feb":
		return 2
	case "Mar":
		return 3
	case "Apr":
		return 4
	case "May":
		return 5
	case "Jun":
		return 6
	case "Jul":
		return 7
	case "Aug":
		return 8
	case "Sep":
		return 9
	case "Oct":
		return 10
	case "Nov":
		return 11
	case "Dec":
		return 12
	}
	return 0
}

// twoDigits reads the first two bytes of s; what is no number is less than 0.
func twoDigits(s string) int64 {
	a, b := s[0]-'0', s[1]-'0'
	if a > 9 || b > 9 {
		return -1
	}
	return int64(a)*10 + int64(b)
}

// daysIn returns how many days a month has.
func daysIn(y, m int64) int64 {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// dayNumber returns the days from 1970-01-01 to a day in the Gregorian calendar (Howard Hinnant,
// "chrono-Compatible Low-Level Date Algorithms"), of a year from 0 on.
func dayNumber(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = -1
	}
	yoe := y - era*400
	mp := m - 3
	if m <= 2 {
		mp = m + 9
	}
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}
