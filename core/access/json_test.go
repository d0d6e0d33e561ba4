package access_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wproxy/core/access"
	"wproxy/core/exchange"
)

// jsonLine returns what a Logger writes for r.
func jsonLine(t testing.TB, records ...*access.Record) []byte {
	t.Helper()
	var out bytes.Buffer
	l, err := access.Open(access.Options{Writer: &out})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		l.Log(r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// FuzzJSONLine: whatever the values are, a line is one JSON object that a reader
// gets the same values from, but for bytes that are not UTF-8.
func FuzzJSONLine(f *testing.F) {
	f.Add("/x?y=1", "k", "v", int64(1500), int64(1))
	f.Add("\"\\\n\r\t\x00\x1f\x7f\xff\xc3(é\u2028\U0001f600", "cache", "\xf0\x9f", int64(-1), int64(999_999_999_999))
	f.Add(strings.Repeat("é", 2000), "", "", int64(0), int64(-62135596801))
	f.Fuzz(func(t *testing.T, path, name, value string, took, at int64) {
		r := record()
		r.Path, r.Host, r.Reason = path, value, name
		r.Total = time.Duration(took)
		r.Time = time.Unix(at%(1<<37), at&0x3fffffff) // up to the year 6300
		r.Fields = []exchange.Field{{Name: name, Value: value}}
		r.Plugins = []access.Plugin{{Name: path, Verdict: value}}
		line := jsonLine(t, r)
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("not one line: %q", line)
		}
		for _, c := range line[:len(line)-1] {
			if c < ' ' || c == 0x7f {
				t.Fatalf("control byte in %q", line)
			}
		}
		var got struct {
			Path, Host, Reason string
			TS                 time.Time
			Total              json.Number `json:"t_total"`
			Plugins            []struct{ Name, Verdict string }
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		same(t, got.Path, path)
		same(t, got.Host, value)
		same(t, got.Reason, name)
		same(t, got.Plugins[0].Verdict, value)
		if want := r.Time.Truncate(time.Millisecond); r.Time.Year() > 0 && r.Time.Year() < 10000 && !got.TS.Equal(want) {
			t.Errorf("time: got %v, want %v", got.TS, want)
		}
		if s, err := strconv.ParseFloat(got.Total.String(), 64); err != nil || s != float64(r.Total.Microseconds())/1e6 {
			t.Errorf("t_total: got %s for %v", got.Total, r.Total)
		}
	})
}

// same compares a value that was read with what was logged, which is cut when it is
// long and has U+FFFD for each byte that is not UTF-8.
func same(t *testing.T, got, logged string) {
	t.Helper()
	want := strings.Map(func(r rune) rune { return r }, logged)
	if len(logged) > 2048 {
		if !strings.HasPrefix(want, strings.TrimRight(got, "\ufffd")) || utf8.RuneCountInString(got) > 2048 {
			t.Errorf("got %d bytes that are no beginning of what was logged", len(got))
		}
		return
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSecondsAndTimes(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0", time.Microsecond: "0.000001", 999: "0", 1500 * time.Millisecond: "1.5", time.Hour: "3600",
		time.Hour + 20*time.Microsecond: "3600.00002", -2 * time.Millisecond: "-0.002",
	} {
		r := record()
		r.Total = d
		if line := jsonLine(t, r); !bytes.Contains(line, []byte(`"t_total":`+want+"}")) {
			t.Errorf("%v: want %s in %s", d, want, line)
		}
	}
	// The text of a second is kept: the next one must not get it.
	early, late := record(), record()
	early.Time = time.Unix(0, 5e6) // second 0 is what a fresh encoder would have
	late.Time = early.Time.Add(time.Second)
	line := string(jsonLine(t, early, late, early))
	var stamps []string
	for l := range strings.Lines(line) {
		stamps = append(stamps, l[len(`{"ts":"`):][:len("2006-01-02T15:04:05.000Z")])
	}
	want := []string{"1970-01-01T00:00:00.005Z", "1970-01-01T00:00:01.005Z", "1970-01-01T00:00:00.005Z"}
	if strings.Join(stamps, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", stamps, want)
	}
}
