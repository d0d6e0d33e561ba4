// Package discover finds the servers of an upstream while wproxy runs: by DNS, or in a
// file that is watched.
//
// The nouns: a [Finder] looks once; a [Source] has one look again and again, in one
// goroutine, keeps what was found, and tells its subscribers when that changes; a
// [Server] is what is found. What to do with one is for others to know.
//
// memory.go is pure: answers in, servers out. It is where an answer that is empty, or
// none, does not take the servers away at once.
package discover
