// Package grpc tests wproxy with the client, the server and the library of gRPC for Go:
// the interoperability cases through the whole proxy, and what only a program on a
// gRPC library can say of it. It is a module of its own, because these need some twenty
// modules that neither wproxy nor its other tests have any use for (RATIONALE.md).
package grpc
