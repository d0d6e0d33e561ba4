package main

import (
	"encoding/binary"

	"wproxy/abi"
)

// An outcome is what becomes of a request.
type outcome uint8

const (
	allowed   outcome = iota
	limited           // refused: the bucket is empty
	contended         // refused: the bucket could not be changed
	keyless           // refused or let through without a bucket: the key is missing
	reported          // let through, but mode "enforce" would have refused it
	exempted          // let through without a bucket
	delayed           // let through, later
	crowded           // refused: as many are in flight as may be

	outcomes // how many there are
)

// String returns the outcome as the label `decision` of the metric wproxy_limit_total.
func (o outcome) String() string {
	return [outcomes]string{"allowed", "limited", "contended", "keyless", "reported", "exempt", "delayed", "concurrent"}[o]
}

// What the access log has for the plugin.
const (
	refusedVerdict  = "limited"
	reportedVerdict = "would-limit"
)

// detailsOf returns the reason in the access log of requests that are refused.
func detailsOf(o outcome) string {
	switch o { //nolint:exhaustive // the others are about tokens
	case keyless:
		return "rate_limit_key_missing"
	case crowded:
		return "concurrency_limited"
	}
	return "rate_limited"
}

// A verdict is the outcome of a request and what led to it.
type verdict struct {
	outcome outcome
	refuse  bool
	decided bool // decision is set: the request has a bucket
	decision
}

// reset makes v that of a request that is let through. It clears each part by itself: in a guest, to
// clear a few words in one go is a call.
func (v *verdict) reset() {
	v.outcome, v.refuse, v.decided = allowed, false, false
	v.admitted, v.contended, v.displaced = false, false, false
	v.remaining, v.full, v.retry, v.delay = 0, 0, 0, 0
}

// maxScratch is how large the scratch buffer for keys may stay, in bytes; a client can
// make a key as large as its header.
const maxScratch = 4 << 10

// counters are the host's. Each fills in the outcome of a record, which a key follows;
// false if the host cannot.
type counters interface {
	take(record []byte) bool    // an abi.TakeRecord
	charge(record []byte) bool  // an abi.TakeRecord
	add(record []byte) bool     // an abi.AddRecord
	acquire(record []byte) bool // an abi.AcquireRecord
}

const (
	// windowSlots is how many slots the unit of a rate is cut into with sliding-window: a
	// request counts for up to a slot longer than the unit.
	windowSlots = 16

	// hostFailed and inFlight are how long to wait, in nanoseconds, when the host fails, and
	// when nobody knows when a request in flight will end.
	hostFailed = 1e9
	inFlight   = 1e9
)

// A checker decides about requests. It is used by one goroutine.
type checker struct {
	*config
	counters counters // nil: the host has none, and limiter is used
	limiter  *limiter
	seed     *seed
	head     int    // size of the record of the algorithm
	record   []byte // it, and room for a key; what is written to it
	last     []byte // record and key of the last request that had one
	fixed    int    // of record: up to the value of the key's first part, for the route that is in it; 0: nothing
	scopeEnd int    // up to behind the route
	verdict  verdict
	places   []byte // an abi.AcquireRecord and room for a key
}

// newChecker returns a checker without counters.
func newChecker(c *config, l *limiter, s *seed) checker {
	k := checker{config: c, limiter: l, seed: s, places: abi.NewAcquireRecord(c.concurrency)}
	switch {
	case c.unrated:
	case c.algorithm == slidingWindow:
		a := abi.NewAddRecord(windowSlots+1, c.slotWidth())
		a.SetLimit(c.quota)
		a.SetCount(0, uint32(c.cost))
		k.record = a
		k.head = len(k.record)
	default:
		cost := c.cost
		if c.costField != "" {
			cost = 0 // it is charged afterwards
		}
		k.record = abi.NewTakeRecord(c.interval, c.burst, cost)
		k.head = len(k.record)
	}
	return k
}

// check decides about a request on a route and takes its tokens. The verdict is good until the next.
// (Guests pay for each time that it is copied.)
func (c *checker) check(r request, route string) *verdict {
	v := &c.verdict
	v.reset()
	if c.exempt.any() && c.exempt.match(r) {
		v.outcome = exempted
		return v
	}
	record, keyAt, ok := c.key(r, route)
	if !ok && c.missing != missingShare {
		v.outcome, v.refuse = keyless, c.missing == missingDeny
		return c.enforce()
	}
	if c.last = record; cap(record) <= maxScratch {
		c.record = record
	}
	if c.concurrency > 0 {
		if full := c.checkPlaces(record[keyAt:]); full || c.unrated {
			return c.enforce()
		}
	}
	v.decided = true
	c.take(record)
	switch {
	case !v.admitted:
		v.refuse = true
		v.outcome = limited
		if v.contended {
			v.outcome = contended
		}
	case v.delay > 0 && c.report:
		v.delay, v.outcome = 0, reported
	case v.delay > 0:
		v.outcome = delayed
	}
	return c.enforce()
}

