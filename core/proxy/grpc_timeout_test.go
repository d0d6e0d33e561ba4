package proxy_test

import (
	"math"
	"testing"
	"time"

	"wproxy/core/proxy"
)

func TestParseGRPCTimeout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    string
		want time.Duration
		ok   bool
	}{
		{"1H", time.Hour, true},
		{"2M", 2 * time.Minute, true},
		{"3S", 3 * time.Second, true},
		{"4m", 4 * time.Millisecond, true},
		{"5u", 5 * time.Microsecond, true},
		{"6n", 6, true},
		{"0S", 0, true},
		{"00000001S", time.Second, true},
		{"99999999S", 99_999_999 * time.Second, true},
		{"99999999H", math.MaxInt64, true},
		{"", 0, false},
		{"S", 0, false},
		{"1", 0, false},
		{"100000000n", 0, false},
		{"000000001S", 0, false},
		{"1s", 0, false},
		{"1h", 0, false},
		{"-1S", 0, false},
		{"+1S", 0, false},
		{"1.5S", 0, false},
		{" 1S", 0, false},
		{"1S ", 0, false},
		{"1 S", 0, false},
		{"1SS", 0, false},
		{"1S,2S", 0, false},
		{"\u0661S", 0, false},
	} {
		if d, ok := proxy.ParseGRPCTimeout(tt.s); d != tt.want || ok != tt.ok {
			t.Errorf("%q: got %v, %v; want %v, %v", tt.s, d, ok, tt.want, tt.ok)
		}
	}
}

func TestFormatGRPCTimeout(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-1: "1n", 0: "1n", 1: "1n", 99_999_999: "99999999n", 100_000_000: "100000u",
		time.Second + 1: "1000000u", 100 * time.Second: "100000m", 100_000 * time.Second: "100000S",
		100_000_000 * time.Second: "1666666M", math.MaxInt64: "2562047H",
	} {
		if got := proxy.FormatGRPCTimeout(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// FuzzGRPCTimeout: what is written is read, and is no more than what it was written for and
// at most a part in a million less.
func FuzzGRPCTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "0n", "1", "12345678u"} {
		f.Add(s, int64(1))
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		d, ok := proxy.ParseGRPCTimeout(s)
		if ok && (d < 0 || len(s) > 9) {
			t.Errorf("%q: got %v", s, d)
		}
		for _, d := range []time.Duration{d, time.Duration(n)} {
			back, ok := proxy.ParseGRPCTimeout(proxy.FormatGRPCTimeout(d))
			if d = max(d, 1); !ok || back > d || d-back > d/1_000_000 {
				t.Errorf("%v: got back %v, %v", d, back, ok)
			}
		}
	})
}
