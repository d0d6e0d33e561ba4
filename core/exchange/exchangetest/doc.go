// Package exchangetest holds the conformance suite that each codec must pass
// ([Run]), and what tests of others need to stand in for a codec: recording
// sinks, scripted streams, and an in-memory connection that behaves like a
// socket.
package exchangetest
