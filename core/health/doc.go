// Package health knows which servers of an upstream are well. It finds out by
// asking (active checks) and by watching what becomes of requests (passive: a
// server that fails too many is ejected for a time), and it keeps what an
// operator has said (drained). The data path sees one thing of it, the state of an
// [wproxy/core/upstream.Endpoint], which pickers read.
//
// The nouns: a [Monitor] looks after the servers of one upstream, for as long as
// there is an upstream of that name, over reloads and changes of its servers; a
// [Server] is one of them; a [State] is what checks have found, an [Ejection] what
// requests have; an [Event] is one change, for the log.
//
// state.go is pure: results in, states out. passive.go counts on the data path,
// without locks. monitor.go joins them; schedule.go is the one goroutine of a
// Monitor, which decides when to check; probe.go and its kin are the checks. They
// travel as requests do, through the upstream's own dialer and codec, so that
// protocol and TLS are the upstream's; but they are not counted as requests.
package health
