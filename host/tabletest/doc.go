// Package tabletest runs tests of a plugin that are written as tables, in files
// called *.test.toml, against the real .wasm in the real host code: what
// `wproxy plugin test` does. It needs no toolchain, and works for plugins in any
// language. docs/plugins.md has the form for the people who write them.
//
// A file has cases ([[test]]); each runs in a plugin of its own, started with the
// case's settings, and has one exchange or several steps ([[test.step]]). The clock is
// a fake: waiting takes no time. host/plugintest does the work.
package tabletest
