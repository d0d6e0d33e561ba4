package objectkey_test

import (
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/objectkey"
)

// A head is a list of names and values.
type head []string

func (h head) Len() int                        { return len(h) / 2 }
func (h head) Line(i int) (name, value string) { return h[2*i], h[2*i+1] }

func isToken(s string) bool { return s != "" && !strings.ContainsAny(s, ":, \n\x00") }

// TestAppend: what a key has of a request does not depend on how a list is split into lines and on white space, that
// of a set neither on order and case, and to have a field that is empty is another thing than to have none.
func TestAppend(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("b,a,", abi.MaxSetMembers/2) // as many as are sorted
	for name, tc := range map[string]struct {
		part string
		head head
		want string
	}{
		"no cookie":            {"cookie:a", nil, "\x00"},
		"another cookie":       {"cookie:a", head{"cookie", "A=1; b=2; aa=3; a"}, "\x00"},
		"a cookie":             {"cookie:a", head{"x", "a=0", "cookie", "b=1;a=2=3 ;a=4", "cookie", "a=5"}, "\x00:2=3"},
		"in another line":      {"cookie:a", head{"cookie", "b=1;", "cookie", " a="}, "\x00:"},
		"tabs are space too":   {"cookie:a", head{"cookie", "\ta=1\t"}, "\x00:1"},
		"no list":              {"list:a", head{"b", "1"}, "\x00"},
		"an empty list":        {"list:a", head{"a", ""}, "\x00:"},
		"nothing but commas":   {"list:a", head{"a", ", \t,", "a", ","}, "\x00:"},
		"a list":               {"list:A", head{"a", "B , \tA b,", "c", "d", "a", ",a"}, "\x00:B,A b,a"},
		"quotes mean nothing":  {"list:a", head{"a", `"x , y"`}, "\x00:\"x,y\""},
		"no set":               {"set:a", head{"b", "1"}, "\x00"},
		"an empty set":         {"set:a", head{"a", " "}, "\x00:"},
		"a set":                {"set:a", head{"a", "en-GB; q=0.5,\tDE", "a", "De,fr ;\tq=1"}, "\x00:de,de,en-gb;q=0.5,fr;q=1"},
		"a set that is sorted": {"set:a", head{"a", "a,b", "a", "c"}, "\x00:a,b,c"},
		"a prefix comes first": {"set:a", head{"a", "gzip,gz,*"}, "\x00:*,gz,gzip"},
		"a large set":          {"set:a", head{"a", many}, "\x00:" + strings.Repeat("a,", abi.MaxSetMembers/2) + strings.TrimSuffix(strings.Repeat("b,", abi.MaxSetMembers/2), ",")},
		"too large a set":      {"set:a", head{"a", many + "A"}, "\x00:" + many + "a"},
	} {
		k, ok := objectkey.New([]string{tc.part}, isToken)
		if !ok {
			t.Fatalf("%s: refused", name)
		}
		want := "key\x00" + strings.Replace(tc.part, "A", "a", 1) + tc.want[1:]
		got, ok := k.Append([]byte("key"), tc.head, len(want)+len(" \t")) // white space
		if !ok || string(got) != want {
			t.Errorf("%s: got %q, %t, want %q", name, got, ok, want)
		}
		if got, ok = k.Append([]byte("key"), tc.head, len(want)-1); ok || len(got) > len(want)-1 {
			t.Errorf("%s: got %q, %t, of %d bytes at most", name, got, ok, len(want)-1)
		}
	}
}

// TestBounds: whatever a client sends, no more is kept of it than a key may be long, and nothing is allocated.
func TestBounds(t *testing.T) {
	k, ok := objectkey.New([]string{"list:a", "cookie:c", "set:s"}, isToken)
	if !ok {
		t.Fatal("refused")
	}
	long := strings.Repeat("x", 64<<10)
	dst := make([]byte, 0, 512)
	for _, h := range []head{
		{"a", long},
		{"a", strings.Repeat("x,", 32<<10)},
		{"cookie", "c=" + long},
		{"s", long},
		{"s", strings.Repeat("x,", 32<<10)},
		{"a", "b", "s", strings.Repeat("z", 30) + strings.Repeat(",x", 31)},
	} {
		var f objectkey.Fields = h
		if n := testing.AllocsPerRun(10, func() {
			got, _ := k.Append(dst, f, 256)
			if cap(got) != cap(dst) {
				t.Errorf("%.20q: it has become %d bytes long", h[1], cap(got))
			}
		}); n != 0 {
			t.Errorf("%.20q: %v allocations", h[1], n)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "cookie", "cookie:", "list:a b", "set:a:b", "header:a", "Cookie:a", ":a", "list: a"} {
		if _, ok := objectkey.New([]string{"list:a", bad}, isToken); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	if k, ok := objectkey.New(nil, isToken); !ok || len(k) != 0 {
		t.Errorf("no parts: %v, %t", k, ok)
	}
}
