package health

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// An Outlier says when a server is taken out for failing the requests of clients.
// The zero value takes out nobody.
type Outlier struct {
	Errors  int           // failures in a row; 0: not by these
	Ratio   float64       // share of failures; 0: not by it
	Min     int           // tries within Window before Ratio counts
	Window  time.Duration // that Ratio looks back
	On      []string      // what is a failure: kinds as the engine names them, "5xx" and statuses
	Base    time.Duration // of the first ejection; the n-th takes n times as long
	Longest time.Duration // ejection
	Share   float64       // of the servers that may be out at a time
}

// off reports whether o takes out nobody.
func (o *Outlier) off() bool { return o == nil || o.Errors <= 0 && o.Ratio <= 0 }

// A judge is an Outlier made ready for the data path. It is immutable.
type judge struct {
	o        Outlier
	kinds    []string
	statuses []int // single ones
	all5xx   bool
}

func newJudge(o Outlier) *judge {
	j := &judge{o: o}
	for _, on := range o.On {
		if on == "5xx" {
			j.all5xx = true
		} else if status, err := strconv.Atoi(on); err == nil {
			j.statuses = append(j.statuses, status)
		} else {
			j.kinds = append(j.kinds, on)
		}
	}
	return j
}

// failure reports whether an answer with status is one.
func (j *judge) failure(status int) bool {
	return status >= 500 && (j.all5xx && status < 600 || slices.Contains(j.statuses, status))
}

// A tally counts the tries at one server. Its methods take no lock: they are
// called from every exchange.
//
// The window of the ratio is two halves. Only a failure looks at the clock and
// moves on to the next half, so a success costs one atomic add. The first failure
// after a quiet time begins a window of its own.
type tally struct {
	row      atomic.Int32 // failures in a row
	began    atomic.Int64 // the current half: nanoseconds of the Unix time
	now, old half
}

type half struct{ tries, failures atomic.Int64 }

func (h *half) clear() {
	h.tries.Store(0)
	h.failures.Store(0)
}

// success counts a try that went well.
func (t *tally) success(o *Outlier) {
	if t.row.Load() != 0 { // a store would take the cache line from the others
		t.row.Store(0)
	}
	if o.Ratio > 0 {
		t.now.tries.Add(1)
	}
}

// failure counts a try that failed, and returns why that is reason to take the
// server out, or "".
func (t *tally) failure(o *Outlier, now time.Time) string {
	if n := t.row.Add(1); o.Errors > 0 && int(n) >= o.Errors {
		return strconv.Itoa(int(n)) + " failures in a row"
	}
	if o.Ratio <= 0 {
		return ""
	}
	t.turn(o.Window/2, now)
	t.now.tries.Add(1)
	t.now.failures.Add(1)
	tries := t.now.tries.Load() + t.old.tries.Load()
	failures := t.now.failures.Load() + t.old.failures.Load()
	if tries < int64(max(o.Min, 1)) || float64(failures) < float64(tries)*o.Ratio-shareSlack {
		return ""
	}
	return strconv.FormatInt(failures, 10) + " of " + strconv.FormatInt(tries, 10) + " tries failed"
}

// turn begins a new half if the current one is over. Counts that others add
// meanwhile may land in either.
func (t *tally) turn(length time.Duration, now time.Time) {
	began := t.began.Load()
	age := now.UnixNano() - began
	if age >= 0 && age < int64(length) || !t.began.CompareAndSwap(began, now.UnixNano()) {
		return
	}
	t.old.clear()
	if age >= 0 && age < 2*int64(length) { // below 0: the clock was set back
		t.old.tries.Store(t.now.tries.Load())
		t.old.failures.Store(t.now.failures.Load())
	}
	t.now.clear()
}

// reset forgets everything.
func (t *tally) reset() {
	t.row.Store(0)
	t.now.clear()
	t.old.clear()
}
