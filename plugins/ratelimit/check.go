package main

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

// A checker decides about requests. It is used by one goroutine.
type checker struct {
	*config
	limiter *limiter
	seed    *seed
	scratch []byte
}

// check decides about a request on a route and takes its tokens.
func (c *checker) check(r request, route string) verdict {
	if c.exempt.match(r) {
		return verdict{outcome: exempted}
	}
	key, ok := appendKey(c.scratch[:0], !c.scopePlugin, route, c.parts, r)
	if !ok && c.missing != missingShare {
		return c.enforce(verdict{outcome: keyless, refuse: c.missing == missingDeny})
	}
	tag := c.seed.sum(key)
	if cap(key) <= maxScratch {
		c.scratch = key
	}
	v := verdict{outcome: allowed, decided: true, decision: c.limiter.take(tag)}
	if !v.admitted {
		v.refuse = true
		v.outcome = limited
		if v.contended {
			v.outcome = contended
		}
	}
	return c.enforce(v)
}

// enforce turns a refusal into a report in that mode.
func (c *checker) enforce(v verdict) verdict {
	if c.report && v.refuse {
		v.refuse = false
		v.outcome = reported
	}
	return v
}
