// Package manifest is what a plugin says about itself, in a custom section of its
// .wasm file: name and version, which bodies it works on, the grants it asks for, and
// the JSON Schema of its settings. `wproxy plugin build` writes it; whoever loads the
// plugin reads it. A plugin needs none, and any toolchain can add one.
//
// The section is called wproxy.manifest and holds one JSON object (UTF-8):
//
//	{
//	  "manifest":    1,                          version of this form; required
//	  "name":        "limit",                    required
//	  "version":     "1.2.0",                    of the plugin, free text
//	  "description": "one line for people",
//	  "body":        ["request", "response"],    the bodies that it has callbacks for
//	  "grants":      ["log", "metrics"],         what it asks to use, as in the key grant
//	  "settings":    { ... }                     JSON Schema (draft 2020-12) of its settings
//	}
//
// Other keys are ignored: a later wproxy may write them. A .wasm file comes from
// anywhere, so nothing that is read here is believed; limits.go has the bounds.
package manifest
