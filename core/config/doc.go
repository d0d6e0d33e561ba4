// Package config reads wproxy.toml into plain structs.
//
// The nouns are those of the file: listeners (doors), routes (what to do),
// upstreams (where), plugins (how), each a named table. [Load] reads the file
// and what it includes, merges them by name, resolves ${env:NAME} and
// ${file:/path}, fills in defaults, checks everything that can be checked
// without opening a port or a .wasm, and returns either a [File] in which
// every value is final, or a [Problems] list with every mistake and its place.
//
// The one rule of use: a File is data. It is never changed after Load, and
// nothing in it acts; cmd/wproxy turns it into running parts.
//
// The struct definitions are the reference of the file format. The tag toml
// names the key, default is what an absent key means, range and oneof are what
// is allowed. A key that no field names is an error, never ignored.
//
// config is a leaf: it knows no other package of wproxy.
package config
