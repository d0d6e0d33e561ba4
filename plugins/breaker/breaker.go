// Breaker is a Proxy-Wasm plugin that stops sending requests to an upstream that fails, for
// a while, and then tries with a few whether it works again. README.md has the settings.
//
// main.go is what speaks to the SDK and exists in the guest only; everything else is
// plain Go, tested on any platform.
package main

import (
	"encoding/binary"
	"strconv"

	"wproxy/abi"
)

// A state is what a circuit does with requests.
type state uint8

const (
	closed   state = iota // lets all through and counts what comes of them
	open                  // lets none through
	halfOpen              // lets a few through, as probes

	states // how many there are
)

// String returns the state as logs and properties have it.
func (s state) String() string { return [states]string{"closed", "open", "half-open"}[s] }

// A record is the state of a circuit as all VMs see it: an entry of shared data, changed by
// compare-and-swap only.
type record struct {
	state      state
	generation uint64 // counts changes; what is counted belongs to one
	until      int64  // open: when it ends, in nanoseconds of the wall clock
	openFor    int64  // open and half-open: how long that is or was, in nanoseconds
}

// recordSize is the size of a record in bytes: four numbers of 64 bits.
const recordSize = 32

func (r *record) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.state))
	dst = binary.LittleEndian.AppendUint64(dst, r.generation)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.until))
	return binary.LittleEndian.AppendUint64(dst, uint64(r.openFor))
}

// parseRecord reads a record; other bytes under its key are not ours, and are treated as
// none: a circuit that was never open.
func parseRecord(b []byte) (r record, ok bool) {
	if len(b) != recordSize || binary.LittleEndian.Uint64(b) >= uint64(states) {
		return record{}, false
	}
	return record{
		state(b[0]), binary.LittleEndian.Uint64(b[8:]),
		int64(binary.LittleEndian.Uint64(b[16:])), int64(binary.LittleEndian.Uint64(b[24:])),
	}, true
}

// A store is shared data: all VMs of the plugin see one and the same.
type store interface {
	// Get returns the value of key and its compare-and-swap number. The value may be
	// overwritten by the next call.
	Get(key []byte) (value []byte, cas uint32, ok bool)
	// Set stores a value if the number is still cas or there is no value, and
	// reports whether it did.
	Set(key, value []byte, cas uint32) bool
}

// counters are the host's (abi.ForeignAddCounter, abi.ForeignLeaseCounter). They write the
// outcome to the record; false if the host cannot.
type counters interface {
	Add(record []byte) bool
	Lease(record []byte) bool
}

const (
	// createOnly is the number to store a value with that must not be there yet, as in
	// ratelimit.
	createOnly = 1<<32 - 1

	// maxAttempts is how often a change is tried while others change the same circuit,
	// which they do a few times a second at most.
	maxAttempts = 32

	// contendedRetry is what clients are told when nothing better is known, in
	// nanoseconds: a probe is under way.
	contendedRetry = 1e9

	// windowSlots is how many slots the window is cut into: it opens and forgets as
	// exactly as one of them.
	windowSlots = 10

	// forgetProbes is how long probes that went well count, in nanoseconds, if no other
	// request comes.
	forgetProbes = 600e9

	// keyPrefix begins the keys of shared data and of counters. The number is the version
	// of the layout.
	keyPrefix = "breaker1:"
)

// A circuit is the breaker of one upstream as seen from one route. It has the keys, and room
// for what is sent to the host. Used by one goroutine.
type circuit struct {
	route, upstream string
	key             []byte
	window          []byte // an abi.AddRecord, key and generation
	probes          []byte // an abi.LeaseRecord, key and generation
	value           []byte // room for a record
}

