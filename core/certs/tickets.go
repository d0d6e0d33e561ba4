package certs

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// TicketKeys are the keys of one listener's session tickets. They outlive the
// stores that use them, so that a reload does not make clients start anew, and change
// every twelve hours; what was issued under the two keys before is accepted. Use
// [NewTicketKeys]. Its methods are safe for concurrent use.
type TicketKeys struct {
	mu sync.Mutex
	// Guarded by mu.
	keys    [][32]byte // the first encrypts
	next    time.Time  // of the next rotation
	version uint64     // counts rotations
}

// NewTicketKeys returns keys that nobody knows.
func NewTicketKeys() *TicketKeys { return &TicketKeys{} }

// at returns the keys of a moment, newest first, and a number that changes with them.
// The slice is never changed afterwards.
func (t *TicketKeys) at(now time.Time) ([][32]byte, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		return t.keys, t.version
	}
	fresh := make([][32]byte, 1, ticketKeys)
	_, _ = rand.Read(fresh[0][:]) // never fails: crypto/rand ends the process instead
	if now.Sub(t.next) < ticketRotation*(ticketKeys-1) {
		// Otherwise the machine has slept, and what there is, is too old.
		fresh = append(fresh, t.keys[:min(len(t.keys), ticketKeys-1)]...)
	}
	t.keys, t.next = fresh, now.Add(ticketRotation)
	t.version++
	return t.keys, t.version
}

// derive returns the keys for connections under one policy for clients' certificates.
// A ticket holds who the client is, as verified then: were the keys the same, a ticket
// from a name with one client_ca would be believed by a name with another, or by
// the same one after its CA was replaced.
func derive(keys [][32]byte, policy string) [][32]byte {
	out := make([][32]byte, len(keys))
	for i := range keys {
		h := hmac.New(sha256.New, keys[i][:])
		h.Write([]byte("wproxy session tickets\x00" + policy))
		h.Sum(out[i][:0])
	}
	return out
}
