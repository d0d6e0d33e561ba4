// Package exchange describes one request and its response, whatever protocol
// carried them. It is the only thing a codec has to know about the rest of
// wproxy, and the only thing the engine has to know about a codec.
//
// The nouns: an exchange is one request and its response. A message is a head,
// data and at most one trailer. A [Stream] is one side of an exchange as a
// codec presents it; a [Sink] consumes one message. A client is who sent the
// request, an upstream is who answers it.
//
// The one rule of use: a byte travels by calling the next Sink, and in no other
// way. Backpressure is that Data blocks. Nothing is buffered unless somebody
// says so, with a limit.
//
// exchange is a leaf: it knows no socket, no route, no plugin.
package exchange
