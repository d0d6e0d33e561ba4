// Ratelimit is a Proxy-Wasm plugin that limits how many requests a client, a key or a
// route may make. README.md has the settings.
//
// main.go is what speaks to the SDK and exists in the guest only; everything else is
// plain Go, tested on any platform.
package main

import "encoding/binary"

// A store is shared data: all VMs of the plugin see one and the same. Values are copies
// that the caller may change; the next Get may overwrite them.
type store interface {
	// Get returns the value of key and its compare-and-swap number.
	Get(key []byte) (value []byte, cas uint32, ok bool)
	// Set stores a value if the number is still cas or there is no value, and
	// reports whether it did.
	Set(key, value []byte, cas uint32) bool
}

const (
	// createOnly is the number to store a value with that must not be there yet: a
	// missing key takes any number, and no value gets this one in four billion
	// writes. (0 would overwrite what another VM has stored meanwhile.)
	createOnly = 1<<32 - 1

	// maxAttempts is how often a decision is tried when another VM has changed the
	// page meanwhile. Every failure means that another request was admitted; with
	// as many VMs as processors, 32 in a row do not happen by chance.
	maxAttempts = 32
)

// keyPrefix begins the keys of shared data. The number is the version of the layout.
const keyPrefix = "ratelimit1:"

// A limit is how much is allowed: tokens come one every interval, a bucket holds burst.
// It is the generic cell rate algorithm (ITU-T I.371, annex A), which is a token bucket
// kept as one point in time.
type limit struct {
	interval int64 // nanoseconds for a token, rounded up
	burst    int64 // tokens
	cost     int64 // tokens a request takes, at most burst
}

// capacity is the time an empty bucket needs to become full, in nanoseconds.
func (l *limit) capacity() int64 { return l.burst * l.interval }

// A decision is what a limit says of a request. Times are in nanoseconds from now.
type decision struct {
	admitted  bool
	contended bool  // refused because the bucket could not be changed; retry is a guess
	displaced bool  // another key's bucket, not yet full, was given up
	remaining int64 // tokens left
	full      int64 // until the bucket is full
	retry     int64 // until the request would be admitted, if it was not
	delay     int64 // until it may go on, if it was
}

// decide takes the cost from the bucket of a key on a page, if it has enough. It
// returns the page to store, nil if nothing changes. The page may be the one given,
// changed in place.
func (l *limit) decide(p page, tag uint64, now int64) (page, decision) {
	if !p.valid() {
		p = nil
	}
	at := p.find(tag, now)
	latest := now + l.capacity() // the TAT of an empty bucket
	repaired := at.tat > latest
	if repaired {
		p.clamp(latest)
		at.tat = latest
	}
	after := at.tat + l.cost*l.interval
	if after > latest {
		d := decision{remaining: (latest - at.tat) / l.interval, full: at.tat - now, retry: after - latest}
		if repaired {
			return p, d
		}
		return nil, d
	}
	if at.index*bucketSize == len(p) {
		p = append(p, make([]byte, bucketSize)...)
	}
	p.set(at.index, tag, after)
	return p, decision{
		admitted: true, displaced: at.crowded,
		remaining: (latest - after) / l.interval, full: after - now,
	}
}

// A limiter applies a limit to keys, with the buckets in shared data.
type limiter struct {
	limit
	store store
	now   func() int64 // the wall clock, in nanoseconds
	key   []byte       // of the current page; the last two bytes are its number
}

// newLimiter returns a limiter. Limits of the same interval and burst share a table; a
// limit with other numbers has its own, since a time means something else there.
func newLimiter(l limit, s store, now func() int64) *limiter {
	key := append([]byte(nil), keyPrefix...)
	key = binary.LittleEndian.AppendUint64(key, uint64(l.interval))
	key = binary.LittleEndian.AppendUint64(key, uint64(l.burst))
	key = append(key, 0, 0)
	return &limiter{limit: l, store: s, now: now, key: key}
}

// take decides about a request whose key hashes to tag.
//
// However many VMs decide at the same time, a key is admitted at most
// rate * time + burst: a decision counts only if the page is stored, and it is stored only if
// it is the one the decision was made from. When that fails maxAttempts times the
// request is refused: admitting it would break the limit exactly when it is under the
// most pressure, and a client that waits a second finds the pressure gone.
//
// The clock is read after the page, so it is never behind the time at which the page
// was written; a TAT further ahead than an empty bucket's then means that the clock was
// set back, and is cut to that.
func (l *limiter) take(tag uint64) decision {
	binary.LittleEndian.PutUint16(l.key[len(l.key)-2:], uint16(tag%pageCount))
	for range maxAttempts {
		value, cas, ok := l.store.Get(l.key)
		if !ok {
			value, cas = nil, createOnly
		}
		p, d := l.decide(value, tag, l.now())
		if p == nil || l.store.Set(l.key, p, cas) {
			return d
		}
	}
	return decision{contended: true, retry: 1e9}
}

// loadSeed returns the seed that all VMs share, made from fresh if there is none yet. It is
// false if the store loses what it is given.
func loadSeed(s store, fresh func() seed) (seed, bool) {
	key := []byte(keyPrefix + "seed")
	for range maxAttempts {
		if v, _, ok := s.Get(key); ok && len(v) == 16 {
			return seed{binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:])}, true
		}
		made := fresh()
		v := binary.LittleEndian.AppendUint64(nil, made[0])
		// Whoever is first wins; the next round reads the winner's.
		s.Set(key, binary.LittleEndian.AppendUint64(v, made[1]), createOnly)
	}
	return seed{}, false
}
