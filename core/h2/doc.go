// Package h2 is HTTP/2 (RFC 9113), both directions, on the frames of
// golang.org/x/net/http2 and the field compression of its hpack (RFC 7541): a
// [Server] turns a client's connection into exchanges, many at a time; a [ClientConn]
// is a connection to an upstream that carries as many.
//
// The rule of use: [Server.ServeConn] is a connection's goroutine; it calls the
// Handler of each exchange on one more. A ClientConn has one goroutine, which reads. Inside the Handler, streams are used as
// package exchange says. Everything else (frames, flow control, limits, abuse,
// shutdown) is this package's business and nobody else's.
//
// # Layers
//
// A conn is the part of a connection that does not know whether it is the
// client's or the server's end:
//
//   - input.go reads bytes and keeps time, output.go collects frames and writes them;
//   - read.go is the loop that takes frames apart, control.go handles those of the
//     connection, block.go assembles and decodes field blocks, field.go judges them;
//   - stream.go is one stream's state, recv.go its incoming body, send.go its
//     outgoing one; flow.go is the arithmetic of windows;
//   - encode.go writes field blocks; abuse.go counts what costs us more than it
//     costs the peer; close.go ends streams and connections.
//
// What differs between the ends is behind the side interface: who a field
// block belongs to, and who is to be told that a stream is over. server*.go and
// request.go implement it for clients' connections, client*.go and response.go for those to
// upstreams.
//
// # Goroutines and locks
//
// One goroutine reads a connection for as long as it is open. It never writes
// to the socket and never waits for a stream: what it has to send it appends to the
// output. A stream's calls come from the goroutines of its exchange, at most one
// in Feed and one in the Sink calls. Who appends frames and finds that nobody is
// writing writes them, and whatever others append in the meantime; so frames of
// many streams share a write, and no goroutine only writes.
//
// conn.mu guards the output, the windows and the state of the streams. Nothing is
// called under it that is not this package's, and no system call is made.
//
// # Backpressure
//
// A stream's window is opened again by what the sink has taken, and by nothing
// else, so that a stream holds at most one window of bytes. The connection's window
// is opened when bytes arrive: otherwise a few streams whose sinks are slow could
// use it up and stall the others. Memory is bounded by the streams' windows, see
// limits.go. A window grows for a stream whose sink keeps up.
//
// # Field compression
//
// Field blocks that we write use the static table of HPACK and no dynamic one, as
// nginx does: a dynamic table would hold on to strings that are cut from whole
// heads, and be memory that each idle connection has. Blocks that we read may use
// a table of 4 KiB, as the RFC's default has it.
//
// # Strictness
//
// As in package h1: what is ambiguous is refused with a named reason (the Reason
// constants), and nothing of it reaches an upstream. A bad request gets an answer
// where it can be told apart from the other streams, and a GOAWAY where not.
//
// h2 does not know routes, filters, pools or logs.
package h2
