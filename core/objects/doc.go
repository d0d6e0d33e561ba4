// Package objects holds bytes that plugins store, in memory, within a bound: complete
// messages, and such that are still being filled while many read them.
//
// A Store is the process's and has the bound; a Space of it is the keys of one owner; an
// Object is a head, bytes, and what its owner has noted about it. What is all at
// hand is stored in one go ([Space.PutWhole]). A [Fill] writes an object at the speed of its
// source; each [Reader] reads it at its own, on a goroutine of its own, so that a slow one neither
// slows nor fails the others. An object that becomes larger than it may be, or for which there is
// no memory, turns into a window: whoever reads it already goes on and the fill slows down to them,
// but nobody finds it any more.
//
// Memory is counted where it is held, not where it is found: an object that was
// evicted while somebody reads it counts until that reader has ended.
//
// Eviction is S3-FIFO (Yang et al., SOSP 2023). A disk tier would stand behind Space.Get and take
// what evict gives up: everything that an object needs there is in Record and its chunks.
//
// The package knows neither HTTP nor plugins, and imports nothing of wproxy.
package objects
