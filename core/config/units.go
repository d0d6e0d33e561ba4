package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Size is a number of bytes, written "64KiB", "16MiB", "1.5GB" or as a plain
// integer without quotes.
type Size int64

// A Percent is a share, 0.2 for "20%".
type Percent float64

// A Rate is how often in a second, 3 for "3/s" and 0.5 for "30/m".
type Rate float64

// sizeUnits lists the units of sizes, longest first so that a suffix match is
// unambiguous.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// parseSize parses "16MiB", "1.5GiB" or "0".
func parseSize(s string) (Size, error) {
	num, unit := s, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			num, unit = strings.TrimRight(n, " "), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || num == s && s != "0" || !isDecimal(num) || v*float64(unit) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size: write a number and a unit (B, KiB, MiB, GiB), e.g. \"16MiB\"", s)
	}
	return Size(v * float64(unit)), nil
}

// isDecimal reports whether s has only digits and at most one point: ParseFloat
// takes "inf", "0x1p4" and "1e9" too, which nobody means here.
func isDecimal(s string) bool {
	points := 0
	for _, c := range []byte(s) {
		if c == '.' {
			points++
		} else if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && points <= 1
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range [...]struct {
		name string
		n    Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.n == 0 {
			return strconv.FormatInt(int64(s/u.n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseDuration parses "30s", "1m30s", "250ms" and "0".
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%q is not a duration: write a number and a unit (ms, s, m, h), e.g. \"30s\"", s)
	}
	return d, nil
}

// FormatDuration writes d as it would stand in the file, without the zero units that time.Duration prints ("10m0s").
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	if s == "0s" {
		s = "0"
	}
	return s
}

// parsePercent parses "20%".
func parsePercent(s string) (Percent, error) {
	num, ok := strings.CutSuffix(s, "%")
	num = strings.TrimRight(num, " ")
	v, err := strconv.ParseFloat(num, 64)
	if !ok || err != nil || !isDecimal(num) {
		return 0, fmt.Errorf("%q is not a percentage: write e.g. \"20%%\"", s)
	}
	return Percent(v / 100), nil
}

// String writes the percentage with its sign.
func (p Percent) String() string {
	return strconv.FormatFloat(float64(p)*100, 'g', 6, 64) + "%"
}

// parseRate parses "3/s", "30/m" and "0/s".
func parseRate(s string) (Rate, error) {
	num, per, _ := strings.Cut(s, "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[per]
	v, err := strconv.ParseFloat(num, 64)
	if seconds == 0 || err != nil || !isDecimal(num) {
		return 0, fmt.Errorf("%q is not a rate: write how often in a second, minute or hour, e.g. \"3/s\", \"30/m\"", s)
	}
	return Rate(v / seconds), nil
}

// String writes the rate with the shortest time that makes it 1 or more.
func (r Rate) String() string {
	for _, u := range []struct {
		name    string
		seconds Rate
	}{{"/s", 1}, {"/m", 60}} {
		if r*u.seconds >= 1 || r == 0 {
			return strconv.FormatFloat(float64(r*u.seconds), 'g', 6, 64) + u.name
		}
	}
	return strconv.FormatFloat(float64(r*3600), 'g', 6, 64) + "/h"
}

// parseBackoff parses "1s..30s", or "1s" for a wait that does not grow.
func parseBackoff(s string) (Backoff, error) {
	lo, hi, ok := strings.Cut(s, "..")
	if !ok {
		hi = lo
	}
	a, err1 := parseDuration(lo)
	b, err2 := parseDuration(hi)
	if err1 != nil || err2 != nil || a <= 0 || b < a {
		return Backoff{}, fmt.Errorf("%q is not a back-off: write the first and the longest wait, e.g. \"1s..30s\"", s)
	}
	return Backoff{a, b}, nil
}

// String writes the back-off as in the file.
func (b Backoff) String() string { return FormatDuration(b.Min) + ".." + FormatDuration(b.Max) }