// key returns the record with the key of a request, which begins at keyAt; see appendKey. What goes
// before the first value of the key is that of the request before, as a rule.
func (c *checker) key(r request, route string) (record []byte, keyAt int, ok bool) {
	keyAt = c.head
	if c.algorithm == slidingWindow {
		keyAt += 8
	}
	if c.fixed == 0 || !c.scopePlugin && string(c.record[keyAt+5:c.scopeEnd]) != route {
		c.begin(route)
	}
	if first := &c.parts[0]; first.kind == byHeader { // as appendSized does, in fewer calls
		value, _ := r.Header(first.name)
		binary.LittleEndian.PutUint32(c.record[c.fixed-4:], uint32(len(value)))
		record, ok = append(c.record[:c.fixed], value...), value != ""
	} else {
		record, ok = first.appendSized(c.record[:c.fixed], r)
	}
	if ok && len(c.parts) > 1 {
		record, ok = appendParts(record, c.parts[1:], r)
	}
	if !ok {
		record, c.fixed = append(record[:c.scopeEnd], 0xff), 0
	}
	return record, keyAt, ok
}

// slotWidth returns the width of a window's slot, in nanoseconds.
func (c *config) slotWidth() int64 { return (c.window*1e9 + windowSlots - 1) / windowSlots }

// appendShape appends what the keys of windows begin with: those of all rates are of one kind.
func (c *config) appendShape(dst []byte) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(c.quota))
}

// begin writes the beginning of the keys of a route.
func (c *checker) begin(route string) {
	record := c.record[:c.head]
	if c.algorithm == slidingWindow {
		record = c.appendShape(record)
	}
	record = appendScope(record, !c.scopePlugin, route)
	c.scopeEnd = len(record)
	c.record = c.parts[0].appendHead(record)
	c.fixed = len(c.record)
}

// placesKey begins the keys of places.
const placesKey = "c"

// checkPlaces takes a place among the requests in flight, which the host takes back when the
// stream ends.
func (c *checker) checkPlaces(key []byte) (full bool) {
	p := append(append(c.places[:abi.AcquireRecordSize], placesKey...), key...)
	if cap(p) <= maxScratch {
		c.places = p
	}
	v := &c.verdict
	if !c.counters.acquire(p) {
		v.outcome, v.refuse, v.retry = contended, true, hostFailed
		return true
	}
	if got, _ := abi.AcquireRecord(p).Result(); !got {
		v.outcome, v.refuse, v.retry = crowded, true, inFlight
		return true
	}
	return false
}

// take takes a request's tokens, and leaves the decision in the verdict.
func (c *checker) take(record []byte) {
	d := &c.verdict.decision
	if c.counters == nil {
		*d = c.limiter.take(c.seed.sum(record[abi.TakeRecordSize:]))
		return
	}
	if c.algorithm == slidingWindow {
		*d = c.addToWindow(record)
		return
	}
	if !c.counters.take(record) {
		// Not the limiter: whoever can make counters fail would have two buckets.
		d.contended, d.retry = true, hostFailed
		return
	}
	r := abi.TakeRecord(record)
	d.admitted, d.displaced, d.remaining, d.full, d.retry = r.Admitted(), r.Crowded(), r.Remaining(), r.Full(), r.Retry()
	switch {
	case c.costField != "": // one token has to be there, and none was taken
		if d.admitted = d.remaining > 0; !d.admitted {
			d.retry = d.full - (c.burst-1)*c.interval
		}
	case c.algorithm == leakyBucket:
		if d.admitted {
			d.delay = max(0, d.full-c.undelayed*c.interval)
		}
		d.remaining = max(0, d.remaining-(c.burst-c.undelayed))
	}
}

// addToWindow takes a request's tokens from a window.
func (c *checker) addToWindow(record []byte) decision {
	if !c.counters.add(record) {
		return decision{contended: true, retry: hostFailed}
	}
	r := abi.AddRecord(record).Result()
	d := decision{
		admitted: r.Added, displaced: r.Crowded, remaining: max(0, c.quota-r.Sums[0]), retry: r.Retry,
	}
	if r.Sums[0] > 0 {
		d.full = c.window * 1e9
	}
	return d
}

// charge takes what a request has cost, which its response has told. record is what was
// last after its check.
func (c *checker) charge(record []byte, cost int64) decision {
	charged := abi.TakeRecord(record[:abi.TakeRecordSize])
	charged.SetCost(cost)
	ok := c.counters.charge(record)
	charged.SetCost(0)
	if !ok {
		return decision{contended: true}
	}
	r := charged.Result()
	return decision{admitted: true, displaced: r.Crowded, remaining: r.Remaining, full: r.Full}
}

// parseCost reads the cost that a response names; what is no number costs 1, and more than maxBurst is that.
func parseCost(text []byte) int64 {
	if len(text) == 0 {
		return 1
	}
	var n int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 1
		}
		if n = 10*n + int64(c-'0'); n > maxBurst {
			return maxBurst
		}
	}
	return n
}

// enforce turns a refusal into a report in that mode.
func (c *checker) enforce() *verdict {
	v := &c.verdict
	if c.report && v.refuse {
		v.refuse = false
		v.outcome = reported
	}
	return v
}
