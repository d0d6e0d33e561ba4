package exchange_test

import (
	"errors"
	"strings"
	"testing"

	"wproxy/core/exchange"
)

// text writes f as "name=value" pairs.
func text(f *exchange.Fields) string {
	var s []string
	for n, v := range f.All() {
		s = append(s, n+"="+v)
	}
	return strings.Join(s, " ")
}

func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(f *exchange.Fields)
		want string
	}{
		{"nothing", func(*exchange.Fields) {}, "a=1 b=2 a=3 c=4"},
		{"add", func(f *exchange.Fields) { f.Add("a", "5") }, "a=1 b=2 a=3 c=4 a=5"},
		{"set in place", func(f *exchange.Fields) { f.Set("a", "5") }, "a=5 b=2 c=4"},
		{"set new", func(f *exchange.Fields) { f.Set("d", "5") }, "a=1 b=2 a=3 c=4 d=5"},
		{"set last", func(f *exchange.Fields) { f.Set("c", "5") }, "a=1 b=2 a=3 c=5"},
		{"set at", func(f *exchange.Fields) { f.SetAt(2, "5") }, "a=1 b=2 a=5 c=4"},
		{"remove", func(f *exchange.Fields) { f.Remove("a") }, "b=2 c=4"},
		{"remove nothing", func(f *exchange.Fields) { f.Remove("d") }, "a=1 b=2 a=3 c=4"},
		{"remove last", func(f *exchange.Fields) { f.Remove("c") }, "a=1 b=2 a=3"},
		{"replace", func(f *exchange.Fields) { f.Replace([]exchange.Field{{Name: "x", Value: "y"}}) }, "x=y"},
		{"reset", func(f *exchange.Fields) { f.Reset() }, ""},
	} {
		var f exchange.Fields
		for _, x := range []exchange.Field{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}, {Name: "a", Value: "3"}, {Name: "c", Value: "4"}} {
			f.Add(x.Name, x.Value)
		}
		var before exchange.Fields
		before.CopyFrom(&f)
		tt.edit(&f)
		if got := text(&f); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if got := text(&before); got != "a=1 b=2 a=3 c=4" {
			t.Errorf("%s: the copy has changed to %q", tt.name, got)
		}
	}
}

func TestFieldsLookup(t *testing.T) {
	var f exchange.Fields
	f.Add("a", "1")
	f.Add("a", "22")
	f.Add("a", "")
	if got := f.Joined("a"); got != "1, 22" {
		t.Errorf("Joined(a): got %q", got)
	}
	if v, ok := f.Get("a"); v != "1" || !ok {
		t.Errorf("Get(a): got %q, %v", v, ok)
	}
	if v, ok := f.Get("A"); v != "" || ok {
		t.Errorf("Get(A): got %q, %v", v, ok)
	}
	if f.Value("b") != "" || f.Has("b") || !f.Has("a") || f.Len() != 3 || f.Size() != 6 {
		t.Errorf("Value, Has, Len or Size is wrong: %v %d %d", f.List(), f.Len(), f.Size())
	}
}

func TestEqualFold(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"Keep-Alive", "keep-alive", true},
		{"keep-alive", "keep-alive", true},
		{"keep", "keeps", false},
		{"\u212aeep", "keep", false},
		{"a[", "a{", false},
		{"a@", "a`", false},
	} {
		if got := exchange.EqualFold(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %v", tt.a, tt.b, got)
		}
	}
}

func TestHexDigit(t *testing.T) {
	const digits = "0123456789abcdef"
	for c := range 256 {
		v, ok := exchange.HexDigit(byte(c))
		i := strings.IndexByte(digits, byte(c))
		if i < 0 {
			i = strings.IndexByte(strings.ToUpper(digits), byte(c))
		}
		if ok != (i >= 0) || ok && int(v) != i {
			t.Errorf("%q: got %d, %v", byte(c), v, ok)
		}
	}
}

func TestQuery(t *testing.T) {
	var r exchange.Request
	for _, tt := range []struct {
		target, query string
		has           bool
	}{{"/a", "", false}, {"/a?", "", true}, {"/a?b?c", "b?c", true}} {
		if err := r.ParseTarget(tt.target); err != nil {
			t.Fatal(err)
		}
		if q, ok := r.Query(); q != tt.query || ok != tt.has {
			t.Errorf("Query of %q: got %q, %v", tt.target, q, ok)
		}
	}
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	e := &exchange.Error{Op: "read head", Reason: "bare_lf", Status: 400, Err: cause}
	if got, want := e.Error(), "read head: bare_lf (400): cause"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(e, cause) {
		t.Errorf("the cause is lost")
	}
}

func TestReset(t *testing.T) {
	r := exchange.Request{Method: "GET", Upgrade: "x", Length: 3, EncodedSlash: true}
	r.SetTarget("/a?b", 2)
	r.Fields.Add("a", "b")
	r.Reset()
	if r.Method != "" || r.Target != "" || r.Path() != "" || r.Fields.Len() != 0 || r.EncodedSlash || r.Length != 0 {
		t.Errorf("Request.Reset leaves %+v", r)
	}
	res := exchange.Response{Status: 200, Length: 3}
	res.Fields.Add("a", "b")
	res.Reset()
	if res.Status != 0 || res.Length != 0 || res.Fields.Len() != 0 {
		t.Errorf("Response.Reset leaves %+v", res)
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[exchange.Version]string{
		exchange.HTTP10: "HTTP/1.0", exchange.HTTP11: "HTTP/1.1", exchange.HTTP2: "HTTP/2", exchange.HTTP3: "HTTP/3",
	} {
		if got := v.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFieldsGrow(t *testing.T) {
	var f exchange.Fields
	f.Add("a", "1")
	f.Grow(3)
	first := &f.List()[0]
	for range 3 {
		f.Add("b", "2")
	}
	if got := f.List(); len(got) != 4 || &got[0] != first || got[0] != (exchange.Field{Name: "a", Value: "1"}) {
		t.Errorf("got %v, or moved", got)
	}
}
