// Package hostcall has the host functions that the shipped plugins need and the Go SDK
// does not offer: a local response with details, counters that do not link fmt,
// random bytes, a clock that costs one host call, reads whose key is encoded once, reads of
// several values in one call, and edits of headers without the SDK's layers, which cost a guest
// more than the host call. But for the extensions in package abi, without which the plugins do the
// same in more calls, they are ordinary Proxy-Wasm 0.2 functions; any host has them.
//
// Functions exist under GOOS=wasip1 only. Nothing here is for use by two goroutines.
package hostcall
