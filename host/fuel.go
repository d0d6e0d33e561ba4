package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tetratelabs/wazero/api"

	"wproxy/host/meter"
)

// A fuelGauge is what a VM knows of the work its guest does. The guest counts down a
// number of its own and calls refill when it is negative; all that is more than that
// happens here. Guarded by vm.mu.
type fuelGauge struct {
	fuel api.MutableGlobal // of the instance; nil before its first refill or the end of its start
	room api.MutableGlobal

	had    int64 // what the guest's number was when it was read or set last
	debt   int64 // units of host calls that have not been looked at yet
	bill   int64 // units of finished calls that are not in Plugin.fuel yet
	slice  int64 // units that the next refill hands out
	budget int64 // of the call in progress
	used   int64 // of it, up to when the number was read last

	ran   time.Duration // time that slices of the call in progress took
	since time.Duration // when the slice began; Host.elapsed
	slot  bool          // holds one of Host.slow
	row   row           // of calls by the host's own goroutines
	deep  bool          // has been given all of its room
}

// A row is calls that goroutines of the host make: ticks, answers, queues. Nothing between
// them waits for the network as a client's goroutine does, so a row of short calls takes as
// much from others as a long one.
type row struct {
	in   bool          // the call in progress is of the row
	ran  time.Duration // since it slept last
	end  time.Duration // of the last call; Host.elapsed
	slow bool          // has run for so long that its calls need a slot
}

// units converts time to units of work.
func units(d time.Duration) int64 { return d.Nanoseconds() * unitsPerMicro / 1000 }

// A meterFault is a panic that ends a guest's call because of what it has used.
type meterFault struct {
	cause  Cause
	detail string
}

func (f *meterFault) Error() string { return f.detail }

// A closingFault is a panic that ends a guest's call because the plugin ends.
type closingFault struct{ ClosedError }

// closed returns why a call that failed with err was ended by the host, if it was.
func (v *vm) closed(err error) *ClosedError {
	var fault *closingFault
	if errors.As(err, &fault) || errors.As(v.allocFault, &fault) {
		return &fault.ClosedError
	}
	return nil
}

// gauge finds the counters of an instance.
func (v *vm) gauge(mod api.Module) {
	v.meter.fuel, _ = mod.ExportedGlobal(meter.Fuel).(api.MutableGlobal)
	v.meter.room, _ = mod.ExportedGlobal(meter.Room).(api.MutableGlobal)
}

// startCall begins to count a call of its own. Time is counted from v.clock.
func (v *vm) startCall(budget int64) {
	v.meter.budget, v.meter.used = budget, 0
	v.meter.ran, v.meter.since = 0, v.clock
}

// startRow continues the row with the call that has been begun.
func (v *vm) startRow() {
	m := &v.meter
	m.row.in = true
	if v.clock-m.row.end > rowGap {
		m.row.ran, m.row.slow = 0, false
	}
	m.ran = m.row.ran
	if m.row.slow && v.p.h.slow.acquire(v.p.stop) { // if it stops, the guest's next refill sees that
		m.slot = true
		m.since = v.p.h.elapsed()
	}
}

// endRow notes what the row has run, and sleeps when it is time to.
func (v *vm) endRow() {
	m := &v.meter
	now := v.p.h.elapsed()
	m.row.in = false
	m.row.ran = m.ran + min(now-m.since, slowest)
	if m.row.ran >= slowAfter {
		if m.slot {
			makeWay()
			now = v.p.h.elapsed()
		}
		m.row.ran, m.row.slow = 0, true
	}
	m.row.end = now
}

// endCall books what a call has used, and returns its error. It is on the path of every
// callback: all that it does for a usual one is to read a number. A call that has used too
// much since the last look has used too much: whether a call is ended must not depend on
// where its looks are.
func (v *vm) endCall(err error) error {
	m := &v.meter
	if m.fuel != nil && v.mod != nil {
		left := int64(m.fuel.Get())
		m.used += m.had - left
		m.had = left
	}
	m.used += m.debt
	m.bill += m.used
	m.debt = 0
	if m.row.in {
		v.endRow()
	}
	if m.slot {
		v.p.h.slow.release()
		m.slot = false
	}
	if err == nil && m.used > m.budget {
		return m.overspent()
	}
	return err
}

func (m *fuelGauge) overspent() *meterFault {
	return &meterFault{CauseCPU, fmt.Sprintf("CPU budget of %v used up", time.Duration(m.budget*1000/unitsPerMicro))}
}

// book counts finished calls where everybody sees it.
func (v *vm) book() {
	v.p.fuel.Add(uint64(v.meter.bill))
	if v.p.o.OnFuel != nil && v.meter.bill > 0 {
		v.p.o.OnFuel(v.meter.bill)
	}
	v.meter.bill = 0
}

