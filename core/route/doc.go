// Package route finds the route of a request.
//
// The nouns: a [Spec] says which requests a route is for; a [Table] holds all
// routes of one configuration, each with a value that the caller attached, and
// never changes; a [Request] is the little a match looks at.
//
// The one rule of use: the most specific route wins, whatever the order of the
// specs. Host: exact, then the longest wildcard, then any. Then path: exact,
// then the longest prefix, then a regular expression, then any ("/*" and no
// path at all are the same). Then the number of further conditions (methods,
// listener, each header, each query parameter). What is still equal is
// decided by priority; if that is equal too and one request could meet both,
// [New] refuses the table.
//
// [Table.Match] costs a hash of the host and one of each path segment that
// some route has, and allocates nothing. [Table.Explain] walks with the same
// cursor and asks the same conditions, so it cannot disagree.
//
// Paths are matched in the canonical form that exchange.Request holds; New
// refuses patterns in any other form, because they could never match.
//
// rewrite.go changes the path that the upstream sees and composes the target
// of redirects.
package route
