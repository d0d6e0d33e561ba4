package wasmfilter

import (
	"encoding/binary"
	"strings"
	"sync"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/objects"
)

// lookups are what a guest has looked up, and found, since it has asked last to join a flight. Where it then
// leads one, although what it has looked for is there by now, a second request would go to the upstream.
type lookups struct {
	text     []byte // the keys, one behind the other
	list     []lookedUp
	landings uint64 // of the space, before the first of them
}

type lookedUp struct {
	end   int              // of the key, in text
	found objects.Identity // of the record; 0: there was nothing
}

// maxLookups and maxLookupText bound what is remembered of them: what goes beyond is taken for unchanged.
const (
	maxLookups    = 8
	maxLookupText = 16 << 10
	keptLookups   = 1 << 10 // how long a text may be whose memory is kept for the next exchange
)

// begin is called before it is looked.
func (l *lookups) begin(s *objects.Space) {
	if len(l.list) == 0 {
		l.landings = s.Landings()
	}
}

// add notes what was found under key, which is copied; r may be nil.
func (l *lookups) add(key string, r *objects.Record) {
	if len(l.list) == maxLookups || len(l.text)+len(key) > maxLookupText {
		return
	}
	l.text = append(l.text, key...)
	n := lookedUp{end: len(l.text)}
	if r != nil {
		n.found = r.Identity()
	}
	l.list = append(l.list, n)
}

// outdated reports whether a flight has ended since, and something else is found now.
func (l *lookups) outdated(s *objects.Space) bool {
	if len(l.list) == 0 || s.Landings() == l.landings {
		return false
	}
	begin := 0
	for _, n := range l.list {
		p := l.text[begin:n.end]
		begin = n.end
		o := s.Find(unsafe.String(unsafe.SliceData(p), len(p))) // borrowed
		if o == nil {
			continue
		}
		now := o.Record().Identity()
		o.Release()
		if now != n.found {
			return true
		}
	}
	return false
}

// forget makes l none.
func (l *lookups) forget() { l.text, l.list = l.text[:0], l.list[:0] }

// empty returns none, in the same memory if that is little.
func (l *lookups) empty() lookups {
	if cap(l.text) > keptLookups {
		return lookups{}
	}
	return lookups{text: l.text[:0], list: l.list[:0]}
}

// A joining waits for a flight. It outlives the exchange for as long as somebody may be
// about to tell it.
type joining struct {
	flight *objects.Flight

	mu sync.Mutex
	f  *Filter // nil: nobody waits any more
}

// Landed implements objects.Waiter.
func (j *joining) Landed(_ *objects.Flight, o objects.Outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return
	}
	x := j.f.x
	x.Mu.Lock()
	j.f.landed, j.f.how = true, o
	j.f.req.markLocked()
	x.Mu.Unlock()
}

// leave ends the waiting.
func (j *joining) leave() {
	j.flight.Leave(j)
	j.mu.Lock()
	j.f = nil
	j.mu.Unlock()
}

// askJoin joins a flight; the outcome is written to args.
func (f *Filter) askJoin(args []byte, text string) abi.Status {
	if len(args) < 4 {
		return abi.StatusBadArgument
	}
	x := f.x
	x.Mu.Lock()
	fit := f.req.stage == stageHere && f.req.inside
	leads := f.flight != nil
	waits := f.join
	f.join, f.landed = nil, false
	x.Mu.Unlock()
	if waits != nil {
		waits.leave()
	}
	if !fit {
		return abi.StatusBadArgument
	}
	if leads {
		binary.LittleEndian.PutUint32(args, abi.ObjectLeads)
		return abi.StatusOK
	}
	j := &joining{f: f}
	// Told under j.mu, which is held until j is known: the flight may end at once.
	j.mu.Lock()
	defer j.mu.Unlock()
	flight, leads := f.factory.space.Join(strings.Clone(text[4:]), j)
	if leads && f.looks.outdated(f.factory.space) {
		// Another flight has landed since, and has brought something: that is what it would have waited for.
		flight.Land(objects.Stored)
		flight = nil
	}
	f.looks.forget()
	x.Mu.Lock()
	defer x.Mu.Unlock()
	switch {
	case flight == nil:
		f.landed, f.how = true, objects.Stored
		binary.LittleEndian.PutUint32(args, abi.ObjectWaits)
		return abi.StatusOK
	case leads:
		f.flight = flight
		binary.LittleEndian.PutUint32(args, abi.ObjectLeads)
		return abi.StatusOK
	}
	j.flight, f.join = flight, j
	binary.LittleEndian.PutUint32(args, abi.ObjectWaits)
	return abi.StatusOK
}

// land ends the flight that the exchange leads, if there is one.
func (f *Filter) land(o objects.Outcome) {
	f.x.Mu.Lock()
	flight := f.flight
	f.flight = nil
	f.x.Mu.Unlock()
	if flight != nil {
		flight.Land(o)
	}
}

// tellLanded calls the guest back that waits for a flight, as the request direction.
func (f *Filter) tellLanded(o objects.Outcome) error {
	g, ok := f.guest.(interface {
		ForeignFunction(id uint32, args []byte) error
	})
	if !ok {
		return nil
	}
	var arg [4]byte
	binary.LittleEndian.PutUint32(arg[:], outcomes[o])
	f.calls.Lock()
	defer f.calls.Unlock()
	return g.ForeignFunction(abi.ObjectJoined, arg[:])
}

var outcomes = [...]uint32{
	objects.Stored: abi.ObjectStored, objects.Unstored: abi.ObjectUnstored, objects.Failed: abi.ObjectFailed,
}
