package host

import (
	"time"

	"wproxy/abi"
)

// What host functions cost. It is a price for each byte, line or pair, which is the same
// everywhere. Where an input can be made that takes a hundred times as long as others of its size,
// the time is looked at too.

// measured does work whose price only its input decides: it costs least units, and more, up to most,
// if it took more than measuredSlack times as long as they are for.
func (v *vm) measured(least, most int64, work func()) {
	v.charge(least)
	began := v.p.h.elapsed()
	work()
	v.chargeSince(began, least, most)
}

// chargeSince charges what the time since began shows that the work was not worth what was paid
// for it, most units at most. A part of that time is not the guest's: the operating
// system may have had the processor elsewhere. So this is not what bounds usual work.
func (v *vm) chargeSince(began time.Duration, paid, most int64) {
	v.charge(min(max(units(v.p.h.elapsed()-began)/measuredSlack-paid, 0), most))
}

// A lineCount is how many lines the header map has that was used last. To ask the map each
// time would be a good part of what a call costs.
type lineCount struct {
	of    *Context // nil: nothing is known
	kind  abi.MapType
	lines int
	most  int // when lines is that many it is counted anew
}

// chargeLines charges a look at all lines of m, the current context's map of that kind,
// with units for each.
func (v *vm) chargeLines(m Map, kind uint64, each int64) {
	l := &v.lines
	if k := abi.MapType(uint32(kind)); l.of != v.current() || l.kind != k || l.lines > l.most {
		n := m.Len()
		*l = lineCount{of: v.current(), kind: k, lines: n, most: 2*n + editsCounted}
	}
	v.charge(int64(l.lines) * each)
}

// chargeEdit is chargeLines for an edit of m that may make it a line longer.
func (v *vm) chargeEdit(m Map, kind uint64) {
	v.chargeLines(m, kind, editLineUnits)
	v.charge(editUnits)
	v.lines.lines++
}
