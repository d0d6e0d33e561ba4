package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A Budget bounds how many retries a cluster gets, whoever asks for them: each
// request pays in a share of a retry, each retry takes a whole one, and what was paid
// in and not taken fades with budgetWindow. So over any time retries are at most that share of
// the requests, however long a try takes, and what came in just before a server died
// is there when it is needed. Its methods are safe for concurrent use.
//
// The zero Budget is empty; [NewCluster] makes one that counts from then on.
type Budget struct {
	paid atomic.Uint64 // hundredths of a retry, ever

	mu sync.Mutex
	// Guarded by mu. What fades is as of at.
	at    time.Time
	seen  uint64  // of paid
	in    float64 // hundredths of a retry that were paid in, faded
	out   float64 // and taken
	floor time.Time
}

// Pay counts a request of which percent of a retry may be made. It is one atomic
// addition, since every request pays.
func (b *Budget) Pay(percent int) {
	if percent > 0 {
		b.paid.Add(uint64(percent))
	}
}

// Take takes a retry that begins now. least is how many retries a second are allowed
// however few requests there are; they keep for budgetWindow as well. 0: none. False: the
// budget is used up.
func (b *Budget) Take(now time.Time, least float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fade(now)
	if b.out+whole <= b.in {
		b.out += whole
		return true
	}
	if least <= 0 {
		return false
	}
	// A virtual clock that each retry moves on by its share of a second, and that may
	// be a window ahead: no counter to refill.
	next := b.floor
	if next.Before(now) {
		next = now
	}
	next = next.Add(time.Duration(float64(time.Second) / least))
	if next.Sub(now) > max(budgetWindow, time.Duration(float64(time.Second)/least)) {
		return false
	}
	b.floor = next
	return true
}

// whole is one retry.
const whole = 100

// fade brings in and out to now. What was paid in since the last look counts as if
// it had come in evenly.
func (b *Budget) fade(now time.Time) {
	paid := b.paid.Load()
	fresh := float64(paid - b.seen)
	b.seen = paid
	elapsed := now.Sub(b.at)
	if elapsed <= 0 {
		b.in += fresh
		return
	}
	b.at = now
	windows := float64(elapsed) / float64(budgetWindow)
	kept := math.Exp(-windows)
	b.in = b.in*kept + fresh*(1-kept)/windows
	b.out *= kept
}
