package access_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"wproxy/core/access"
	"wproxy/core/exchange"
)

// logged returns the line that a Logger with o writes of r.
func logged(t *testing.T, o access.Options, r *access.Record) string {
	t.Helper()
	var out bytes.Buffer
	o.Writer = &out
	l, err := access.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l.Log(r)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func fields(list ...string) *exchange.Fields {
	f := &exchange.Fields{}
	for i := 0; i < len(list); i += 2 {
		f.Add(list[i], list[i+1])
	}
	return f
}

// TestFields: the fields that are chosen, in their order, and no others.
func TestFields(t *testing.T) {
	t.Parallel()
	r := record()
	r.Request = fields("x-tenant", "a", "x-tenant", "b", "cookie", "s=1; t=2", "cookie", "u=3", "authorization", "Bearer x", "referer", "http://r.test/?token=1&a=2")
	r.Response = fields("content-type", "text/\"plain")
	r.Referer, r.UserAgent = "http://r.test/?token=1&a=2", "curl/8"
	r.Fields = []exchange.Field{{Name: "cache", Value: "hit"}, {Name: "user_agent", Value: "forged"}, {Name: "limit", Value: "1"}}
	r.Trace, r.Span = [16]byte{0: 0xab, 15: 1}, [8]byte{7: 2}
	const query = "/x?a=1&token=2&TOKEN=3&%74oken=4;token=5"
	hide := access.Hide{Fields: []string{"authorization"}, Query: []string{"token"}, Cookies: []string{"t"}}
	all := access.Hide{Query: []string{"*"}}
	for _, tt := range []struct {
		name   string
		fields []string
		hide   access.Hide
		want   string
	}{
		{"some", []string{"status", "path"}, access.Hide{}, `{"status":200,"path":"` + query + `"}`},
		{"nothing to be said", []string{"reason", "client_cert", "response:x-none", "cookie:none", "added:none", "grpc_status"}, access.Hide{}, `{}`},
		{"heads", []string{"header:X-Tenant", "response:content-type", "user_agent", "protocol"}, access.Hide{}, `{"header:x-tenant":"a, b","response:content-type":"text/\"plain","user_agent":"curl/8","protocol":"HTTP/1.1"}`},
		{"added", []string{"added:cache", "method"}, access.Hide{}, `{"cache":"hit","method":"GET"}`},
		{"all added", []string{"added"}, access.Hide{}, `{"cache":"hit","limit":"1"}`},
		{"cookies", []string{"cookie:s", "cookie:t", "cookie:u", "header:cookie"}, hide, `{"cookie:s":"1","cookie:t":"***","cookie:u":"3","header:cookie":"s=1; t=***; u=3"}`},
		{"hidden field", []string{"header:authorization", "header:cookie"}, access.Hide{Fields: []string{"authorization", "cookie"}}, `{"header:authorization":"***","header:cookie":"***"}`},
		{"hidden parameters", []string{"path"}, hide, `{"path":"/x?a=1&token=***&TOKEN=***&%74oken=***"}`},
		{"all parameters", []string{"path"}, all, `{"path":"/x?a=***&token=***&TOKEN=***&%74oken=***"}`},
		{"hidden columns", []string{"host", "referer", "user_agent"}, access.Hide{Fields: []string{"host", "referer", "user-agent"}}, `{"host":"***","referer":"***","user_agent":"***"}`},
		{"referer", []string{"referer", "header:referer"}, hide, `{"referer":"http://r.test/?token=***&a=2","header:referer":"http://r.test/?token=***&a=2"}`},
		{"trace", []string{"span_id", "trace_id"}, access.Hide{}, `{"span_id":"0000000000000002","trace_id":"ab000000000000000000000000000001"}`},
	} {
		r.Path = query
		if got := logged(t, access.Options{Fields: tt.fields, Hide: tt.hide}, r); got != tt.want+"\n" {
			t.Errorf("%s:\ngot  %swant %s", tt.name, got, tt.want)
		}
	}
	more := logged(t, access.Options{Fields: []string{"status", "default", "header:x-tenant"}}, r)
	if !strings.HasPrefix(more, `{"status":200,"ts":"`) || strings.Count(more, `"status"`) != 1 || !strings.HasSuffix(more, `"header:x-tenant":"a, b"}`+"\n") {
		t.Errorf("default among others: %s", more)
	}
	combined := logged(t, access.Options{Format: access.Combined, Hide: hide}, r)
	if strings.Contains(combined, "token=2") || strings.Contains(combined, "token=1") || !strings.Contains(combined, "GET /x?a=1&token=***") {
		t.Errorf("combined: %s", combined)
	}
}

// TestHiddenNames: a name is hidden in every way in which a server reads it, and its whole value.
func TestHiddenNames(t *testing.T) {
	t.Parallel()
	hide := access.Hide{Query: []string{"token", "my name"}, Cookies: []string{"sid"}}
	for in, want := range map[string]string{
		"/?token=a;b&c=1":                  "/?token=***&c=1", // a;b is the value where only & separates
		"/?c=1;token=a;d=2&e=3":            "/?c=1;token=***&e=3",
		"/?+token=a&token+=b&x+token=c":    "/?+token=***&token+=***&x+token=c",
		"/?my+name=a&MY+Name=b&my%20name=": "/?my+name=***&MY+Name=***&my%20name=***",
		"/?token[]=a&token[x][y]=b&tok=1":  "/?token[]=***&token[x][y]=***&tok=1",
		"/?token=a=b&token=?token=c":       "/?token=***&token=***",
		"/?token&tokens=1&=token":          "/?token&tokens=1&=token",
	} {
		if got := hide.Target(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got, want := access.RedactQuery("/?session=a;b&c=1"), "/?session=***&c=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r := record()
	var head exchange.Fields
	head.Add("cookie", "sid =1; a=2;\tsid=3; Sid=4")
	r.Request = &head
	want := `{"header:cookie":"sid =***; a=2; sid=***; Sid=4","cookie:sid":"***"}` + "\n"
	if got := logged(t, access.Options{Fields: []string{"header:cookie", "cookie:sid"}, Hide: hide}, r); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Referer, r.UserAgent = "http://r.test/", "curl/8"
	got := logged(t, access.Options{Format: access.Combined, Hide: access.Hide{Fields: []string{"referer", "user-agent"}}}, r)
	if !strings.HasSuffix(got, ` "***" "***"`+"\n") {
		t.Errorf("combined: %s", got)
	}
}

func TestNoSuchField(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{{"statsu"}, {"status", "status"}, {"header:"}, {"added:status"}, {"cookie:"}, {"x:y"}, {""}, {"header:A", "header:a"}} {
		if _, err := access.Open(access.Options{Writer: &bytes.Buffer{}, Fields: list}); err == nil {
			t.Errorf("%q was accepted", list)
		}
	}
}

// TestEveryField: each field of the list can be had, under its name.
func TestEveryField(t *testing.T) {
	t.Parallel()
	r := record()
	r.Tries, r.Retried, r.Reason, r.GRPC, r.ClientCert = 2, []string{"connect"}, "timeout", true, "CN=x"
	r.Trace, r.Span, r.Referer, r.UserAgent = [16]byte{1}, [8]byte{1}, "r", "u"
	r.Fields = []exchange.Field{{Name: "added", Value: "by no plugin"}, {Name: "cache", Value: "hit"}}
	r.Plugins = []access.Plugin{{Name: "p"}}
	names, usual := access.ColumnNames()
	var got map[string]any
	if err := json.Unmarshal([]byte(logged(t, access.Options{Fields: names}, r)), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "added" {
			name = "cache"
		}
		if _, ok := got[name]; !ok {
			t.Errorf("%s is not there", name)
		}
	}
	clear(got)
	if err := json.Unmarshal([]byte(logged(t, access.Options{}, r)), &got); err != nil || len(got) != usual {
		t.Errorf("by default there are %d fields, want %d (%v)", len(got), usual, err)
	}
}

// TestLeave: what is left out is a share of the lines that say nothing special, and never
// another one.
func TestLeave(t *testing.T) {
	t.Parallel()
	count := func(leave float64, edit func(*access.Record)) int {
		var out bytes.Buffer
		l, err := access.Open(access.Options{Writer: &out, Leave: leave})
		if err != nil {
			t.Fatal(err)
		}
		r := record()
		edit(r)
		for range 2000 {
			l.Log(r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out.String(), "\n")
	}
	if n := count(.75, func(*access.Record) {}); n < 350 || n > 650 {
		t.Errorf("a quarter of 2000 lines are %d", n)
	}
	if n := count(1, func(*access.Record) {}); n != 0 {
		t.Errorf("none of 2000 lines are %d", n)
	}
	if n := count(0, func(*access.Record) {}); n != 2000 {
		t.Errorf("all of 2000 lines are %d", n)
	}
	for name, edit := range map[string]func(*access.Record){
		"the upstream's 500": func(r *access.Record) { r.Status = 500 },
		"refused":            func(r *access.Record) { r.Status, r.Reason = 404, "no_route" },
		"refused by a guest": func(r *access.Record) { r.Status, r.Reason = 429, "limited" },
		"broke off":          func(r *access.Record) { r.Reason = "upstream_truncated" },
		"trapped":            func(r *access.Record) { r.Status, r.Reason = 503, "plugin_failed:p" },
		"trapped, unseen":    func(r *access.Record) { r.Trapped = true },
		"ended by reloads":   func(r *access.Record) { r.Reason = "too_many_reloads" },
		"TCP, turned away":   func(r *access.Record) { r.TCP, r.Status, r.Reason = true, 0, "denied" },
		"TCP, no route":      func(r *access.Record) { r.TCP, r.Status, r.Reason = true, 0, "no_route" },
		"TCP, reset":         func(r *access.Record) { r.TCP, r.Status, r.Reason = true, 0, "upstream_reset" },
	} {
		if n := count(1, edit); n != 2000 {
			t.Errorf("%s: %d of 2000 lines", name, n)
		}
	}
	for name, edit := range map[string]func(*access.Record){
		"404 of the upstream": func(r *access.Record) { r.Status = 404 },
		"gone":                func(r *access.Record) { r.Status, r.Reason = 499, "client_gone" },
		"retried":             func(r *access.Record) { r.Retried = []string{"connect"} },
		"TCP":                 func(r *access.Record) { r.TCP, r.Status = true, 0 },
		"TCP, its time over":  func(r *access.Record) { r.TCP, r.Status, r.Reason = true, 0, "idle_timeout" },
	} {
		if n := count(1, edit); n != 0 {
			t.Errorf("%s: %d of 2000 lines", name, n)
		}
	}
}

// FuzzHide: whatever the target is, no value of a hidden parameter is left of it.
func FuzzHide(f *testing.F) {
	f.Add("/a?token=secret&b=1")
	f.Add("?token=secret;token=secret#x")
	f.Add("/?%74oken=secret&=x&token")
	f.Fuzz(func(t *testing.T, target string) {
		h := access.Hide{Query: []string{"*"}}
		got := h.Target(target)
		_, query, _ := strings.Cut(got, "?")
		for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
			if _, v, ok := strings.Cut(pair, "="); ok && v != "***" {
				t.Errorf("%q became %q", target, got)
			}
		}
		if h.Target(got) != got {
			t.Errorf("%q became %q, and that %q", target, got, h.Target(got))
		}
		none := access.Hide{}
		if none.Target(target) != target {
			t.Errorf("%q became %q without anything to hide", target, none.Target(target))
		}
	})
}
