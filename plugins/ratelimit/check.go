package main

import "wproxy/abi"

// An outcome is what becomes of a request.
type outcome uint8

const (
	allowed   outcome = iota
	limited           // refused: the bucket is empty
	contended         // refused: the bucket could not be changed
	keyless           // refused or let through without a bucket: the key is missing
	reported          // let through, but mode "enforce" would have refused it
	exempted          // let through without a bucket

	outcomes // how many there are
)

// String returns the outcome as the label `decision` of the metric wproxy_limit_total.
func (o outcome) String() string {
	return [outcomes]string{"allowed", "limited", "contended", "keyless", "reported", "exempt"}[o]
}

// A verdict is the outcome of a request and what led to it.
type verdict struct {
	outcome outcome
	refuse  bool
	decided bool // decision is set: the request has a bucket
	decision
}

// maxScratch is how large the scratch buffer for keys may stay, in bytes; a client can
// make a key as large as its header.
const maxScratch = 4 << 10

// counters are the buckets of a host that has them. take fills in the outcome of a
// record, which a key follows; false if the host cannot.
type counters interface{ take(record []byte) bool }

// A checker decides about requests. It is used by one goroutine.
type checker struct {
	*config
	counters counters // nil: the host has none, and limiter is used
	limiter  *limiter
	seed     *seed
	record   []byte // an abi.TakeRecord and room for a key; what is written to it
}

// newChecker returns a checker without counters.
func newChecker(c *config, l *limiter, s *seed) checker {
	return checker{config: c, limiter: l, seed: s, record: abi.NewTakeRecord(l.interval, l.burst, l.cost)}
}

// check decides about a request on a route and takes its tokens.
func (c *checker) check(r request, route string) verdict {
	if c.exempt.match(r) {
		return verdict{outcome: exempted}
	}
	record, ok := appendKey(c.record[:abi.TakeRecordSize], !c.scopePlugin, route, c.parts, r)
	if !ok && c.missing != missingShare {
		return c.enforce(verdict{outcome: keyless, refuse: c.missing == missingDeny})
	}
	v := verdict{outcome: allowed, decided: true, decision: c.take(record)}
	if cap(record) <= maxScratch {
		c.record = record
	}
	if !v.admitted {
		v.refuse = true
		v.outcome = limited
		if v.contended {
			v.outcome = contended
		}
	}
	return c.enforce(v)
}

// take takes a request's tokens.
func (c *checker) take(record []byte) decision {
	if c.counters == nil {
		return c.limiter.take(c.seed.sum(record[abi.TakeRecordSize:]))
	}
	if !c.counters.take(record) {
		// Not the limiter: whoever can make counters fail would have two buckets.
		return decision{contended: true, retry: 1e9}
	}
	r := abi.TakeRecord(record).Result()
	return decision{admitted: r.Admitted, displaced: r.Crowded, remaining: r.Remaining, full: r.Full, retry: r.Retry}
}

// enforce turns a refusal into a report in that mode.
func (c *checker) enforce(v verdict) verdict {
	if c.report && v.refuse {
		v.refuse = false
		v.outcome = reported
	}
	return v
}
