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
	"is more than 1000000 a second",
	"is not between", "needs a rate", "is not for sliding-window", "for token-bucket only", "for leaky-bucket only",
	"takes more than a year", "is more than burst", "needs a prefix length", `"10.0.0.0/33" is not an address`,
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
		`{"rate":"100/s"}`,
		`{"rate":"1/s","algorithm":"leaky-bucket","max_delay":"1.5s","burst":3,"concurrency":5}`,
		`{"concurrency":5}`, `{"rate":"9/m","algorithm":"sliding-window","cost":2}`, `{"rate":"9/m","cost":"header:x-Cost"}`,
		`{"rate":"7/m","burst":2,"key":["header:X-Key","host"],"scope":"plugin","mode":"report","on_missing_key":"deny","status":503,"body":"no","cost":2,"algorithm":"token-bucket"}`,
		`{"rate":"001/h","key":["client-ip/064","query:ä b","cookie:a!","path","method","global"]}`,
		`{"rate":"1/s","exempt":{"clients":"::1","headers":{"X-Plan":["a",""],"y":true,"z":"b"}}}`,
		`{"rate":"1/s","exempt":{"clients":["10.0.0.0/8","::ffff:1.2.3.4"]},"key":[]}`,
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
