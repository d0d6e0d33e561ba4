package proxy

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"wproxy/core/exchange"
)

// attempts is Attempts with its default.
func (r *Retry) attempts() int {
	if r.Attempts == 0 {
		return DefaultRetries
	}
	return max(r.Attempts, 0)
}

// share is Budget with its default, in percent.
func (r *Retry) share() int {
	if r.Budget == 0 {
		return DefaultBudget
	}
	return max(r.Budget, 0)
}

// least is BudgetMin with its default. A budget of nothing has no floor either.
func (r *Retry) least() float64 {
	switch {
	case r.Budget < 0:
		return 0
	case r.BudgetMin == 0:
		return DefaultBudgetMin
	default:
		return max(r.BudgetMin, 0)
	}
}

// bodyBuffer is BodyBuffer with its default.
func (r *Retry) bodyBuffer() int {
	if r.BodyBuffer == 0 {
		return DefaultBodyBuffer
	}
	return max(r.BodyBuffer, 0)
}

// backoff is how long to wait after so many tries: anything up to a bound that
// doubles. Full jitter, since requests that have failed together must not come back
// together.
func (r *Retry) backoff(tries int) time.Duration {
	first, longest := r.Backoff, r.MaxBackoff
	if first <= 0 {
		first, longest = DefaultBackoff, DefaultMaxBackoff
	}
	bound := first
	for i := 1; i < tries && bound < longest; i++ {
		bound *= 2
	}
	return rand.N(min(bound, max(first, longest)) + 1)
}

// retryAfter is how long the answer h asks to wait (RFC 9110 10.2.3); false: for
// longer than the route allows, or in a way that is not understood.
func (r *Retry) retryAfter(h *exchange.Response, now time.Time) (wait time.Duration, ok bool) {
	text, there := h.Fields.Get("retry-after")
	if !there {
		return 0, true
	}
	longest := r.RetryAfter
	if longest == 0 {
		longest = DefaultRetryAfter
	}
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = max(at.Sub(now), 0)
	} else {
		return 0, false
	}
	return wait, wait <= max(longest, 0)
}

// pause waits for d; false: there is no more use in another try, because the client
// has gone, somebody has answered, or a plugin has failed.
func (x *state) pause(d time.Duration) bool {
	over := d <= 0
	if !over {
		timer := time.AfterFunc(d, func() {
			x.mu.Lock()
			over = true
			x.cond.Broadcast()
			x.mu.Unlock()
		})
		defer timer.Stop() // one that fires late only wakes somebody
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for !over && !x.gone && !x.answered && x.failure == nil {
		x.cond.Wait()
	}
	return !x.gone && !x.answered && x.failure == nil
}