func newCircuit(c *config, route, upstream string) *circuit {
	key := append([]byte(keyPrefix), route...)
	key = append(append(key, 0), upstream...)
	var generation [8]byte
	window := append(abi.NewAddRecord(windowSlots, c.window/windowSlots), key...)
	probes := append(abi.NewLeaseRecord(c.probes, forgetProbes), key...)
	return &circuit{
		route: route, upstream: upstream, key: key, window: append(window, generation[:]...),
		probes: append(probes, generation[:]...), value: make([]byte, 0, recordSize),
	}
}

// A pass is what a request is let through with, or not.
type pass struct {
	admitted   bool
	probe      bool
	state      state
	generation uint64
	retry      int64 // nanoseconds until it is worth asking again, if it is not admitted
}

// A result is what came of a request that was let through.
type result struct {
	counts bool // it says something about the upstream
	failed bool
	slow   bool
}

// A breaker decides. It is used by one goroutine.
type breaker struct {
	*config
	store    store
	counters counters
	now      func() int64 // the wall clock, in nanoseconds
	watched  bool         // the host looks at records by itself
	changed  func(c *circuit, from, to record, why string)
}

// load returns the circuit's record.
func (b *breaker) load(c *circuit) (record, uint32) {
	v, cas, ok := b.store.Get(c.key)
	if !ok {
		return record{}, createOnly
	}
	r, _ := parseRecord(v)
	return r, cas
}

// change makes one record of another, unless somebody else was first.
func (b *breaker) change(c *circuit, cas uint32, from, to record, why string) bool {
	to.generation = from.generation + 1
	c.value = to.append(c.value[:0])
	if !b.store.Set(c.key, c.value, cas) {
		return false
	}
	b.changed(c, from, to, why)
	return true
}

// enter decides about a request.
func (b *breaker) enter(c *circuit) pass {
	for range maxAttempts {
		r, cas := b.load(c)
		switch r.state {
		case closed:
			if b.watched && cas == createOnly {
				b.create(c)
			}
			return pass{admitted: true, generation: r.generation}
		case open:
			// More than all of the time is left only where the clock was set back.
			if left := r.until - b.now(); left > 0 && left <= r.openFor {
				return pass{state: open, generation: r.generation, retry: left}
			}
			next := record{state: halfOpen, openFor: r.openFor}
			if !b.change(c, cas, r, next, "it was open for "+seconds(r.openFor)) {
				continue
			}
			r.generation++
		default:
		}
		if p, ok := b.enterHalfOpen(c, r.generation); ok {
			return p
		}
	}
	return pass{state: open, retry: contendedRetry}
}

// create stores the record of a circuit that has none, for the host to see that it is closed;
// unless somebody else has, who knows better.
func (b *breaker) create(c *circuit) {
	c.value = (&record{}).append(c.value[:0])
	b.store.Set(c.key, c.value, createOnly)
}

// enterHalfOpen lets a request through as a probe if there is a place. The host gives it
// back when the stream ends, whatever becomes of it. The circuit may have changed since it was
// seen half open: then a probe that failed may have left its place since, which is not for
// another, and ok is false.
func (b *breaker) enterHalfOpen(c *circuit, generation uint64) (p pass, ok bool) {
	p = pass{state: halfOpen, generation: generation, retry: contendedRetry}
	r := c.lease(abi.LeaseTake, generation)
	if b.counters.Lease(r) {
		p.admitted, _, _ = r.Result()
		p.probe = p.admitted
	}
	if now, _ := b.load(c); now.generation == generation && now.state == halfOpen {
		return p, true
	}
	if p.admitted {
		b.counters.Lease(c.lease(abi.LeaseBack, generation))
	}
	return p, false
}

// lease returns the circuit's record about a probe.
func (c *circuit) lease(op abi.LeaseOp, generation uint64) abi.LeaseRecord {
	binary.LittleEndian.PutUint64(c.probes[len(c.probes)-8:], generation)
	r := abi.LeaseRecord(c.probes)
	r.SetOp(op)
	return r
}

