package abi_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
)

// Vectors are written by hand: the example in the specification is wrong.
func TestPairsVectors(t *testing.T) {
	for _, tt := range []struct {
		pairs []abi.Pair
		bytes string
	}{
		{nil, "\x00\x00\x00\x00"},
		{
			[]abi.Pair{{"a", "1"}, {"b", "22"}},
			"\x02\x00\x00\x00" + "\x01\x00\x00\x00\x01\x00\x00\x00" + "\x01\x00\x00\x00\x02\x00\x00\x00" + "a\x001\x00b\x0022\x00",
		},
		{
			[]abi.Pair{{"set-cookie", "x"}, {"set-cookie", "x"}},
			"\x02\x00\x00\x00" + strings.Repeat("\x0a\x00\x00\x00\x01\x00\x00\x00", 2) + strings.Repeat("set-cookie\x00x\x00", 2),
		},
		{[]abi.Pair{{"", ""}}, "\x01\x00\x00\x00" + strings.Repeat("\x00", 8) + "\x00\x00"},
		{[]abi.Pair{{"n\x00l", "\xff\x00"}}, "\x01\x00\x00\x00" + "\x03\x00\x00\x00\x02\x00\x00\x00" + "n\x00l\x00\xff\x00\x00"},
	} {
		got := abi.AppendPairs([]byte("before"), tt.pairs)
		if string(got) != "before"+tt.bytes {
			t.Errorf("AppendPairs(%q) = %x, want %x", tt.pairs, got[6:], tt.bytes)
		}
		if n := abi.PairsSize(tt.pairs); n != len(tt.bytes) {
			t.Errorf("PairsSize(%q) = %d, want %d", tt.pairs, n, len(tt.bytes))
		}
		first := abi.Pair{Name: "kept", Value: "v"}
		pairs, err := abi.ParsePairs([]abi.Pair{first}, tt.bytes)
		if err != nil || !slices.Equal(pairs, append([]abi.Pair{first}, tt.pairs...)) {
			t.Errorf("ParsePairs(%x) = %q, %v, want %q", tt.bytes, pairs, err, tt.pairs)
		}
		for n := 1; n < len(tt.bytes); n++ {
			if n == 1 && tt.bytes[0] == 0 {
				continue // one NUL is an empty map too
			}
			if pairs, err := abi.ParsePairs(nil, tt.bytes[:n]); !errors.Is(err, abi.ErrPairsMalformed) || pairs != nil {
				t.Errorf("ParsePairs of %d of %d bytes = %q, %v, want ErrPairsMalformed", n, len(tt.bytes), pairs, err)
			}
		}
		if _, err := abi.ParsePairs(nil, tt.bytes+"\x00"); !errors.Is(err, abi.ErrPairsMalformed) {
			t.Errorf("ParsePairs of a byte too many = %v, want ErrPairsMalformed", err)
		}
	}
}

func TestParsePairsErrors(t *testing.T) {
	one := "\x01\x00\x00\x00" + "\x01\x00\x00\x00\x01\x00\x00\x00" + "a\x00b\x00"
	many := make([]abi.Pair, abi.MaxPairs)
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", nil},
		{"one NUL", "\x00", nil},
		{"as many as may be", string(abi.AppendPairs(nil, many)), nil},
		{"one too many", string(abi.AppendPairs(nil, append(slices.Clone(many), abi.Pair{}))), abi.ErrPairsTooLarge},
		{"a byte too large", string(abi.AppendPairs(nil, []abi.Pair{{"", strings.Repeat("x", abi.MaxPairBytes-13)}})), abi.ErrPairsTooLarge},
		{"as large as may be", string(abi.AppendPairs(nil, []abi.Pair{{"", strings.Repeat("x", abi.MaxPairBytes-14)}})), nil},
		{"one byte", "\x01", abi.ErrPairsMalformed},
		{"huge count", "\xff\xff\xff\xff", abi.ErrPairsTooLarge},
		{"count with the highest bit", "\x00\x00\x00\x80", abi.ErrPairsTooLarge}, // negative where int has 32 bits
		{"no lengths", "\x02\x00\x00\x00\x00\x00\x00\x00", abi.ErrPairsMalformed},
		{"huge name", one[:4] + "\xff\xff\xff\xff" + one[8:], abi.ErrPairsMalformed},
		{"huge value", one[:8] + "\xff\xff\xff\xff" + one[12:], abi.ErrPairsMalformed},
		{"name without its NUL", one[:13] + "x" + one[14:], abi.ErrPairsMalformed},
		{"value without its NUL", one[:15] + "x", abi.ErrPairsMalformed},
	} {
		if _, err := abi.ParsePairs(nil, tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func FuzzPairs(f *testing.F) {
	f.Add("")
	f.Add(string(abi.AppendPairs(nil, []abi.Pair{{"a", "1"}, {"b", "22"}})))
	f.Add(string(abi.AppendPairs(nil, []abi.Pair{{":path", "/"}, {"x", ""}, {"x", "\xff"}})))
	f.Fuzz(func(t *testing.T, in string) {
		pairs, err := abi.ParsePairs(nil, in)
		if err != nil {
			if pairs != nil {
				t.Errorf("pairs %q in spite of %v", pairs, err)
			}
			return
		}
		if len(in) > 1 {
			if got := string(abi.AppendPairs(nil, pairs)); got != in { // the encoding is canonical
				t.Errorf("%x became %x", in, got)
			}
		}
		if n := abi.PairsSize(pairs); len(in) > 1 && n != len(in) {
			t.Errorf("PairsSize = %d, want %d", n, len(in))
		}
	})
}

func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"", nil},
		{"\x00", nil},
		{"a", []string{"a"}},
		{"a\x00", []string{"a"}},
		{"request\x00headers\x00x.y", []string{"request", "headers", "x.y"}},
		{"a\x00\x00b", []string{"a", "", "b"}},
	} {
		if got := slices.Collect(abi.PathParts(tt.path)); !slices.Equal(got, tt.want) {
			t.Errorf("PathParts(%q) = %q, want %q", tt.path, got, tt.want)
		}
		if got := abi.JoinPath(tt.want...); got != abi.TrimPath(tt.path) {
			t.Errorf("JoinPath(%q) = %q, want %q", tt.want, got, abi.TrimPath(tt.path))
		}
	}
	for range abi.PathParts("a\x00b") {
		break // an iterator that is left early
	}
}

