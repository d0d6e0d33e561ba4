package main

import "encoding/binary"

// The table of buckets is cut into pages, each one entry of shared data, so that it
// cannot grow past pageCount * pageBuckets buckets whatever keys come. A bucket
// is where its key's hash says: on one page, found by its tag.
const (
	// pageCount is the number of pages of a limit's table. With pageBuckets it makes
	// room for 65,536 keys that are short of tokens at the same time (keys whose
	// bucket is full need no room), in at most 2 MiB with the host's overhead;
	// and two VMs meet on a page by chance about never.
	pageCount = 4096
	// pageBuckets is the number of buckets on a page. Each decision copies and
	// scans a page: 16 are 256 bytes.
	pageBuckets = 16
	// bucketSize is the size of a bucket in bytes: tag and time, as u64.
	bucketSize = 16
)

// A page is a list of buckets, each a tag and the theoretical arrival time (TAT) of
// GCRA: the wall clock, in nanoseconds, at which the bucket will be full. A bucket
// that is not there is full.
type page []byte

func (p page) tag(i int) uint64 { return binary.LittleEndian.Uint64(p[i*bucketSize:]) }
func (p page) tat(i int) int64  { return int64(binary.LittleEndian.Uint64(p[i*bucketSize+8:])) }

func (p page) set(i int, tag uint64, tat int64) {
	binary.LittleEndian.PutUint64(p[i*bucketSize:], tag)
	binary.LittleEndian.PutUint64(p[i*bucketSize+8:], uint64(tat))
}

// valid reports whether the bytes can be a page; other bytes under its key are not
// ours, and are treated as none.
func (p page) valid() bool {
	return len(p)%bucketSize == 0 && len(p) <= pageBuckets*bucketSize
}

// clamp sets times later than latest to it. Nobody owes more than an empty bucket: such
// times come from a wall clock that has been set back.
func (p page) clamp(latest int64) {
	for i := range len(p) / bucketSize {
		if p.tat(i) > latest {
			p.set(i, p.tag(i), latest)
		}
	}
}

// A place is where a key's bucket is, or goes.
type place struct {
	index int   // len(buckets) means append
	tat   int64 // of the key, at least now
	// crowded: the page is full of keys short of tokens, and the place is that of
	// another key, which would be lost.
	crowded bool
}

// find returns the place of a key's bucket at time now. A new key takes, in this
// order, a bucket that has become full again (nothing is lost with it), a new one, or
// the one nearest to full.
//
// In the last case the key inherits the time of the one it displaces, and that is what
// keeps eviction from being a bypass: the least time on a page never decreases,
// so a key that was displaced and comes back, displacing again, gets a time no
// earlier than the one it had when it left. No key can win tokens by having others push
// it out. What crowding costs is paid by new keys, which then start with fewer tokens.
// (It is the replacement rule of the space-saving algorithm of Metwally, Agrawal
// and El Abbadi, 2005.)
func (p page) find(tag uint64, now int64) place {
	n := len(p) / bucketSize
	least := 0
	for i := range n {
		if p.tag(i) == tag {
			return place{index: i, tat: max(p.tat(i), now)}
		}
		if p.tat(i) < p.tat(least) {
			least = i
		}
	}
	switch {
	case n > 0 && p.tat(least) <= now:
		return place{index: least, tat: now}
	case n < pageBuckets:
		return place{index: n, tat: now}
	}
	return place{index: least, tat: p.tat(least), crowded: true}
}
