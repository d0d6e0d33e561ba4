package host

import (
	"math/bits"
	"time"

	"wproxy/abi"
)

// Extensions that count, and those that say what becomes of a stream.

// takeCounter is abi.ForeignTakeCounter.
func takeCounter(v *vm, args []byte) abi.Status {
	if len(args) < abi.TakeRecordSize || len(args) > abi.TakeRecordSize+maxCounterKey {
		return abi.StatusBadArgument
	}
	r, key := abi.TakeRecord(args[:abi.TakeRecordSize]), args[abi.TakeRecordSize:]
	l, cost := counterLimit{r.Interval(), r.Burst()}, r.Cost()
	if r.Algorithm() != 0 || !l.valid() || cost < 0 || cost > l.burst {
		return abi.StatusBadArgument
	}
	d, ok := v.take(l, v.counterTag(key), cost, false)
	return v.taken(r, d, ok)
}

// chargeCounter is abi.ForeignChargeCounter.
func chargeCounter(v *vm, args []byte) abi.Status {
	if len(args) < abi.TakeRecordSize || len(args) > abi.TakeRecordSize+maxCounterKey {
		return abi.StatusBadArgument
	}
	r, key := abi.TakeRecord(args[:abi.TakeRecordSize]), args[abi.TakeRecordSize:]
	l, cost := counterLimit{r.Interval(), r.Burst()}, r.Cost()
	if r.Algorithm() != 0 || !l.valid() || cost < 0 || cost > maxCounterCapacity/l.interval {
		return abi.StatusBadArgument
	}
	d, ok := v.take(l, v.counterTag(key), cost, cost > 0)
	return v.taken(r, d, ok)
}

// counterTag is what a key is known by in the counters.
func (v *vm) counterTag(key []byte) uint64 { return v.p.shared.counters.key.sum(key) }

// taken stores the outcome of a take, or of a charge.
func (v *vm) taken(r abi.TakeRecord, d taken, ok bool) abi.Status {
	if !ok {
		v.warn("a counter was not made: there are too many limits of different rates")
		return abi.StatusInternalFailure
	}
	r.SetResult(abi.TakeResult{
		Admitted: d.admitted, Crowded: d.crowded, Remaining: d.remaining, Full: d.full, Retry: d.retry,
	})
	return abi.StatusOK
}

// take takes from a bucket of the limit's table, or charges it. The table is looked for unless it is
// the one used last, as it is as a rule. It fails when others have all the room.
func (v *vm) take(l counterLimit, tag uint64, cost int64, charge bool) (taken, bool) {
	s, clock := v.p.shared.counters, v.p.h.counterClock
	for {
		t := v.counters
		if t == nil || t.counterLimit != l {
			t = s.find(l)
			if t == nil && cost == 0 {
				return taken{admitted: true, remaining: l.burst}, true
			}
			if t == nil {
				var looked int
				t, looked = s.table(l, clock())
				v.charge(counterTableUnits + int64(looked)*counterPageUnits)
			}
			if v.counters = t; t == nil {
				return taken{}, false
			}
		}
		var d taken
		var state takeState
		if charge { // not a function value: the clock would escape
			d, state = t.charge(tag, cost, clock)
		} else {
			d, state = t.take(tag, cost, clock)
		}
		switch state {
		case takeDone:
			return d, true
		case takeGrow:
			v.charge(int64(s.grow(t, clock())) * counterPageUnits)
		case takeGone:
		}
		v.counters = nil
	}
}

// valid reports whether times of the limit can be counted with.
func (l counterLimit) valid() bool {
	if l.interval <= 0 || l.burst <= 0 {
		return false
	}
	hi, lo := bits.Mul64(uint64(l.interval), uint64(l.burst))
	return hi == 0 && lo <= uint64(maxCounterCapacity)
}

// counterClock is the clock of buckets, in nanoseconds. It goes on where that of another
// process was left, if there was one (state.go).
func (h *Host) counterClock() int64 {
	if f := h.frozen.Load(); f != 0 {
		return f
	}
	if h.o.ManualTicks {
		return h.o.Now().Sub(time.Unix(0, 0)).Nanoseconds() + h.clockBase.Load()
	}
	return int64(h.elapsed()) + h.clockBase.Load()
}

