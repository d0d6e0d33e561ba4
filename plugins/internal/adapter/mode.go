//go:build wasip1

package adapter

// direct says who keeps the stream contexts: the adapter (streams.go) or the SDK. `plugin
// build` replaces this file: direct is true for a plugin that has HTTP contexts only and
// makes no calls, for which the two are the same but for the price.
const direct = false
