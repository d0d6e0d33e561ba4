package meter

// Where the counter is looked at, beside the places where loops begin.
//
// What runs between two looks is bounded by following every path through a function:
// branches go forward, or to the beginning of a loop, which looks; so one pass in the
// order of the code, with the worst of what comes together wherever paths join, knows
// what can have run since the last look. Where that would be more than unchecked, a
// region with a look is begun.
//
// Calls are part of it. A function that is known to be small is counted where it is
// called, whatever it calls included; others look as they begin. What has run since the
// last look when a function returns is counted by who called it, with one exception:
// where calls can nest without a bound, in functions that count, that would be a number
// without a bound too. There a function may do a little for each byte of stack that it
// has paid (unwindShare) after such a call has returned, and looks as it ends if it can
// do more. So in a row there are at most unchecked units at the end of one such call,
// what its callers do as they return, and unchecked units behind it.
//
// A look finds only what has been charged, so nothing is paid ahead over one: no region
// goes on behind a loop or a look, and only prepaid units of one go on behind a call of
// a function that may look.

// A flow is the units that can have run at a place in the code.
type flow struct {
	since  int // since the last look
	unwind int // since a call returned that can nest, without a look since; -1: there was none
}

// nowhere is the flow of code that is not reached.
var nowhere = flow{-1, -1}

// join takes the worst of what comes together.
func (f *flow) join(o flow) {
	f.since, f.unwind = max(f.since, o.since), max(f.unwind, o.unwind)
}

// run adds units.
func (f *flow) run(units int) {
	f.since += units
	if f.unwind >= 0 {
		f.unwind += units
	}
}

// A summary is what a call of a function means for the function that calls it.
type summary struct {
	work int  // the most units from its beginning until it looks, or between two looks
	tail flow // when it returns
	has  bool // has a look, or calls what has one
}

// follow counts the instruction that was just read, which costs so much, and looks
// before it if it has to. It is not called in code that is not reached.
func (s *scan) follow(cost int) {
	ahead := cost
	var of *summary
	nests := false
	switch s.op {
	case opCall, opReturnCall:
		if s.x >= s.m.imported {
			f := s.x - s.m.imported
			of, nests = &s.g.sums[f], s.g.counts[f]
			if !nests && !s.g.looks[f] {
				ahead += of.work
			}
		}
	case opCallIndirect, opReturnCallIndirect:
		nests = true
		ahead += takenWork
	}
	switch {
	case s.now.since > 0 && s.now.since+ahead > unchecked:
		s.cut()
	case s.paidOf == s.cur && s.regions[s.cur].own-s.paid+cost > prepaid:
		s.begin(region{at: s.at, parent: -1})
	}
	s.now.run(cost)
	s.peak = max(s.peak, s.now.since+ahead-cost)
	switch {
	case s.op == opMisc && helperFor(s.op, s.sub):
		s.now = flow{0, -1}
	case s.op == opCallIndirect, s.op == opReturnCallIndirect:
		s.now = flow{s.now.since + takenWork, 0} // of those that do not look
	case nests:
		s.now = flow{0, 0}
	case of == nil:
		return
	case s.g.looks[s.x-s.m.imported]:
		s.now = of.tail
	default:
		s.now.run(max(of.tail.since, 0))
		s.now.unwind = max(s.now.unwind, of.tail.unwind)
		if !of.has {
			return
		}
	}
	s.peak = max(s.peak, s.now.since)
	s.now.since = max(s.now.since, 0) // what never returns has no tail
	s.looked()
	s.paid, s.paidOf = s.regions[s.cur].own+cost, s.cur
}

// looked notes that what is behind here is not to be paid before.
func (s *scan) looked() { s.era++ }

// cut begins a region with a look before the instruction that was just read.
func (s *scan) cut() {
	s.looked()
	s.begin(region{at: s.at, parent: -1, check: true})
	s.now = flow{0, -1}
}

// summary tells of the function that has been scanned.
func (s *scan) summary() summary {
	return summary{work: s.peak, tail: s.exit, has: s.era > 0}
}