func FuzzPath(f *testing.F) {
	f.Add("request\x00path")
	f.Add("a\x00\x00")
	f.Fuzz(func(t *testing.T, path string) {
		parts := slices.Collect(abi.PathParts(path))
		if got, want := abi.JoinPath(parts...), abi.TrimPath(path); got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}

func TestValues(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 443, math.MinInt64, math.MaxInt64} {
		b := abi.AppendInt(nil, v)
		if got, ok := abi.ParseInt(b); got != v || !ok || len(b) != 8 {
			t.Errorf("int %d became %d, %v", v, got, ok)
		}
	}
	if got := string(abi.AppendUint(nil, 0x0102)); got != "\x02\x01\x00\x00\x00\x00\x00\x00" {
		t.Errorf("AppendUint(0x0102) = %x", got)
	}
	if got := string(abi.AppendDouble(nil, 1)); got != "\x00\x00\x00\x00\x00\x00\xf0\x3f" {
		t.Errorf("AppendDouble(1) = %x", got)
	}
	if v, ok := abi.ParseDouble(abi.AppendDouble(nil, -2.5)); v != -2.5 || !ok {
		t.Errorf("double -2.5 became %v", v)
	}
	at := time.Unix(5, 6)
	if got := fmt.Sprintf("%d", abi.AppendTime(abi.AppendDuration(nil, time.Microsecond), at)); got != "[232 3 0 0 0 0 0 0 6 242 5 42 1 0 0 0]" {
		t.Errorf("duration and time = %s", got)
	}
	for _, v := range []bool{false, true} {
		if got, ok := abi.ParseBool(abi.AppendBool(nil, v)); got != v || !ok {
			t.Errorf("bool %v became %v, %v", v, got, ok)
		}
	}
	for _, b := range []string{"", "\x02", "\x00\x00"} {
		if _, ok := abi.ParseBool([]byte(b)); ok {
			t.Errorf("ParseBool(%x) is ok", b)
		}
		if _, ok := abi.ParseInt([]byte(b)); ok {
			t.Errorf("ParseInt(%x) is ok", b)
		}
		if _, ok := abi.ParseDouble([]byte(b)); ok {
			t.Errorf("ParseDouble(%x) is ok", b)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{abi.StatusOK, "OK"},
		{abi.StatusUnimplemented, "Unimplemented"},
		{abi.Status(13), "Status(13)"},
		{abi.LogWarn, "warn"},
		{abi.LogLevel(1 << 31), "LogLevel(2147483648)"},
		{abi.Pause, "Pause"},
		{abi.HeadersStopAllIterationAndBuffer, "Action(3)"},
		{abi.MapHTTPCallResponseTrailers, "HTTPCallResponseTrailers"},
		{abi.BufferCallData, "CallData"},
		{abi.StreamUpstream, "Upstream"},
		{abi.PeerRemote, "Remote"},
		{abi.MetricHistogram, "Histogram"},
		{abi.VersionHigress, "0.2.100"},
	} {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("%#v prints as %q, want %q", tt.got, got, tt.want)
		}
	}
	if !abi.MapHTTPCallResponseTrailers.Known() || abi.MapType(8).Known() || abi.BufferType(9).Known() ||
		abi.StreamType(4).Known() || abi.MetricKind(3).Known() || abi.LogLevel(6).Known() {
		t.Error("Known is wrong at a border")
	}
	for l := abi.LogTrace; l <= abi.LogCritical; l++ {
		if got, ok := abi.ParseLogLevel(l.String()); got != l || !ok {
			t.Errorf("ParseLogLevel(%q) = %v, %v", l, got, ok)
		}
	}
	if _, ok := abi.ParseLogLevel("loud"); ok {
		t.Error("ParseLogLevel takes anything")
	}
	for name, want := range map[string]abi.Version{
		abi.Marker010: abi.Version010, abi.Marker020: abi.Version020, abi.Marker021: abi.Version021, abi.MarkerHigress: abi.VersionHigress,
	} {
		if got, ok := abi.MarkerVersion(name); got != want || !ok {
			t.Errorf("MarkerVersion(%q) = %v, %v", name, got, ok)
		}
	}
	if _, ok := abi.MarkerVersion("proxy_abi_version_0_2"); ok {
		t.Error("MarkerVersion takes anything")
	}
}
