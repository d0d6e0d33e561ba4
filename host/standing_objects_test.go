package host_test

import (
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
)

// lookupGuest gives the order that its configuration is, and stores the status at 1024.
var lookupGuest = strings.NewReplacer("wproxy.callbacks.v1.skip", abi.ForeignObjectStanding, "(i32.const 24)", "(i32.const 26)").Replace(skipGuest)

func TestStandingLookup(t *testing.T) {
	t.Parallel()
	order := func(change func(o *abi.ObjectStanding)) string {
		o := abi.ObjectStanding{
			Absent: []string{"Range", "if-range"}, AgeField: "Age", TTLField: "cache-status", TTLPrefix: "c; ttl=",
			LogField: "cache", LogValue: "hit", CounterHead: "hits;route=", CounterTail: ";a=b",
		}
		if change != nil {
			change(&o)
		}
		return string(o.Append(nil))
	}
	grants := []string{host.GrantObjects, host.GrantMetrics}
	for name, tt := range map[string]struct {
		config string
		grants []string
		off    bool
		want   abi.Status
	}{
		"an order":         {order(nil), grants, false, abi.StatusOK},
		"nothing at all":   {order(func(o *abi.ObjectStanding) { *o = abi.ObjectStanding{} }), grants, false, abi.StatusOK},
		"cut":              {order(nil)[:20], grants, false, abi.StatusBadArgument},
		"no texts":         {"", grants, false, abi.StatusBadArgument},
		"no name":          {order(func(o *abi.ObjectStanding) { o.Absent[0] = "" }), grants, false, abi.StatusBadArgument},
		"a pseudo field":   {order(func(o *abi.ObjectStanding) { o.Absent[0] = ":path" }), grants, false, abi.StatusBadArgument},
		"no field":         {order(func(o *abi.ObjectStanding) { o.AgeField = "a b" }), grants, false, abi.StatusBadArgument},
		"a line break":     {order(func(o *abi.ObjectStanding) { o.TTLPrefix = "a\r\nb: " }), grants, false, abi.StatusBadArgument},
		"misses":           {order(missesOrder), grants, false, abi.StatusOK},
		"no miss's name":   {order(func(o *abi.ObjectStanding) { missesOrder(o); o.MissAlone[1] = "a b" }), grants, false, abi.StatusBadArgument},
		"a miss's pseudo":  {order(func(o *abi.ObjectStanding) { missesOrder(o); o.MissAlone[1] = ":path" }), grants, false, abi.StatusBadArgument},
		"a key":            {order(func(o *abi.ObjectStanding) { o.Key = []string{"cookie:A", "list:X-a", "set:b"} }), grants, false, abi.StatusOK},
		"no part of a key": {order(func(o *abi.ObjectStanding) { o.Key = []string{"list:x", "header:a"} }), grants, false, abi.StatusBadArgument},
		"a part's pseudo":  {order(func(o *abi.ObjectStanding) { o.Key = []string{"list::path"} }), grants, false, abi.StatusBadArgument},
		"not granted":      {order(nil), grants[1:], false, abi.StatusInternalFailure},
		"no such function": {order(nil), grants, true, abi.StatusNotFound},
	} {
		o := options{config: tt.config, plugin: host.PluginOptions{Grants: tt.grants}}
		if tt.off {
			o.host.Without = []string{abi.ForeignObjectStanding}
		}
		s := startWasm(t, assemble(t, lookupGuest), o)
		got, lookup := abi.Status(s.plugin.Peek()[1024]), s.root.StandingLookup()
		if got != tt.want || (lookup != nil) != (tt.want == abi.StatusOK) {
			t.Errorf("%s: status %v, want %v; order %+v", name, got, tt.want, lookup)
		}
		if name == "misses" {
			for field, want := range map[string]bool{"cookie": true, "x-a": true, "range": false, "cookies": false, "": false} {
				if lookup.MissesAlone(field) != want || want && (lookup.Excludes(field) || !lookup.Concerns(field)) {
					t.Errorf("a request with %q is excluded: %t", field, !want)
				}
			}
		}
		if name != "an order" {
			continue
		}
		if lookup.MissesAlone("cookie") {
			t.Error("an order that says nothing of misses excludes some")
		}
		for field, want := range map[string]bool{"range": true, "if-range": true, "ranges": false, "accept": false, "": false} {
			if lookup.Excludes(field) != want || want && !lookup.Concerns(field) {
				t.Errorf("a request with %q is excluded: %t", field, !want)
			}
		}
		if lookup.AgeField != "age" || lookup.LogPath != "log\x00cache" {
			t.Errorf("got %+v", lookup)
		}
		// In a stream's callback it is too late.
		var c host.Context
		if err := s.root.Open(&c, newStream()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ResponseHeaders(1, true); err != nil || abi.Status(s.plugin.Peek()[1024]) != abi.StatusBadArgument || s.root.StandingLookup() != lookup {
			t.Errorf("%v, status %d", err, s.plugin.Peek()[1024])
		}
		_ = c.Finish(nil)
	}
}

func missesOrder(o *abi.ObjectStanding) {
	o.PassValue, o.Misses, o.Joins, o.MissAlone = "miss", true, true, []string{"Cookie", "X-a"}
}

// TestStandingLookupCount: the metric of a route is the guest's of that name, is made once, and
// there are no more than a plugin may have.
func TestStandingLookupCount(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		grants []string
		counts bool
	}{
		"granted":     {[]string{host.GrantObjects, host.GrantMetrics}, true},
		"not granted": {[]string{host.GrantObjects}, false},
	} {
		sink := &countSink{values: map[string]int64{}}
		o := abi.ObjectStanding{CounterHead: "hits;route=", CounterTail: ";a=b"}
		s := startWasm(t, assemble(t, lookupGuest), options{
			config: string(o.Append(nil)), host: host.HostOptions{Metrics: sink}, plugin: host.PluginOptions{Grants: tt.grants},
		})
		lookup := s.root.StandingLookup()
		lookup.Count("r")
		for i := range 3000 {
			lookup.Count("r" + strings.Repeat("x", i%1500))
		}
		lookup.CountPass("r") // of which the order says nothing
		want := int64(1 + 2)
		if !tt.counts {
			want = 0
		}
		if got := sink.values["hits;route=r;a=b"]; got != want || len(sink.values) > 1024 {
			t.Errorf("%s: counted %d of %d, %d metrics", name, got, want, len(sink.values))
		}
	}
}

