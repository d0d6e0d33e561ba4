package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// latency is how fast a server answers: an exponentially weighted moving average,
// by time and not by number of answers, of the times to the first byte. An
// answer that is slower than the average counts at once (cf. Finagle's peak
// EWMA): that a server has become slow must be believed sooner than that it is
// fast again.
//
// It is two words that are written one after the other. A reader between the two
// sees a value with the time of the one before, which is as good.
type latency struct {
	nanos atomic.Uint64 // the average, as bits of a float64, in ns; 0: nothing is known
	at    atomic.Int64  // when it was last written, in ns since 1970
}

// ObserveLatency takes the time to the first byte of an answer that has come at now.
func (e *Endpoint) ObserveLatency(took time.Duration, now time.Time) { e.latency.observe(took, now) }

// Latency returns the average time to the first byte as of now; it fades while
// there are no answers, so that a server that was slow is asked again. 0: nothing
// is known.
func (e *Endpoint) Latency(now time.Time) time.Duration {
	return time.Duration(e.latency.value(now.UnixNano()))
}

// LatencyAt is Latency in ns, for a time in ns since 1970; 0: as it was last written.
func (e *Endpoint) LatencyAt(now int64) float64 { return e.latency.value(now) }

func (l *latency) observe(took time.Duration, now time.Time) {
	t, v := now.UnixNano(), max(1, float64(took))
	for {
		bits := l.nanos.Load()
		old, next := math.Float64frombits(bits), v
		if old > v {
			w := math.Exp(-float64(max(0, t-l.at.Load())) / float64(latencyWindow))
			next = old*w + v*(1-w)
		}
		if l.nanos.CompareAndSwap(bits, math.Float64bits(next)) {
			l.at.Store(t)
			return
		}
	}
}

// value halves the average for each half-life without an answer; between two
// of them the line is straight, which costs no call of Exp. An answer of the future has
// come before the clock was set back: it is taken for as old, since a server that was
// slow must not wait for that time. With 0 for now nothing fades.
func (l *latency) value(now int64) float64 {
	v := math.Float64frombits(l.nanos.Load())
	if v == 0 || now == 0 {
		return v
	}
	idle := now - l.at.Load()
	if idle < 0 {
		idle = -idle
	}
	halves := float64(idle) * (1 / float64(latencyHalfLife))
	whole := uint64(min(halves, 60))
	const bias = 1023                                   // of the exponent of a float64
	power := math.Float64frombits((bias - whole) << 52) // 2^-whole
	return v * power * (1 - (halves-float64(whole))/2)
}