// leave counts what came of a request that was admitted with p.
func (b *breaker) leave(c *circuit, p pass, r result) {
	switch {
	case p.probe:
		b.leaveProbe(c, p, r)
	case r.counts:
		b.count(c, p, r)
	}
}

// count counts a request while the circuit is closed, and opens it if it is time. One that
// was let through before the circuit was open the last time is counted where nobody looks.
func (b *breaker) count(c *circuit, p pass, r result) {
	binary.LittleEndian.PutUint64(c.window[len(c.window)-8:], p.generation)
	a := abi.AddRecord(c.window)
	a.SetCount(0, 1)
	a.SetCount(1, bit(r.failed))
	a.SetCount(2, bit(r.slow))
	a.SetStreak(-1)
	if r.failed {
		a.SetStreak(1)
	}
	if !b.counters.Add(a) {
		return
	}
	sums := a.Result()
	total, failed, slow := sums.Sums[0], sums.Sums[1], sums.Sums[2]
	enough := total >= b.minRequests
	switch {
	case b.consecutive > 0 && sums.Streak >= b.consecutive:
		b.open(c, p, strconv.FormatInt(sums.Streak, 10)+" in a row failed")
	case enough && b.failures > 0 && failed*million >= b.failures*total:
		b.open(c, p, share(failed, total)+" failed")
	case enough && b.slow > 0 && slow*million >= b.slow*total:
		b.open(c, p, share(slow, total)+" took "+seconds(b.slowCall)+" or more")
	}
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

func share(n, of int64) string {
	return strconv.FormatInt(n, 10) + " of " + strconv.FormatInt(of, 10) + " requests"
}

// seconds writes a time for logs.
func seconds(ns int64) string {
	ms := ns / 1e6
	s := strconv.FormatInt(ms/1000, 10)
	if ms %= 1000; ms > 0 {
		s += "." + strconv.FormatInt(1000+ms, 10)[1:]
	}
	return s + " s"
}

// open opens a circuit that is closed, or half open, as it was when the request was let
// through; if it is not any more, that request does not matter.
func (b *breaker) open(c *circuit, p pass, why string) {
	for range maxAttempts {
		r, cas := b.load(c)
		if r.generation != p.generation || r.state != p.state {
			return
		}
		next := record{state: open, openFor: b.openFor}
		if r.state == halfOpen {
			next.openFor = min(r.openFor*b.growth/million, b.openForMax)
		}
		next.until = b.now() + next.openFor
		if b.change(c, cas, r, next, why) {
			return
		}
	}
}

// leaveProbe takes what came of a probe: the first that fails opens the circuit, and the
// last that is needed closes it.
func (b *breaker) leaveProbe(c *circuit, p pass, r result) {
	switch {
	case !r.counts:
		b.counters.Lease(c.lease(abi.LeaseBack, p.generation))
		return
	case r.failed:
		b.open(c, p, "a probe failed")
		return
	case r.slow && b.slow > 0:
		b.open(c, p, "a probe took "+seconds(b.slowCall)+" or more")
		return
	}
	lease := c.lease(abi.LeaseKeep, p.generation)
	if !b.counters.Lease(lease) {
		return
	}
	if done, _, kept := lease.Result(); !done || kept < b.probes {
		return
	}
	for range maxAttempts {
		now, cas := b.load(c)
		if now.generation != p.generation || now.state != halfOpen {
			return
		}
		if b.change(c, cas, now, record{}, strconv.FormatInt(b.probes, 10)+" probes went well") {
			return
		}
	}
}

// judge says what came of a request: failure is that of the upstream, "" or "none" if it has
// answered, with status. A failure that is not looked at says nothing.
func (c *config) judge(failure string, status int) result {
	if failure != "" && failure != "none" {
		f, _ := parseFailure(failure)
		failed := c.on&f != 0
		return result{counts: failed, failed: failed}
	}
	return result{counts: true, failed: status >= 0 && status < len(c.statuses) && c.statuses[status]}
}
