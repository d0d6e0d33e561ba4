package metrics

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// An Outcome is how an exchange ended, and whose doing it was if it did not end well.
type Outcome uint8

// The outcomes.
const (
	Fine          Outcome = iota
	ClientError           // the client's: 4xx, or it went away
	UpstreamError         // an upstream's: its 5xx, or none of its servers gave an answer
	ProxyError            // ours: a plugin that failed, overload, a limit of wproxy's own
	outcomes              // how many there are
)

const (
	slots          = 8  // of a Traffic, by which processors keep out of each other's way
	subBuckets     = 8  // per power of two: a quantile is off by 6% at most
	unit           = 16 // microseconds: shorter exchanges are one bucket
	latencyBuckets = subBuckets * 22
)

// A Traffic counts all exchanges of the process, for the time line. It costs two
// additions an exchange, and does not allocate.
type Traffic struct {
	slots [slots]trafficSlot
}

type trafficSlot struct {
	outcomes [outcomes]atomic.Uint64
	latency  [latencyBuckets]atomic.Uint32
	_        [64]byte // the next slot is another processor's
}

// Done counts an exchange.
func (t *Traffic) Done(o Outcome, took time.Duration) {
	s := &t.slots[rand.Uint32()%slots]
	s.outcomes[min(o, outcomes-1)].Add(1)
	s.latency[latencyBucket(took)].Add(1)
}

// latencyBucket returns the bucket of a time: linear up to 8 units, then 8 for each
// power of two, and the last one for a minute and more.
func latencyBucket(took time.Duration) int {
	v := uint64(max(took.Microseconds(), 0)) / unit //nolint:gosec // not negative
	if v < subBuckets {
		return int(v)
	}
	e := bits.Len64(v) - 4 // v>>e is 8 to 15
	return min(subBuckets*(e+1)+int(v>>e)-subBuckets, latencyBuckets-1)
}

// latencyOf returns the middle of a bucket.
func latencyOf(bucket int) time.Duration {
	lower, width := uint64(bucket), uint64(1) //nolint:gosec // an index
	if bucket >= subBuckets {
		e := bucket/subBuckets - 1
		lower, width = uint64(bucket%subBuckets+subBuckets)<<e, 1<<e //nolint:gosec // an index
	}
	return time.Duration(lower*unit+width*unit/2) * time.Microsecond //nolint:gosec // some minutes at most
}

// A tally is what a Traffic has counted in some time.
type tally struct {
	outcomes [outcomes]uint64
	latency  [latencyBuckets]uint64
}

// drain moves what has been counted to ta.
func (t *Traffic) drain(ta *tally) {
	for i := range t.slots {
		s := &t.slots[i]
		for j := range s.outcomes {
			ta.outcomes[j] += s.outcomes[j].Swap(0)
		}
		for j := range s.latency {
			if s.latency[j].Load() != 0 {
				ta.latency[j] += uint64(s.latency[j].Swap(0))
			}
		}
	}
}

func (ta *tally) total() (n uint64) {
	for _, c := range ta.outcomes {
		n += c
	}
	return n
}

// quantile returns the time below which the share q of exchanges stayed; 0: there were none.
func (ta *tally) quantile(q float64) time.Duration {
	var n uint64
	for _, c := range ta.latency {
		n += c
	}
	if n == 0 {
		return 0
	}
	rank := min(uint64(q*float64(n)), n-1)
	for i, c := range ta.latency {
		if rank < c {
			return latencyOf(i)
		}
		rank -= c
	}
	return latencyOf(latencyBuckets - 1)
}
