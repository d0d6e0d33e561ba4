package discover

import (
	"errors"
	"sync"
	"time"
)

// A recall keeps the last addresses of names, by type. When a name server answers for one
// type and fails for the other, what is missing has not gone: half of the servers would
// get no requests, and the other half all of them. The zero value is empty.
type recall struct {
	mu sync.Mutex
	// Guarded by mu.
	known map[question]recalled
}

// A question is a name and the type of its records.
type question struct {
	name string
	kind uint16
}

type recalled struct {
	ips []string
	at  time.Time // when they came
}

// take takes in the answer to q, or err, and returns what to go by: what was known before
// if q could not be answered, and that is not older than keep.
func (r *recall) take(q question, ips []string, err error, keep time.Duration, now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && len(ips) > 0:
		if r.known == nil {
			r.known = map[question]recalled{}
		}
		r.known[q] = recalled{ips, now}
		return ips
	case err == nil || errors.Is(err, errNone): // there are none
		delete(r.known, q)
		return nil
	}
	if k, ok := r.known[q]; ok && now.Sub(k.at) < keep {
		return k.ips
	}
	return nil
}

// retain forgets all names but those in names.
func (r *recall) retain(names map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.known {
		if !names[q.name] {
			delete(r.known, q)
		}
	}
}
