// Package tcp joins TCP connections of clients with upstreams, byte for byte, without
// knowing what is said on them.
//
// The nouns: a [Proxy] is the engine; a [Snapshot] is everything that a reload can change; a
// [Route] says which connections it is for, by listener and by the name in a TLS ClientHello
// (SNI), and where they go. A connection has two directions, each with a goroutine that
// copies: in the kernel (splice) where both ends are plain sockets and no filter is on the
// route, through the route's filters where there are some.
//
// The one rule of use: Serve owns the connection that it is given and returns when it is over.
//
// tcp does not know where connections come from, nor what a plugin is made of. proxy.go swaps
// snapshots, conn.go walks one connection through, hello.go and peek.go find the name that it
// asks for, connect.go is the way to an upstream, pump.go and splice_linux.go copy, filtered.go
// is the way through filters, idle.go keeps time, record.go accounts. The limits are in limits.go.
package tcp
