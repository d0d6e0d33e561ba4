// Package h1 is HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), both directions: a
// [Server] turns a client's connection into exchanges, a [ClientConn] is a
// connection to an upstream that carries one exchange at a time.
//
// The rule of use: one goroutine per client connection, [Server.ServeConn], which
// calls the Handler itself, or [Server.Serve], which gives it back while the connection
// rests; inside it, [exchange.Client] and [exchange.Upstream]
// streams are used as package exchange says. Everything else (parsing, framing,
// limits, keep-alive, lingering close, clients that go away) is this package's
// business and nobody else's.
//
// # Layers
//
// parse_*.go, chunked.go and append.go are pure: bytes in, values out, and the
// other way; they know neither sockets nor locks. conn_*.go moves bytes and keeps
// time. server*.go and client*.go are the two state machines.
//
// # Strictness
//
// What is ambiguous is refused, with a named reason (the Reason constants), a
// short answer and a closed connection; nothing of it reaches an upstream. The
// same parser judges upstreams, whose bad answers become 502. RFC 9112 allows
// leniency in several places (bare LF, obs-fold, repeated equal Content-Length,
// Content-Length beside Transfer-Encoding); none of it is taken, because two
// parsers that are lenient in different ways are what request smuggling is made of.
//
// # Framing
//
// Length frames a message that is written; content-length, transfer-encoding and
// connection in Fields are ignored by the writer. content-length stays in Fields
// as the view that plugins have. Whoever lets a plugin remove it sets Length to
// [exchange.LengthUnknown] and gets chunked (or, to an HTTP/1.0 client, an answer
// that ends with the connection).
//
// # What it costs
//
// A head is one string, which names, values and target are cut from. Read buffers,
// parsed heads and write buffers are pooled and belong to an exchange, not to a
// connection: an idle connection holds a socket and a few hundred bytes, and a goroutine
// for its first quarter of a second (rest.go). No timer is touched while bytes flow (see conn_time.go).
//
// h1 does not know routes, filters, pools or logs.
package h1
