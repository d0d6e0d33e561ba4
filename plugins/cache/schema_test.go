package main

import (
	"bytes"
	"testing"

	"wproxy/plugins/manifest/manifesttest"
)

// TestSchemaKeys: what README.md documents is what the schema has.
func TestSchemaKeys(t *testing.T) { manifesttest.Documented(t) }

// pluginOnly are parts of the refusals that a schema cannot express.
var pluginOnly = []string{"is more than max_size"}

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
		`{}`,
		`{"max_object":"2MiB","max_size":4194304,"default_ttl":"1h30m","key":["header:X-A","cookie:c"],"stale_if_error":"0"}`,
		`{"bypass_headers":[],"purge_clients":["10.0.0.0/8","::1"],"tag_headers":"X-Tags","collapse":false,"name":"edge-1"}`,
	} {
		if _, err := parseConfig([]byte(doc)); err != nil {
			f.Errorf("%s: %v", doc, err)
		}
		f.Add([]byte(doc))
	}
	for _, tc := range refused {
		f.Add([]byte(tc.doc))
	}
	s := manifesttest.Schema(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := parseConfig(doc); err != nil || bytes.Contains(doc, []byte("null")) {
			return
		}
		if problems := s.Check(doc); len(problems) > 0 {
			t.Errorf("%s: the plugin takes it; the schema says %v", doc, problems)
		}
	})
}
