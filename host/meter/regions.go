package meter

// How code is charged.
//
// A region is a stretch of code that runs from its first instruction to its last one,
// or traps: between two places where control flow joins or splits. Charging each
// region as it begins would be exact, and would be three instructions more for every
// arm of every if. So regions are put together, in three ways:
//
//   - Code behind a block that nothing leaves (by a branch to further out, or a
//     return) runs exactly as often as the code before it: it is the same region.
//   - A small region that is reached only through an earlier one of the same loop
//     (an arm of an if, the code behind a br_if) is paid by that one, whether it is
//     run or not. One region pays at most as much for others as for itself, and
//     foldSlack: so no code is charged more than about twice of what it runs.
//   - A function without loops and calls that costs no more than freeFunc is paid by
//     whoever calls it.
//
// All code is paid before it runs, with one exception: what a call_indirect reaches,
// if it is such a small function, is in the flat price of the instruction.
//
// Where a loop begins, where a function begins that can be in a cycle of calls or can do
// much work (graph.go), and wherever much has run without a look (flow.go), the counter
// is looked at as well as charged. A function that begins with a loop, as those of the Go
// compiler do, leaves both to the loop.

// A region is described above.
type region struct {
	at     int   // where its charge is put: an offset in the body
	parent int32 // the region that dominates it in the same loop; -1: it must be paid on its own
	own    int   // units of its instructions
	folded int   // units of others that it pays
	era    int   // how many looks there are before it in the code: it pays for no other's
	check  bool  // what is left is looked at
	isFunc bool  // of the function's beginning
}

// A frame is a block, loop or if that is open.
type frame struct {
	op     byte
	open   int32 // region before it; -1: unreachable
	outer  int   // the outermost frame that a branch from inside goes to
	target bool  // its end is branched to
	thenOK bool  // the end of its first arm is reached
	hasEls bool
	era    int  // of the scan where it begins
	was    flow // there
	end    flow // of what branches to its end
}

// A scan goes through a function and finds its regions.
type scan struct {
	decoder
	regions []region
	frames  []frame
	cur     int32 // the region we are in; -1: unreachable code
	lead    int32 // the region of a loop that the function begins with; 0: none

	total    int  // units of all instructions
	size     int  // instructions, with calls for what they are
	loops    int  // loop instructions
	blocks   int  // where control flow parts or meets; see maxBlocks
	indirect bool // has a call_indirect
	calls    int  // calls of any kind
	bulk     bool // has an instruction that becomes a call

	callee func(f uint32) int // what a call of f costs beside the call

	// Of flow.go.
	g      *graph // nil: nothing is followed
	now    flow
	exit   flow // where the function returns
	peak   int  // the most that now.since has been
	era    int
	paid   int   // what region paidOf had of its own behind the last call that may look
	paidOf int32 // -1: there was none
}

// reset starts the scan of function f of the module (imports not counted).
func (s *scan) reset(m *module, f int) {
	b := &m.bodies[f]
	t := m.typeOfFunc(m.imported + uint32(f))
	s.decoder = decoder{
		reader: reader{b: b.code, pos: b.expr, base: b.base}, m: m,
		locals: uint32(len(t.params)) + b.locals, targets: s.targets,
	}
	s.regions = append(s.regions[:0], region{at: b.expr, parent: -1, own: 1, isFunc: true})
	s.frames = append(s.frames[:0], frame{op: opBlock, outer: 0, end: nowhere})
	s.cur, s.lead = 0, 0
	s.now, s.exit, s.peak = flow{1, -1}, nowhere, 1
	s.era, s.paid, s.paidOf = 0, 0, -1
	s.total, s.size = 1, 1
	s.loops, s.blocks, s.calls, s.indirect, s.bulk = 0, 0, 0, false, false
}

