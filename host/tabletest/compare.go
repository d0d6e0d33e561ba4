package tabletest

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// matchers returns every matcher of e, with its key.
func (e *expect) matchers() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		single := []struct {
			key string
			m   any
		}{{"body", e.Body}, {"reason", e.Reason}, {"verdict", e.Verdict}}
		tables := map[string]map[string]any{
			"headers": e.Headers, "trailers": e.Trailers, "metrics": e.Metrics, "shared": e.Shared, "log_fields": e.LogFields,
		}
		if u := e.Upstream; u != nil {
			tables["upstream.headers"], tables["upstream.trailers"] = u.Headers, u.Trailers
			for _, f := range u.parts(plugintest.Request{}) {
				single = append(single, struct {
					key string
					m   any
				}{"upstream." + f.key, f.want})
			}
		}
		if w := e.Connection; w != nil {
			for key, m := range map[string]any{"upstream": w.Upstream, "client": w.Client, "closed": w.Closed} {
				single = append(single, struct {
					key string
					m   any
				}{"connection." + key, m})
			}
		}
		for _, s := range single {
			if !yield(s.key, s.m) {
				return
			}
		}
		for _, l := range []struct {
			key  string
			list []any
		}{{"log", e.Log}, {"no_log", e.NoLog}} {
			for _, m := range l.list {
				if !yield(l.key, m) {
					return
				}
			}
		}
		for key, table := range tables {
			for name, m := range table {
				if !yield(key+"."+name, m) {
					return
				}
			}
		}
	}
}

// exchange reports whether e expects something that only an exchange has.
func (e *expect) exchange() bool {
	return e.Status != 0 || e.Headers != nil || e.Body != nil || e.Trailers != nil || e.Local != nil || e.Reason != nil ||
		e.Upstream != nil || e.Paused != nil
}

// part is one thing of a request that is compared.
type part struct {
	key  string
	want any
	got  string
}

func (u *expectUpstream) parts(r plugintest.Request) []part {
	return []part{
		{"method", u.Method, r.Method},
		{"scheme", u.Scheme, r.Scheme},
		{"authority", u.Authority, r.Authority},
		{"path", u.Path, r.Path},
		{"body", u.Body, string(r.Body)},
	}
}

// A comparer collects what is not as expected.
type comparer struct {
	p        *plugintest.Plugin
	failures []Failure
}

// fail notes that what is not as wanted.
func (c *comparer) fail(what, want, got string) {
	c.failures = append(c.failures, Failure{What: what, Want: want, Got: got})
}

// value compares one value, or several of the same name.
func (c *comparer) value(what string, m any, values ...string) {
	if m != nil && !match(m, values) {
		c.fail(what, wanted(m), gotten(values))
	}
}

// fields compares the lines of a head or of trailers.
func (c *comparer) fields(what string, want map[string]any, have []abi.Pair) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		var values []string
		for _, p := range have {
			if p.Name == strings.ToLower(name) {
				values = append(values, p.Value)
			}
		}
		c.value(what+" "+name, want[name], values...)
	}
}

// compare holds e against what has happened; nil expects nothing but that no message is
// left behind. x is the exchange, nil if there was none.
func (c *comparer) compare(e *expect, x *plugintest.Stream, paused bool) {
	if e == nil {
		e = &expect{}
	}
	if x != nil {
		c.exchange(e, x, paused)
	}
	logs := c.p.Logs()
	lines := make([]string, 0, len(logs))
	for _, l := range logs {
		lines = append(lines, l.Message)
	}
	for _, m := range e.Log {
		if !slices.ContainsFunc(lines, func(l string) bool { return matchLine(m, l) }) {
			c.fail("a line of the log", wanted(m), "(no such line)")
		}
	}
	for _, m := range e.NoLog {
		if i := slices.IndexFunc(lines, func(l string) bool { return matchLine(m, l) }); i >= 0 {
			c.fail("the log", "no line with "+wanted(m), strconv.Quote(lines[i]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Metrics)) {
		var values []string
		if v, ok := c.p.Metric(name); ok {
			values = append(values, strconv.FormatInt(v, 10))
		}
		c.value("metric "+name, e.Metrics[name], values...)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Shared)) {
		var values []string
		if v, ok := c.p.SharedData(key); ok {
			values = append(values, string(v))
		}
		c.value("shared data "+key, e.Shared[key], values...)
	}
}

// matchLine matches a line of the log: a string is a part of it.
func matchLine(m any, line string) bool {
	if s, ok := m.(string); ok {
		return strings.Contains(line, s)
	}
	return match(m, []string{line})
}

func (c *comparer) exchange(e *expect, x *plugintest.Stream, paused bool) {
	client, up := x.Client(), x.Upstream()
	if e.Status != 0 && e.Status != client.Status {
		c.fail("status", strconv.Itoa(e.Status), strconv.Itoa(client.Status))
	}
	c.fields("response header", e.Headers, client.Fields)
	c.value("response body", e.Body, string(client.Body))
	c.fields("response trailer", e.Trailers, client.Trailers)
	reason := x.Reason()
	if e.Local != nil {
		if local := client.Status != 0 && reason != ""; local != *e.Local {
			c.fail("local (the plugin has answered itself)", strconv.FormatBool(*e.Local), strconv.FormatBool(local))
		}
	}
	c.value("reason", e.Reason, some(reason)...)
	if u := e.Upstream; u != nil {
		if up.Method == "" {
			c.fail("upstream", "a request", "(nothing has reached it)")
		} else {
			for _, f := range u.parts(up) {
				c.value("upstream "+f.key, f.want, f.got)
			}
			c.fields("upstream header", u.Headers, up.Fields)
			c.fields("upstream trailer", u.Trailers, up.Trailers)
		}
	}
	switch {
	case e.Paused != nil && *e.Paused != paused:
		c.fail("paused", strconv.FormatBool(*e.Paused), strconv.FormatBool(paused))
	case e.Paused == nil && paused:
		c.fail("paused", "the message goes on", "the plugin holds it back (expect paused = true, or let time pass with wait)")
	}
	c.kept(e, x)
}

// kept compares what the plugin gives to the access log.
func (c *comparer) kept(e *expect, x interface {
	Verdict(name string) string
	LogField(name string) string
},
) {
	c.value("verdict", e.Verdict, some(x.Verdict(pluginName))...)
	for _, key := range slices.Sorted(maps.Keys(e.LogFields)) {
		c.value("log field "+key, e.LogFields[key], some(x.LogField(key))...)
	}
}

// some returns s as a value that is there unless it is empty.
func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// traps compares how often the guest has failed.
func (c *comparer) traps(want uint64) {
	got := uint64(0)
	for _, n := range c.p.Stats().Traps {
		got += n
	}
	if got != want {
		c.fail("traps of the guest", strconv.FormatUint(want, 10), strconv.FormatUint(got, 10))
	}
}

// logLines writes the log for a failure.
func logLines(entries []host.LogEntry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%-8s %s", e.Level, e.Message))
	}
	if len(out) > maxLogLines {
		out = append([]string{fmt.Sprintf("... %d lines before", len(out)-maxLogLines)}, out[len(out)-maxLogLines:]...)
	}
	return out
}

// maxLogLines is how many lines of the log a failure shows, from the end.
const maxLogLines = 20
