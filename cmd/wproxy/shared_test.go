package main

import (
	"errors"
	"slices"
	"testing"

	"wproxy/abi"
	"wproxy/core/config"
	"wproxy/core/metrics"
)

func TestShared(t *testing.T) {
	var freed []string
	s := newShared[string](func(v string) { freed = append(freed, v) })
	made := 0
	create := func() (string, error) { made++; return "v", nil }

	v, letGo1, err := s.get("k", create)
	if v != "v" || err != nil {
		t.Fatalf("got %q, %v", v, err)
	}
	_, letGo2, err := s.get("k", create)
	if err != nil || made != 1 {
		t.Fatalf("made %d times, %v; want once", made, err)
	}
	letGo1()
	letGo1() // only the first counts
	if len(freed) != 0 {
		t.Error("freed while held")
	}
	letGo2()
	if !slices.Equal(freed, []string{"v"}) {
		t.Errorf("freed %v, want it once", freed)
	}
	if _, letGo, err := s.get("k", create); err != nil || made != 2 {
		t.Errorf("after the last let go: made %d times, %v; want anew", made, err)
	} else {
		letGo()
	}

	broken := errors.New("broken")
	if _, _, err := s.get("bad", func() (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	s.each(func(k, _ string) { t.Errorf("%s is still held", k) })
}

func TestGuestMetrics(t *testing.T) {
	m := metrics.New()
	g := &guestMetrics{m, func(plugin string) bool { return plugin == "ours" }, nil}
	for _, tt := range []struct {
		name, plugin, metric string
		routes               []string
		series               map[string]uint64 // as metrics calls them
	}{
		{"plain", "p", "hits", []string{"a", "b"}, map[string]uint64{"hits": 2}},
		{"labels get the route", "p", "seen;kind=x", []string{"a", "b", "a"}, map[string]uint64{
			"seen;route=a;kind=x": 2, "seen;route=b;kind=x": 1,
		}},
		{"asked for the route", "p", "asked;route=", []string{"a"}, map[string]uint64{"asked;route=a": 1}},
		{"a route of its own", "p", "own;route=mine", []string{"a"}, map[string]uint64{"own;route=mine": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := g.Metric(tt.plugin, tt.metric, abi.MetricCounter)
			for _, r := range tt.routes {
				c.Add(1, r)
			}
			for name, want := range tt.series {
				s, ok := m.Guest(tt.plugin, name, metrics.Counter, false)
				if !ok || s.Value() != want {
					t.Errorf("%s: got %v, want %d", name, s, want)
				}
			}
		})
	}
	if g.Metric("p", "", abi.MetricCounter) != nil {
		t.Error("a metric without a name")
	}
	gauge := g.Metric("p", "level", abi.MetricGauge)
	gauge.Set(-5, "") // cannot go below 0 where it is unsigned
	gauge.Set(7, "")
	if s, ok := m.Guest("p", "level", metrics.Gauge, false); !ok || s.Value() != 7 {
		t.Errorf("gauge: got %v", s)
	}
	// An undefinable name must cost nothing, also with labels.
	g.Metric("p", ";a=b", abi.MetricCounter).Add(1, "r")
}

func TestWhatChanged(t *testing.T) {
	load := func(text string) *generation {
		t.Helper()
		f, err := config.Parse("x.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return &generation{file: f, modules: map[string]moduleKey{}}
	}
	const base = "[routes.a]\nto = \"127.0.0.1:1\"\n"
	for _, tt := range []struct {
		name, old, next string
		want            []string
	}{
		{"nothing", base, base, nil},
		{"spelling", base, "# a comment\n" + base, nil},
		{"route", base, base + "[routes.b]\npath = \"/b\"\nrespond = { body = \"x\" }\n", []string{`route "b": added`}},
		{"timeout", base, base + "timeout = \"1s\"\n", []string{`route "a": changed`}},
		{"drain", base, base + "[server]\ndrain = \"1s\"\n", []string{"[server]: changed"}},
		{"server", base, "[routes.a]\nto = \"127.0.0.1:2\"\n", []string{
			`route "a": changed`, `upstream "127.0.0.1:1": removed`, `upstream "127.0.0.1:2": added`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.DeleteFunc(whatChanged(load(tt.old), load(tt.next)), isDetail); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	old, next := load(base), load(base)
	for _, g := range []*generation{old, next} {
		g.file.Plugins = map[string]*config.Plugin{"p": {}}
	}
	old.modules["p"] = moduleKey{name: "p"}
	next.modules["p"] = moduleKey{name: "p", hash: [32]byte{1}}
	if got := slices.DeleteFunc(whatChanged(old, next), isDetail); !slices.Equal(got, []string{`plugin "p": its .wasm changed`}) {
		t.Errorf("got %q", got)
	}
}