// TestStandingPasses: those that go by have a counter of their own, and no two orders the same ID.
func TestStandingPasses(t *testing.T) {
	t.Parallel()
	sink := &countSink{values: map[string]int64{}}
	o := abi.ObjectStanding{CounterHead: "n;route=", CounterTail: ";a=hit", PassTail: ";a=miss"}
	s := startWasm(t, assemble(t, lookupGuest), options{
		config: string(o.Append(nil)), host: host.HostOptions{Metrics: sink}, plugin: host.PluginOptions{Grants: []string{host.GrantObjects, host.GrantMetrics}},
	})
	lookup := s.root.StandingLookup()
	lookup.Count("r")
	lookup.CountPass("r")
	lookup.CountPass("r")
	if hit, miss := sink.values["n;route=r;a=hit"], sink.values["n;route=r;a=miss"]; hit != 1 || miss != 2 || len(sink.values) != 2 {
		t.Errorf("counted %v", sink.values)
	}
	other, err := s.plugin.NewRoot(t.Context(), o.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if id := other.StandingLookup().ID; id == lookup.ID || id == 0 {
		t.Errorf("IDs %d and %d", lookup.ID, id)
	}
	if s.root.Close(); lookup.Serving() || !other.StandingLookup().Serving() {
		t.Error("a root that is closed serves, or another does not")
	}
}

// A countSink is a MetricSink for one goroutine.
type countSink struct{ values map[string]int64 }

func (s *countSink) Metric(_, name string, _ abi.MetricKind) host.Metric {
	return &countOf{s, name}
}

type countOf struct {
	s    *countSink
	name string
}

func (c *countOf) Add(delta int64, _ string) { c.s.values[c.name] += delta }
func (c *countOf) Set(int64, string)         {}
func (c *countOf) Sample(int64, string)      {}