// addCounter is abi.ForeignAddCounter.
func addCounter(v *vm, args []byte) abi.Status {
	if len(args) < abi.AddRecordSize || len(args) > abi.AddRecordSize+maxCounterKey {
		return abi.StatusBadArgument
	}
	r := abi.AddRecord(args[:abi.AddRecordSize])
	shape := windowShape{r.Slots(), r.Width()}
	a := windowAdd{tag: v.counterTag(args[abi.AddRecordSize:]), streak: r.Streak(), limit: r.Limit()}
	for i := range a.counts {
		a.counts[i] = r.Count(i)
	}
	if !shape.valid() || a.limit < 0 {
		return abi.StatusBadArgument
	}
	v.charge(int64(shape.slots) * windowSlotUnits)
	result, work, ok := v.p.shared.windows.add(shape, &a, v.p.h.counterClock)
	v.charge(int64(work) * counterTableUnits)
	if !ok {
		v.warn("a window was not made: there are too many")
		return abi.StatusInternalFailure
	}
	r.SetResult(result)
	return abi.StatusOK
}

// acquireCounter is abi.ForeignAcquireCounter.
func acquireCounter(v *vm, args []byte) abi.Status {
	if len(args) < abi.AcquireRecordSize || len(args) > abi.AcquireRecordSize+maxCounterKey {
		return abi.StatusBadArgument
	}
	r := abi.AcquireRecord(args[:abi.AcquireRecordSize])
	a := placeAsk{tag: v.counterTag(args[abi.AcquireRecordSize:]), most: r.Places(), forget: 0}
	got, p, status := v.hold(a)
	if status == abi.StatusOK {
		r.SetResult(got, p.held+p.kept)
	}
	return status
}

// hold takes a place for the stream.
func (v *vm) hold(a placeAsk) (got bool, p places, status abi.Status) {
	c := v.current()
	switch {
	case a.most < 0, a.most > 0 && (c.stream == nil || c.late):
		return false, p, abi.StatusBadArgument
	case a.most > 0 && len(c.held) >= maxHeld:
		v.warn("a place was not taken: the stream holds too many")
		return false, p, abi.StatusInternalFailure
	}
	if got, p = v.p.shared.places.take(a, v.p.h.counterClock()); got {
		c.held = append(c.held, a.tag)
	}
	return got, p, abi.StatusOK
}

// leaseCounter is abi.ForeignLeaseCounter.
func leaseCounter(v *vm, args []byte) abi.Status {
	if len(args) < abi.LeaseRecordSize || len(args) > abi.LeaseRecordSize+maxCounterKey {
		return abi.StatusBadArgument
	}
	r := abi.LeaseRecord(args[:abi.LeaseRecordSize])
	a := placeAsk{tag: v.counterTag(args[abi.LeaseRecordSize:]), most: r.Places(), forget: r.Forget()}
	if a.forget <= 0 || a.forget > maxCounterCapacity || r.Op() > abi.LeaseBack {
		return abi.StatusBadArgument
	}
	if r.Op() == abi.LeaseTake {
		got, p, status := v.hold(a)
		if status == abi.StatusOK {
			r.SetResult(got, p.held, p.kept)
		}
		return status
	}
	c, s := v.current(), v.p.shared.places
	i := c.holds(a.tag)
	if i < 0 {
		return abi.StatusNotFound
	}
	var done bool
	var p places
	if r.Op() == abi.LeaseBack {
		done, p = true, s.release(a.tag)
	} else {
		var looked int
		done, p, looked = s.keep(a, v.p.h.counterClock())
		v.charge(int64(looked) * counterPageUnits)
	}
	if done {
		c.held = append(c.held[:i], c.held[i+1:]...)
	}
	r.SetResult(done, p.held, p.kept)
	return abi.StatusOK
}

// selectUpstream is abi.ForeignSelectUpstream.
func selectUpstream(v *vm, args []byte) abi.Status {
	if len(args) == 0 || len(args) > maxNameBytes {
		return abi.StatusBadArgument
	}
	name := string(args)
	if !v.p.grants.has(GrantUpstream + name) {
		v.notGranted(abi.ForeignSelectUpstream, GrantUpstream+"NAME")
		return abi.StatusInternalFailure
	}
	s, ok := v.stream().(Selector)
	if !ok || !s.SelectUpstream(name) {
		return abi.StatusBadArgument
	}
	return abi.StatusOK
}

// resumeAfter is abi.ForeignResumeAfter.
func resumeAfter(v *vm, args []byte) abi.Status {
	side, ms, ok := abi.ParseResumeAfter(args)
	if !ok {
		return abi.StatusBadArgument
	}
	s, ok := v.stream().(Delayer)
	if !ok || !s.ResumeAfter(side, time.Duration(ms)*time.Millisecond) {
		return abi.StatusBadArgument
	}
	return abi.StatusOK
}