// step reads an instruction and books it. done is true after the function's last
// end.
func (s *scan) step() (done bool, err error) {
	s.nesting = uint32(len(s.frames) - 1)
	if err := s.next(); err != nil {
		return false, err
	}
	cost := s.cost()
	s.size += min(cost, 1)
	switch s.op {
	case opCall, opReturnCall:
		s.calls++
		s.size += cost - 1
		if s.callee != nil {
			cost += s.callee(s.x)
		}
	case opCallIndirect, opReturnCallIndirect:
		s.calls++
		s.size += cost - 1
		s.indirect = true
	case opMisc:
		s.bulk = s.bulk || helperFor(s.op, s.sub)
	}
	s.total += cost
	if s.g != nil && s.cur >= 0 {
		s.follow(cost)
	}
	s.pay(cost)
	switch s.op {
	case opBlock, opLoop, opIf:
		if len(s.frames) > maxNesting {
			return false, s.refuse()
		}
		s.blocks++
		if s.op == opLoop {
			s.blocks += loopBlocks - 1
		}
		s.enter()
	case opElse:
		return false, s.otherwise()
	case opEnd:
		return s.leave(), nil
	case opBr:
		s.branch(s.x)
		s.cur = -1
	case opBrIf:
		s.blocks++
		s.branch(s.x)
		s.split(s.cur)
	case opBrTable:
		s.blocks++
		for _, l := range s.targets {
			s.branch(l)
		}
		s.cur = -1
	case opReturn, opReturnCall, opReturnCallIndirect:
		s.branch(s.nesting)
		s.cur = -1
	case opUnreachable:
		s.cur = -1
	}
	return false, nil
}

func (s *scan) pay(cost int) {
	if s.cur >= 0 {
		s.regions[s.cur].own += cost
	}
}

// split begins a region here that can be reached only through parent.
func (s *scan) split(parent int32) {
	if parent < 0 {
		s.cur = -1
		return
	}
	s.begin(region{at: s.pos, parent: parent})
}

// begin begins a region.
func (s *scan) begin(r region) {
	r.era = s.era
	s.regions = append(s.regions, r)
	s.cur = int32(len(s.regions) - 1)
}

func (s *scan) enter() {
	s.frames = append(s.frames, frame{op: s.op, open: s.cur, outer: len(s.frames), era: s.era, was: s.now, end: nowhere})
	switch s.op {
	case opIf:
		s.split(s.cur)
	case opLoop:
		s.loops++
		if s.cur >= 0 {
			s.looked()
			s.now = flow{1, -1}
			s.begin(region{at: s.pos, parent: -1, own: 1, check: true})
			if s.cur == 1 && s.calls == 0 && !s.bulk {
				s.lead = s.cur
			}
		}
	}
}

func (s *scan) otherwise() error {
	f := &s.frames[len(s.frames)-1]
	if f.op != opIf || f.hasEls {
		s.bad = true
		return s.refuse()
	}
	f.hasEls, f.thenOK = true, s.cur >= 0
	if s.cur >= 0 {
		f.end.join(s.now)
	}
	s.now = f.was
	s.split(f.open)
	return nil
}

// leave closes a block; true for the function itself.
func (s *scan) leave() bool {
	n := len(s.frames) - 1
	f := s.frames[n]
	s.frames = s.frames[:n]
	if f.op == opLoop { // branches to it go to its beginning
		f.end = nowhere
	}
	if s.cur >= 0 {
		f.end.join(s.now)
	}
	if f.op == opIf && !f.hasEls {
		f.end.join(f.was)
	}
	s.now = f.end
	if n == 0 {
		s.exit = f.end
		return true
	}
	if up := &s.frames[n-1]; f.outer < n {
		up.outer = min(up.outer, f.outer)
	}
	reached := s.cur >= 0 || f.target && f.op != opLoop || f.thenOK || f.op == opIf && !f.hasEls
	switch {
	case f.open < 0 || !reached:
		s.cur = -1
	case f.outer >= n && f.era == s.era:
		s.cur = f.open
	default:
		s.split(f.open)
	}
	return false
}

// branch notes a branch to a label.
func (s *scan) branch(label uint32) {
	n := len(s.frames) - 1
	to := n - int(label)
	s.frames[to].target = true
	if s.cur >= 0 {
		s.frames[to].end.join(s.now)
	}
	s.frames[n].outer = min(s.frames[n].outer, to)
}

// settle decides which regions pay for others, from the innermost outwards. looks
// says whether the function has to look at what is left as it begins.
func (s *scan) settle(looks bool) {
	for i := len(s.regions) - 1; i > 0; i-- {
		r := &s.regions[i]
		all := r.own + r.folded
		if r.parent < 0 || all == 0 {
			continue
		}
		p := &s.regions[r.parent]
		if r.era == p.era && p.folded+all <= p.own+foldSlack {
			p.folded += all
			r.own, r.folded = 0, 0
		}
	}
	first := &s.regions[0]
	if s.lead > 0 {
		looks = false
		if all := first.own + first.folded; all <= foldLead {
			s.regions[s.lead].folded += all
			first.own, first.folded = 0, 0
		}
	}
	first.check = looks
	for i := range s.regions {
		if r := &s.regions[i]; r.own+r.folded > unchecked {
			r.check = true
		}
	}
}
