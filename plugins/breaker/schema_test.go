package main

import (
	"bytes"
	"testing"

	"wproxy/plugins/manifest/manifesttest"
)

// TestSchemaKeys: what README.md documents is what the schema has.
func TestSchemaKeys(t *testing.T) { manifesttest.Documented(t) }

// pluginOnly are parts of the refusals that a schema cannot express.
var pluginOnly = []string{
	"need each other", "is not between", "is less than", "would ever open", "is set by the proxy", "control character", "exclude each other",
	`"101%"`,
}

// TestSchemaRefuses: what the plugin refuses, the schema refuses, where it can tell.
func TestSchemaRefuses(t *testing.T) {
	all := make([]manifesttest.Refusal, 0, len(refused))
	for _, tc := range refused {
		all = append(all, manifesttest.Refusal{Settings: tc.doc, Says: tc.want})
	}
	manifesttest.Refuses(t, all, pluginOnly)
}

// FuzzSchemaAgrees: the schema takes whatever the plugin takes. (TOML has no null.)
func FuzzSchemaAgrees(f *testing.F) {
	for _, doc := range []string{
		`{}`, `{"failures":"12.5%","slow":1,"slow_call":"1.50s","statuses":[503,"4xx","504"],"on":"tls"}`,
		`{"consecutive":5,"failures":false,"open_for":"1m30s","open_for_max":"2h","open_for_growth":1.5,"probes":7,"fallback_upstream":"b"}`,
		`{"fallback":{"status":429,"headers":{"a":"b"},"body":""},"on":[],"statuses":[]}`,
	} {
		f.Add([]byte(doc))
	}
	s := manifesttest.Schema(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := parseConfig(doc); err != nil || len(doc) == 0 || bytes.Contains(doc, []byte("null")) {
			return
		}
		if problems := s.Check(doc); len(problems) > 0 {
			t.Errorf("%q: the plugin takes it, the schema does not: %v", doc, problems)
		}
	})
}