// shallow makes the guest's stacks small again after one has grown: a stack is Go
// memory that wazero keeps with the function. It also gives the room back that a
// call did not, which proc_exit has ended.
func (v *vm) shallow() {
	if v.meter.deep {
		v.meter.deep = false
		v.functions()
	}
	v.meter.room.Set(uint64(v.firstRoom()))
}

// firstRoom is what a call may take of the stack before that is noticed.
func (v *vm) firstRoom() int64 { return min(v.p.o.Stack, meter.InitialRoom) }

// refill is what the guest calls when its fuel or its room is negative. It is Go code,
// so the collector can stop the world in it, and other goroutines can have the
// processor.
func refill(ctx context.Context, mod api.Module, _ []uint64) {
	v := vmOf(ctx, mod)
	m := &v.meter
	if m.fuel == nil {
		v.gauge(mod)
	}
	if room := int64(m.room.Get()); room < 0 {
		if !m.deep {
			m.deep = true
			room += max(0, v.p.o.Stack-meter.InitialRoom)
			m.room.Set(uint64(room))
		}
		if room < 0 {
			panic(&meterFault{CauseStack, fmt.Sprintf("calls too deep: more than %d KiB of stack", v.p.o.Stack>>10)})
		}
	}
	left := int64(m.fuel.Get())
	v.settle(left)
	if left < 0 {
		m.had = min(m.slice, m.budget-m.used)
		m.fuel.Set(uint64(m.had))
	}
}

// charge books the work of a host function. Much of it is looked at before the guest
// comes to a refill.
func (v *vm) charge(units int64) {
	v.meter.debt += units
	if v.meter.debt > maxDebt {
		v.overdue()
	}
}

func (v *vm) overdue() {
	left := v.meter.had
	if v.meter.fuel != nil {
		left = int64(v.meter.fuel.Get())
	}
	v.settle(left)
}

// settle books what has been used, left being the guest's number, ends the call if
// that is too much, and lets others run.
func (v *vm) settle(left int64) {
	m := &v.meter
	work := m.had - left + m.debt
	m.used += work
	m.had, m.debt = left, 0
	select {
	case <-v.p.stop:
		panic(&closingFault{ClosedError{Plugin: v.p.o.Name}})
	default:
	}
	if m.used >= m.budget {
		panic(m.overspent())
	}
	v.yield()
}

// yield is what keeps a call that takes long from being felt by others. That refill is
// a place where goroutines can be switched is not enough: with no processor idle, the
// network is polled only every 10 ms. Time counts here and not units: code that waits for
// memory takes many times as long for them. Some of that may be time in which the
// operating system had the processor elsewhere, and then this guest sleeps a little too
// often.
func (v *vm) yield() {
	m := &v.meter
	now := v.p.h.elapsed()
	took := now - m.since
	m.since = now
	m.ran += min(took, slowest)
	switch { // slices of equal time, whatever an instruction takes there
	case took > sliceMost:
		m.slice = max(m.slice/2, leastSlice)
	case took < sliceLeast:
		m.slice = min(m.slice*2, mostSlice)
	}
	if m.ran < slowAfter {
		return
	}
	m.ran = 0
	if m.slot {
		makeWay()
		v.p.h.slow.release() // whoever waits is next
		m.slot = false
	}
	if !v.p.h.slow.acquire(v.p.stop) {
		panic(&closingFault{ClosedError{Plugin: v.p.o.Name}})
	}
	m.slot = true
	m.since = v.p.h.elapsed()
}

// makeWay sleeps, so that a processor can get at the network.
func makeWay() {
	if runtime.GOMAXPROCS(0) > 1 {
		time.Sleep(slowSleep)
	} else {
		time.Sleep(slowSleepAlone)
	}
}

// slowSlots are what calls that take long need to go on, first come first served. There
// is one less than there are processors, which a reload can change, and one at least.
type slowSlots struct {
	mu      sync.Mutex // a leaf lock
	busy    int
	waiting []chan struct{} // closed when it is one's turn
}

// acquire waits for a slot; false, without one, when stop is closed.
func (s *slowSlots) acquire(stop <-chan struct{}) bool {
	turn := make(chan struct{})
	s.mu.Lock()
	s.waiting = append(s.waiting, turn)
	s.nextLocked()
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-stop:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, turn); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return false
	}
	s.busy-- // it was its turn at the same moment
	s.nextLocked()
	return false
}

func (s *slowSlots) release() {
	s.mu.Lock()
	s.busy--
	s.nextLocked()
	s.mu.Unlock()
}

// nextLocked gives free slots to those who wait longest.
func (s *slowSlots) nextLocked() {
	for len(s.waiting) > 0 && s.busy < max(1, runtime.GOMAXPROCS(0)-1) {
		close(s.waiting[0])
		s.waiting = slices.Delete(s.waiting, 0, 1)
		s.busy++
	}
}
