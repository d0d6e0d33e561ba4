package trace_test

import (
	"strings"
	"testing"

	"wproxy/core/trace"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestParse: W3C Trace Context 3.2.2, with the cases of its test suite.
func TestParse(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("0", 32)
	for _, tt := range []struct {
		name, in string
		ok       bool
		sampled  bool
	}{
		{"plain", parent, true, true},
		{"not sampled", parent[:53] + "00", true, false},
		{"other flags", parent[:53] + "03", true, true},
		{"flags without sampled", parent[:53] + "fe", true, false},
		{"later version", "cc" + parent[2:], true, true},
		{"later version with more", "cc" + parent[2:] + "-what-the-future-will-be-like", true, true},
		{"later version, glued", "cc" + parent[2:] + ".what", false, false},
		{"this version with more", parent + "-what", false, false},
		{"version ff", "ff" + parent[2:], false, false},
		{"version in capitals", "CC" + parent[2:], false, false},
		{"version of one digit", "0-" + parent[3:], false, false},
		{"no trace", "00-" + zeros + parent[35:], false, false},
		{"no span", parent[:36] + zeros[:16] + parent[52:], false, false},
		{"capitals", strings.ToUpper(parent), false, false},
		{"no hex in the trace", strings.Replace(parent, "0af7", "0ag7", 1), false, false},
		{"no hex in the span", strings.Replace(parent, "b7ad", "b7a.", 1), false, false},
		{"no hex in the flags", parent[:53] + "0x", false, false},
		{"other separator", strings.ReplaceAll(parent, "-", "_"), false, false},
		{"two", parent + ", " + parent, false, false},
		{"space before", " " + parent, false, false},
		{"empty", "", false, false},
	} {
		c, ok := trace.Parse(tt.in)
		if ok != tt.ok || c.Sampled != tt.sampled {
			t.Errorf("%s: got %v, sampled %v", tt.name, ok, c.Sampled)
		}
		if !ok && c != (trace.Context{}) {
			t.Errorf("%s: got %v with it", tt.name, c)
		}
	}
	for n := range len(parent) {
		if _, ok := trace.Parse(parent[:n]); ok {
			t.Errorf("%q is accepted", parent[:n])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(parent)
	f.Add("cc" + parent[2:] + "-x")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := trace.Parse(s)
		if !ok {
			return
		}
		// What is read is written again as it was, but for version and flags.
		if h := c.Header(); h[2:53] != s[2:53] || h[:2] != "00" {
			t.Errorf("%q became %q", s, h)
		}
		if d, ok := trace.Parse(c.Header()); !ok || d != c {
			t.Errorf("%q became %v", s, d)
		}
	})
}

// TestBegin: whose decision counts, and what goes on under which id.
func TestBegin(t *testing.T) {
	t.Parallel()
	unsampled := parent[:53] + "00"
	in, _ := trace.Parse(parent)
	for _, tt := range []struct {
		name    string
		mode    trace.Parent
		share   float64
		header  string
		trusted bool
		wanted  bool
		sampled bool
		goesOn  bool
	}{
		{"nothing said, all", trace.ParentTrusted, 1, "", false, false, true, false},
		{"nothing said, none", trace.ParentTrusted, 0, "", true, false, false, false},
		{"nothing said, wanted", trace.ParentTrusted, 0, "", false, true, true, false},
		{"malformed", trace.ParentTrusted, 1, "00-x", true, false, true, false},
		{"trusted, sampled", trace.ParentTrusted, 0, parent, true, false, true, true},
		{"trusted, not sampled", trace.ParentTrusted, 1, unsampled, true, false, false, true},
		{"trusted, not sampled, wanted", trace.ParentTrusted, 0, unsampled, true, true, true, true},
		{"stranger, sampled", trace.ParentTrusted, 0, parent, false, false, false, true},
		{"stranger, not sampled", trace.ParentTrusted, 1, unsampled, false, false, true, true},
		{"everybody, sampled", trace.ParentFollow, 0, parent, false, false, true, true},
		{"everybody, not sampled", trace.ParentFollow, 1, unsampled, false, false, false, true},
		{"nobody", trace.ParentIgnore, 1, unsampled, true, false, true, false},
		{"nobody, sampled", trace.ParentIgnore, 0, parent, true, false, false, false},
	} {
		tr := trace.Open(trace.Options{URL: "http://127.0.0.1:0", Service: "s", Share: tt.share, Parent: tt.mode})
		c, p := tr.Begin(tt.header, tt.trusted, tt.wanted)
		tr.Close()
		if c.Sampled != tt.sampled || (c.Trace == in.Trace) != tt.goesOn || (p == in.Span) != tt.goesOn {
			t.Errorf("%s: got %v below %v", tt.name, c, p)
		}
		if c.Span == in.Span || c.Span == (trace.SpanID{}) || c.Trace == (trace.ID{}) || !tt.goesOn && p != (trace.SpanID{}) {
			t.Errorf("%s: got ids %v below %v", tt.name, c, p)
		}
	}
}

// TestShare: the share is that of requests, also of those whose ids somebody else has
// chosen.
func TestShare(t *testing.T) {
	t.Parallel()
	const n = 20_000
	tr := trace.Open(trace.Options{URL: "http://127.0.0.1:0", Service: "s", Share: .1})
	defer tr.Close()
	for _, header := range []string{"", parent} {
		sampled := 0
		for range n {
			if c, _ := tr.Begin(header, false, false); c.Sampled {
				sampled++
			}
		}
		if sampled < n/10-n/50 || sampled > n/10+n/50 { // ten standard deviations
			t.Errorf("%q: %d of %d", header, sampled, n)
		}
	}
}
