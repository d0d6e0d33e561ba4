package wasmfilter_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wproxy/host/wasmfilter"
)

// TestParseDate: each day of some centuries is read, and nothing that is not exactly a date.
func TestParseDate(t *testing.T) {
	for at := time.Date(1890, 1, 1, 23, 59, 58, 0, time.UTC); at.Year() < 2410; at = at.Add(24*time.Hour + 61*time.Second) {
		if got, ok := wasmfilter.ParseDate(at.Format(http.TimeFormat)); !ok || got != at.Unix() {
			t.Fatalf("%v: got %d, %t", at, got, ok)
		}
	}
	const good = "Thu, 29 Feb 2024 08:49:37 GMT"
	if got, ok := wasmfilter.ParseDate(good); !ok || got != 1709196577 {
		t.Fatalf("got %d, %t", got, ok)
	}
	for i := range good {
		for _, c := range "\x00 /:09AaZz,\xff" {
			bad := good[:i] + string(c) + good[i+1:]
			want, err := time.Parse(http.TimeFormat, bad)
			if got, ok := wasmfilter.ParseDate(bad); ok && (err != nil || want.Unix() != got) {
				t.Errorf("%q is %d", bad, got)
			}
		}
		if _, ok := wasmfilter.ParseDate(good[:i]); ok {
			t.Errorf("%q is one", good[:i])
		}
	}
	for _, bad := range []string{
		"", good + " ", " " + good, good[:28] + "Tx", strings.ToLower(good), "Fri" + good[3:],
		"Thu, 30 Feb 2023 08:49:37 GMT", "Wed, 29 Feb 2023 08:49:37 GMT", "Thu, 00 Feb 2024 08:49:37 GMT", "Thu, 29 Feb 2024 24:00:00 GMT",
		"Thu, 29 Feb 2024 08:60:00 GMT", "Sat, 31 Dec 2016 23:59:60 GMT", "Thursday, 29-Feb-24 08:49:37 GMT", "Thu Feb 29 08:49:37 2024",
		"Thu, 29 Feb 2024 08:49:37 UTC", "Thu, 29 Feb 2024 08:49:37 +00", "Thu, -9 Feb 2024 08:49:37 GMT", "Wed, 31 Apr 2024 08:49:37 GMT",
	} {
		if got, ok := wasmfilter.ParseDate(bad); ok {
			t.Errorf("%q is %d", bad, got)
		}
	}
}

// FuzzParseDate: what is read is what package time reads, and everything that it writes is read.
func FuzzParseDate(f *testing.F) {
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 01 Jan 0000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
		"Thu, 29 Feb 2024 08:49:37 GMT", "Sat, 31 Dec 2016 23:59:60 GMT", "sun, 06 nov 1994 08:49:37 GMT", "Mon, 29 Feb 1900 00:00:00 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := wasmfilter.ParseDate(s)
		want, err := time.Parse(http.TimeFormat, s)
		switch {
		case ok && (err != nil || want.Unix() != got):
			t.Errorf("%q is %d, and to package time %v, %v", s, got, want, err)
		case !ok && err == nil && want.Format(http.TimeFormat) == s:
			t.Errorf("%q is none", s)
		}
	})
}

func TestParseAge(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"": 0, "0": 0, "7": 7, " 12\t": 12, "5, 7": 5, "5 ,x": 5, "x": 0, "x, 5": 0, ",5": 0, "-1": 0, "+1": 0, "1.5": 0, "1 2": 0, "007": 7,
		"2147483647": 1<<31 - 1, "2147483648": 1 << 31, "2147483649": 1 << 31, "99999999999999999999999999": 1 << 31,
	} {
		if got := wasmfilter.ParseAge(s); got != want {
			t.Errorf("%q is %d, want %d", s, got, want)
		}
	}
}

func BenchmarkParseDate(b *testing.B) {
	for b.Loop() {
		if _, ok := wasmfilter.ParseDate("Sun, 29 Nov 2026 08:49:37 GMT"); !ok {
			b.Fatal("none")
		}
	}
}
