package config

import _ "embed" // the schema

// schema is made from the types of this package and docs/configuration.md by
// `go test ./core/config -run TestSchema -update`; a test compares.
//
//go:embed schema.json
var schema []byte

// Schema returns a JSON Schema (draft 2020-12) of the file format, for editors that
// complete and check keys. It says what can be said key by key; Load knows more. The
// slice is the caller's.
func Schema() []byte { return append([]byte(nil), schema...) }
