// Package core names the nouns of wproxy's networking half and walks one
// exchange through its packages. It holds no code; core knows no wasm.
//
// # Nouns
//
// One noun per thing; please keep to them in names, logs and documents.
//
//   - client: who sends the request. upstream: who answers it. Never "remote",
//     "peer", "backend" or "origin" for either.
//   - listener: a door that clients connect to. route: what to do with a request.
//     cluster: a named set of endpoints ("upstream" in the configuration file).
//     endpoint: one server of a cluster.
//   - exchange: one request and its response. message: a head, data, at most one
//     trailer. head: request or status line, and fields. field: one header line.
//   - stream: one side of an exchange as a codec presents it. sink: what consumes
//     one message. filter: a pair of sinks, made by a plugin for one exchange.
//   - answer: the final response of an exchange, whoever made it.
//   - snapshot: everything that a reload can change, immutable.
//   - refusal: a request that the codec or the engine did not accept, with a
//     stable reason.
//
// # One exchange
//
// listen accepts a connection and hands it to a codec. h1 parses bytes into an
// [wproxy/core/exchange.Request] and calls the Handler, which is
// [wproxy/core/proxy.Proxy]. The engine loads the snapshot, matches the route
// (route), builds the filter chain (filter), and feeds the request through it.
// At its end the connector picks an endpoint (balance, upstream), takes a
// connection (pool, dial) and pushes the request into the upstream's stream,
// which is a codec again. The response is fed back through the filters, last
// filter first, into the client's stream. What happened is filled into one
// record by plain assignments, which becomes one log line (access) and a few
// counters (metrics) when the exchange is over.
package core
