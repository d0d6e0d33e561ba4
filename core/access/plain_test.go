package access_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/access"
)

// TestEveryByteAtEveryPlace: bytes are looked at eight at a time, and none is missed for
// where it stands.
func TestEveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	json := func(c byte) string {
		switch {
		case c == '"' || c == '\\':
			return `\` + string(rune(c))
		case c == '\n':
			return `\n`
		case c == '\r':
			return `\r`
		case c == '\t':
			return `\t`
		case c < ' ' || c == 0x7f:
			return fmt.Sprintf(`\u%04x`, c)
		case c > 0x7f:
			return `\ufffd`
		default:
			return string(rune(c))
		}
	}
	combined := func(c byte) string {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return fmt.Sprintf(`\x%02X`, c)
		}
		return string(rune(c))
	}
	for _, tt := range []struct {
		o       access.Options
		before  string
		after   string
		escaped func(byte) string
	}{
		{access.Options{Fields: []string{"path"}}, `{"path":"`, "\"}\n", json},
		{access.Options{Format: access.Combined}, `- - - [01/Jan/1970:00:00:00 +0000] " `, " \" 0 0 \"-\" \"-\"\n", combined},
	} {
		var out, want bytes.Buffer
		tt.o.Writer = &out
		l, err := access.Open(tt.o)
		if err != nil {
			t.Fatal(err)
		}
		r := &access.Record{Time: time.Unix(0, 0).UTC()}
		for c := range 256 {
			for n := 1; n <= 18; n++ {
				for at := range n {
					before, after := strings.Repeat("~", at), strings.Repeat(" ", n-at-1)
					r.Path = before + string([]byte{byte(c)}) + after
					l.Log(r)
					want.WriteString(tt.before + before + tt.escaped(byte(c)) + after + tt.after)
				}
			}
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got, wanted := strings.Split(out.String(), "\n"), strings.Split(want.String(), "\n")
		if len(got) != len(wanted) {
			t.Fatalf("got %d lines, want %d", len(got), len(wanted))
		}
		for i := range got {
			if got[i] != wanted[i] {
				t.Fatalf("line %d: got %q, want %q", i, got[i], wanted[i])
			}
		}
	}
}

// TestStampsOfZones: the text of a second is kept, but not for another zone.
func TestStampsOfZones(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := access.Open(access.Options{Writer: &out, Format: access.Combined})
	if err != nil {
		t.Fatal(err)
	}
	east, west := time.FixedZone("east", 5*3600+1800), time.FixedZone("west", -3600)
	at := time.Unix(1_700_000_000, 0)
	for _, moment := range []time.Time{at.UTC(), at.In(east), at.In(east).Add(999 * time.Millisecond), at.In(west), at.In(west).Add(time.Second), at.UTC()} {
		l.Log(&access.Record{Time: moment})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, "[")
		stamp, _, _ := strings.Cut(rest, "]")
		got = append(got, stamp)
	}
	want := []string{
		"14/Nov/2023:22:13:20 +0000", "15/Nov/2023:03:43:20 +0530", "15/Nov/2023:03:43:20 +0530",
		"14/Nov/2023:21:13:20 -0100", "14/Nov/2023:21:13:21 -0100", "14/Nov/2023:22:13:20 +0000",
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// sizes notes how much it is given at a time.
type sizes struct {
	mu sync.Mutex
	of []int // guarded by mu
}

func (s *sizes) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of = append(s.of, len(p))
	return len(p), nil
}

// all returns what it was given.
func (s *sizes) all() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.of)
}

// TestWritesAreLarge: what a write costs besides its bytes is shared by many lines, and what
// is left is written when it is time.
func TestWritesAreLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &sizes{}
		l, err := access.Open(access.Options{Writer: w, FlushEvery: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		const least, lines = 512 << 10, 10_000
		for range lines {
			l.Log(record())
			synctest.Wait()
		}
		early := w.all()
		if len(early) < 3 {
			t.Errorf("%d writes for %d lines", len(early), lines)
		}
		for _, n := range early {
			if n < least || n > least+4<<10 {
				t.Errorf("a write of %d bytes, want %d and a line at most", n, least)
			}
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if rest := w.all()[len(early):]; len(rest) != 1 || rest[0] >= least {
			t.Errorf("then %v, want the rest", rest)
		}
		if n := l.Dropped(); n != 0 {
			t.Errorf("%d lines are lost", n)
		}
	})
}
