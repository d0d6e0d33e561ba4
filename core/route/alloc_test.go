//go:build !race

package route_test

import (
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/route"
)

func TestMatchAllocs(t *testing.T) {
	entries := big(10_000)
	entries = append(entries,
		route.Entry[int]{Value: -1, Spec: route.Spec{
			Name: "conditions", Hosts: []string{"*.example.com"}, Methods: []string{"GET"}, Listeners: []string{"http"},
			Headers: []route.Condition{{Name: "x-a", Values: []string{"1"}}},
			Query:   []route.Condition{{Name: "q", Values: []string{"a b"}}},
		}},
		route.Entry[int]{Value: -2, Spec: route.Spec{Name: "regex", Hosts: []string{"*.example.com"}, PathRegex: `^/v\d+/(users|groups)$`}},
	)
	tb, err := route.New(entries)
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"GET h77.example.com/api/v1/service3/x": 773,
		"GET x.example.com/v1?p=%20&q=a+b":      -1,
		"GET x.example.com/v12/groups":          -2,
		"GET nobody/":                           0,
	} {
		q := request(line, "x-a", "1")
		q.Listener = "http"
		if n := testing.AllocsPerRun(100, func() {
			if v, _ := tb.Match(q); v != want {
				t.Fatalf("%s: got %d, want %d", line, v, want)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
}

func TestStripAllocs(t *testing.T) {
	w, err := route.NewRewrite(route.RewriteSpec{Strip: "/v1"})
	if err != nil {
		t.Fatal(err)
	}
	var r exchange.Request
	if n := testing.AllocsPerRun(100, func() {
		r.SetTarget("/v1/users?x=1", 9)
		if err := w.Apply(&r); err != nil || r.Target != "/users?x=1" || r.Path() != "/users" {
			t.Fatal(err, r.Target)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
