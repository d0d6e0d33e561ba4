// Package wasmfilter makes a Proxy-Wasm plugin a filter of core: it is the only
// package that imports both the wasm host and core.
//
// The nouns: a [Factory] is a plugin on a route. A Filter is that plugin's part
// in one exchange; it is the guest's stream context seen from core, and core's
// exchange seen from the guest. It has two directions, one for the request and
// one for the response; each is a sink that calls the guest and then, when the
// guest lets go of the message, the next sink.
//
// The one rule of use: locks are taken in the order direction lock, call lock, VM
// lock, Exchange.Mu (architecture, rule 3). A direction lock is held while a message is
// pushed on; the VM lock is the host's and is held while the guest runs; under
// Exchange.Mu nothing is called. What a guest asks for (resume, reply, close) is
// a mark that is set under Exchange.Mu and acted on when the callback is over, by
// the goroutine that is in the direction, by the one that is parked there, or
// by one that is started for it (rule 2).
//
// wasmfilter knows no socket, no configuration file and no wazero. What it can
// be made to hold is bounded in limits.go.
package wasmfilter
