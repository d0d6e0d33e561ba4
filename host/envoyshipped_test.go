package host_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestEnvoyShipped: all four shipped plugins on a live Envoy, as they are. Those that need nothing
// but Proxy-Wasm work there; the others refuse their settings, and say why, rather than do
// half of what they are for.
func TestEnvoyShipped(t *testing.T) {
	envoy := liveEnvoy{liveEnvoyBinary(t)}
	list := []struct {
		plugin, config string
		repeat         int
		answers        []string // is in what the client gets
		refuses        string   // is in what the plugin says; "": it works
	}{
		{"securityheaders", `{"preset":"strict"}`, 0, []string{"200; ", "x-content-type-options=nosniff"}, ""},
		{"ratelimit", `{"rate":"1/h","burst":2}`, 2, []string{"200; ", `ratelimit-policy="default";q=1;w=3600;burst=2`, " / 429"}, ""},
		{"ratelimit", `{"rate":"1/h","algorithm":"sliding-window"}`, 0, nil, `"algorithm"`},
		{"breaker", `{"failures":0.5}`, 0, nil, "breaker: the host does not have the function wproxy.counter.v1.lease"},
		{"cache", `{"default_ttl":"1m"}`, 0, nil, "cache: nothing can be cached here: the host does not store objects"},
	}
	var cases []*liveCase
	for i, c := range list {
		wasm, err := os.ReadFile("../plugins/builtin/" + c.plugin + ".wasm")
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("alone%d", i)
		cases = append(cases, &liveCase{id: id, vmID: id, wasm: wasm, config: c.config, repeat: c.repeat, tcp: true})
	}
	results := runLive(t, envoy, cases)
	for i, c := range list {
		r := results[cases[i].id]
		said := slices.ContainsFunc(r.log, func(line string) bool { return strings.Contains(line, c.refuses) })
		switch {
		case c.refuses != "" && (!said || strings.Contains(r.answer, "200")):
			t.Errorf("%s %s: the client gets %q, the plugin says %q, want %q", c.plugin, c.config, r.answer, r.log, c.refuses)
		case c.refuses == "":
			for _, part := range c.answers {
				if !strings.Contains(r.answer, part) {
					t.Errorf("%s %s: the client gets %q, want %q in it (%q)", c.plugin, c.config, r.answer, part, r.log)
				}
			}
		}
	}
}
