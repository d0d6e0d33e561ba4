package route_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/route"
)

// table builds a table whose values are the names.
func table(tb testing.TB, specs ...route.Spec) (*route.Table[string], error) {
	tb.Helper()
	entries := make([]route.Entry[string], len(specs))
	for i, s := range specs {
		entries[i] = route.Entry[string]{Spec: s, Value: s.Name}
	}
	return route.New(entries)
}

// request makes a request from "METHOD host/path?query" and fields.
func request(line string, fields ...string) *route.Request {
	method, rest, _ := strings.Cut(line, " ")
	host, path, _ := strings.Cut(rest, "/")
	path, query, _ := strings.Cut("/"+path, "?")
	q := &route.Request{Method: method, Host: host, Path: path, Query: query, Fields: new(exchange.Fields)}
	for i := 0; i < len(fields); i += 2 {
		q.Fields.Add(fields[i], fields[i+1])
	}
	return q
}

func TestSpecificity(t *testing.T) {
	tb, err := table(t,
		route.Spec{Name: "any"},
		route.Spec{Name: "any-v1", Paths: []string{"/v1/*"}},
		route.Spec{Name: "wild", Hosts: []string{"*.example.com"}},
		route.Spec{Name: "longer", Hosts: []string{"*.api.example.com"}, Paths: []string{"/v1/*"}},
		route.Spec{Name: "host", Hosts: []string{"api.example.com", "www.example.com"}},
		route.Spec{Name: "prefix", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}},
		route.Spec{Name: "deeper", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/users/*"}},
		route.Spec{Name: "exact", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/users", "/v1"}},
		route.Spec{Name: "regex", Hosts: []string{"api.example.com"}, PathRegex: `^/v\d+/`},
		route.Spec{Name: "post", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}, Methods: []string{"POST"}},
		route.Spec{
			Name: "canary", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}, Methods: []string{"POST"},
			Headers: []route.Condition{{Name: "x-canary", Values: []string{"1"}}},
		},
		route.Spec{Name: "debug", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}, Query: []route.Condition{{Name: "debug"}}, Priority: 1},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, fields, want string }{
		{line: "GET other/", want: "any"},
		{line: "GET other/v1", want: "any-v1"},
		{line: "GET other/v1/x", want: "any-v1"},
		{line: "GET other/v1x", want: "any"},
		{line: "GET example.com/", want: "any"},
		{line: "GET .example.com/", want: "any"},
		{line: "GET x.example.com/v1/x", want: "wild"},
		{line: "GET x.y.example.com/", want: "wild"},
		{line: "GET x.api.example.com/v1/x", want: "longer"},
		{line: "GET x.api.example.com/v2", want: "wild"},
		{line: "GET www.example.com/v1/x", want: "host"},
		{line: "GET api.example.com/v1/x", want: "prefix"},
		{line: "GET api.example.com/v1/", want: "prefix"},
		{line: "GET api.example.com/v1", want: "exact"},
		{line: "GET api.example.com/v1/users", want: "exact"},
		{line: "GET api.example.com/v1/users/", want: "deeper"},
		{line: "GET api.example.com/v2/x", want: "regex"},
		{line: "GET api.example.com/x", want: "host"},
		{line: "POST api.example.com/v1/x", want: "post"},
		{line: "POST api.example.com/v1/x", fields: "x-canary: 1", want: "canary"},
		{line: "POST api.example.com/v1/x", fields: "x-canary: 2", want: "post"},
		{line: "GET api.example.com/v1/x?debug", want: "debug"},
		{line: "GET api.example.com/v1/x?a=1&%64ebug=0", want: "debug"},
		{line: "POST api.example.com/v1/x?debug", want: "debug"},
	} {
		var fields []string
		if name, value, ok := strings.Cut(c.fields, ": "); ok {
			fields = []string{name, value}
		}
		if got, _ := tb.Match(request(c.line, fields...)); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.line, c.fields, got, c.want)
		}
	}
}

func TestNoRoute(t *testing.T) {
	tb, err := table(t, route.Spec{Name: "a", Hosts: []string{"a"}, Paths: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := tb.Match(request("GET a/y")); ok {
		t.Errorf("matched %q", v)
	}
	if tb, err = table(t); err != nil {
		t.Fatal(err)
	}
	if _, ok := tb.Match(request("GET a/")); ok {
		t.Error("an empty table matched")
	}
}

func TestErrors(t *testing.T) {
	h := func(name string, values ...string) []route.Condition {
		return []route.Condition{{Name: name, Values: values}}
	}
	for name, c := range map[string]struct {
		specs []route.Spec
		want  string // "" for none
	}{
		"tie": {
			[]route.Spec{{Name: "b"}, {Name: "a", Paths: []string{"/*"}}},
			`route "b": is as specific as route "a" for /*, and a request can meet both: give one of them a further condition or a priority`,
		},
		"tie by different conditions": {
			[]route.Spec{{Name: "a", Headers: h("x-a")}, {Name: "b", Headers: h("x-b")}},
			`route "b": is as specific as route "a" for /*, and`,
		},
		"tie of two regexes": {
			[]route.Spec{{Name: "a", PathRegex: "^/a"}, {Name: "b", PathRegex: "^/a(b|c)"}},
			`route "b": is as specific as route "a" for ~ ^/a and ~ ^/a(b|c), and`,
		},
		"priority":           {[]route.Spec{{Name: "a"}, {Name: "b", Priority: 1}}, ""},
		"disjoint methods":   {[]route.Spec{{Name: "a", Methods: []string{"GET"}}, {Name: "b", Methods: []string{"POST"}}}, ""},
		"disjoint listeners": {[]route.Spec{{Name: "a", Listeners: []string{"x"}}, {Name: "b", Listeners: []string{"y"}}}, ""},
		"disjoint values":    {[]route.Spec{{Name: "a", Headers: h("x", "1")}, {Name: "b", Headers: h("x", "2", "3")}}, ""},
		"there or not":       {[]route.Spec{{Name: "a", Headers: h("x")}, {Name: "b", Headers: []route.Condition{{Name: "x", Absent: true}}}}, ""},
		"disjoint regexes":   {[]route.Spec{{Name: "a", PathRegex: "^/a"}, {Name: "b", PathRegex: "^/b"}}, ""},
		"other hosts":        {[]route.Spec{{Name: "a", Hosts: []string{"a"}}, {Name: "b", Hosts: []string{"b"}}}, ""},
		"same name":          {[]route.Spec{{Name: "a"}, {Name: "a", Priority: 1}}, `route "a": is there twice`},
		"not canonical": {
			[]route.Spec{{Name: "a", Paths: []string{"/%7euser/*"}}},
			`route "a": path "/%7euser/*" can never match: requests are matched in canonical form, which is "/~user/*"`,
		},
		"dot segment":  {[]route.Spec{{Name: "a", Paths: []string{"/a/../b"}}}, `which is "/b"`},
		"bad regex":    {[]route.Spec{{Name: "a", PathRegex: "("}}, `route "a": path_regex is not valid`},
		"bad host":     {[]route.Spec{{Name: "a", Hosts: []string{"A"}}}, `host "A" is not a name in lower case`},
		"star inside":  {[]route.Spec{{Name: "a", Paths: []string{"/a/*/b"}}}, `has a * at the end`},
		"twice a name": {[]route.Spec{{Name: "a", Headers: append(h("x"), h("x")...)}}, `condition on "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := table(t, c.specs...)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *route.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestShadowed(t *testing.T) {
	tb, err := table(t,
		route.Spec{Name: "api", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}, Priority: 1},
		route.Spec{Name: "api-old", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}},
		route.Spec{Name: "regex", Hosts: []string{"api.example.com"}, PathRegex: "^/v1/x/"},
		route.Spec{Name: "regex-beyond", Hosts: []string{"api.example.com"}, PathRegex: "^/v1", Priority: -1},
		route.Spec{Name: "partly", Hosts: []string{"api.example.com", "b"}, Paths: []string{"/v1/*"}, Priority: -1},
		route.Spec{Name: "more", Hosts: []string{"api.example.com"}, Paths: []string{"/v1/*"}, Methods: []string{"GET"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := `[route "api-old" can never match: "api" covers api.example.com/v1/* with no extra condition ` +
		`route "regex" can never match: "api" covers api.example.com/v1/* with no extra condition]`
	if got := fmt.Sprint(tb.Shadowed()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestExplain(t *testing.T) {
	tb, err := table(t,
		route.Spec{Name: "api", Hosts: []string{"a.example"}, Paths: []string{"/v1/*"}},
		route.Spec{Name: "post", Hosts: []string{"a.example"}, Paths: []string{"/v1/*"}, Methods: []string{"POST", "PUT"}},
		route.Spec{Name: "door", Hosts: []string{"a.example"}, Listeners: []string{"internal"}},
		route.Spec{Name: "canary", Hosts: []string{"a.example"}, Paths: []string{"/v1/x"}, Headers: []route.Condition{{Name: "x-c", Values: []string{"1"}}}},
		route.Spec{Name: "twice", Hosts: []string{"a.example"}, Paths: []string{"/v1/x"}, Headers: []route.Condition{{Name: "x-d", Values: []string{"1"}}}, Priority: 1},
		route.Spec{Name: "absent", Paths: []string{"/v1/x"}, Query: []route.Condition{{Name: "q", Absent: true}}},
		route.Spec{Name: "all", Paths: []string{"/*"}},
		route.Spec{Name: "other-path", Hosts: []string{"*.example"}, Paths: []string{"/v2/*"}},
		route.Spec{Name: "other-host", Hosts: []string{"b.example"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	q := request("GET a.example/v1/x?q=1", "x-c", "2", "x-d", "1", "x-d", "1")
	q.Listener = "public"
	var got []string
	for _, c := range tb.Explain(q, 100) {
		got = append(got, c.Name+" ("+c.Pattern+") "+c.Lost)
	}
	want := []string{
		`api (a.example/v1/*) `,
		`twice (a.example/v1/x) header x-d: is there 2 times, so it has no one value`,
		`canary (a.example/v1/x) header x-c: "2" is not "1"`,
		`post (a.example/v1/*) method: GET is not "POST" or "PUT"`,
		`door (a.example/*) listener: "public" is not "internal"`,
		`absent (/v1/x) query q: is there`,
		`all (/*) less specific than route "api"`,
		`other-path (*.example/v2/*) path: "/v1/x" does not match`,
		`other-host (b.example/*) host: "a.example" does not match`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(tb.Explain(q, 2)); n != 2 {
		t.Errorf("limit 2 gave %d", n)
	}
}

// big returns n routes: a host for every ten, paths of several depths.
func big(n int) []route.Entry[int] {
	list := make([]route.Entry[int], n)
	for i := range list {
		list[i] = route.Entry[int]{Value: i, Spec: route.Spec{
			Name:  fmt.Sprintf("r%d", i),
			Hosts: []string{fmt.Sprintf("h%d.example.com", i/10)},
			Paths: []string{fmt.Sprintf("/api/v1/service%d/*", i%10)},
		}}
	}
	return list
}
