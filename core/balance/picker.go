// Package balance chooses the server for a try. A [Picker] is immutable, never
// blocks and does no I/O (cf. grpc balancer.Picker): what it depends on is in
// the endpoints' counters, and a change of the set makes a new Picker.
package balance

import "wproxy/core/upstream"

// A Picker chooses an endpoint. It is safe for concurrent use.
type Picker interface { //nolint:iface // the engine holds one; the implementations are here, in a file each
	// Pick returns an endpoint that is not in tried, or nil if none is left.
	// key is the hash of what ties requests to a server; pickers that do not
	// hash ignore it. tried is borrowed.
	Pick(key uint64, tried []*upstream.Endpoint) *upstream.Endpoint
}
