package meter

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A writer puts the rewritten module together.
type writer struct {
	m    *module
	fuel uint32 // indices of the added globals
	room uint32
	out  []byte
	scan scan

	types    []funcType // added ones
	helpers  []helper
	helperOf map[helperKey]uint32
	refs     int               // functions that ref.func names
	refOf    map[uint32]uint32 // the global that each of them is kept in

	free    []bool // functions that their callers pay for
	graph   graph
	bodyBuf []byte
}

// Added types have fixed numbers behind those of the original.
func (w *writer) typeIndex(t funcType) uint32 {
	for i, u := range w.types {
		if slices.Equal(t.params, u.params) && slices.Equal(t.results, u.results) {
			return uint32(len(w.m.types) + i)
		}
	}
	w.types = append(w.types, t)
	return uint32(len(w.m.types) + len(w.types) - 1)
}

// measure goes through all functions once: what each costs, whom it calls.
func (w *writer) measure() error {
	n := len(w.m.bodies)
	w.free = make([]bool, n)
	g := &w.graph
	g.first, g.frame, g.total = make([]int, 0, n+2), make([]int, n+1), make([]int, n+1)
	s := &w.scan
	s.callee, s.g = nil, nil
	squares := 0
	for f := range n {
		g.first = append(g.first, len(g.calls))
		s.reset(w.m, f)
		for done := false; !done; {
			var err error
			if done, err = s.step(); err != nil {
				return err
			}
			if (s.op == opCall || s.op == opReturnCall) && s.x >= w.m.imported {
				g.calls = append(g.calls, s.x-w.m.imported)
			}
		}
		if s.left() > 0 {
			s.bad, s.at = true, s.pos
			return s.refuse()
		}
		squares += s.blocks * s.blocks
		if s.blocks > maxBlocks || squares > maxBlockSquares {
			return w.tooLong(f, s.blocks)
		}
		if s.indirect {
			g.calls = append(g.calls, uint32(n))
		}
		g.total[f] = s.total
		w.free[f] = s.loops == 0 && s.calls == 0 && !s.bulk && s.total <= freeFunc
		w.m.info.Loops += s.loops
		g.frame[f] = w.frameOf(f, s.size)
	}
	g.first = append(g.first, len(g.calls))
	for f := range n {
		if w.m.taken[w.m.imported+uint32(f)] {
			g.calls = append(g.calls, uint32(f))
		}
	}
	g.first = append(g.first, len(g.calls))
	s.callee, s.g = w.callCost, g
	g.scan = w.follow
	g.settle()
	return nil
}

// tooLong is the error of a module that would take too long to compile with function
// f, which has so many blocks.
func (w *writer) tooLong(f, blocks int) error {
	what := fmt.Sprintf("function %d has %d blocks, loops and branches", w.m.imported+uint32(f), blocks)
	if blocks > maxBlocks {
		return fmt.Errorf("%s (a loop is counted as %d), the limit is %d: it would take too long to compile", what, loopBlocks, maxBlocks)
	}
	return fmt.Errorf("%s, and with those before it the module would take too long to compile: split the large functions", what)
}

// follow goes through a function that has been read before, for its summary.
func (w *writer) follow(f uint32) summary {
	s := &w.scan
	s.reset(w.m, int(f))
	for done := false; !done; {
		var err error
		if done, err = s.step(); err != nil {
			break // cannot be
		}
	}
	return s.summary()
}

// frameOf is what a call of a function is taken to need of the stack, in bytes.
func (w *writer) frameOf(f, size int) int {
	t := w.m.typeOfFunc(w.m.imported + uint32(f))
	b := &w.m.bodies[f]
	return frameBytes + frameLocal*(len(t.params)+len(t.results)+int(b.locals+b.wide)) + size
}

// callCost is what a call of a function costs beside the call itself.
func (w *writer) callCost(f uint32) int {
	if f < w.m.imported {
		return 0 // host functions are charged by the host
	}
	if d := f - w.m.imported; w.free[d] {
		return w.graph.total[d]
	}
	return 0
}

// charge takes cost off the fuel, and looks at what is left.
func (w *writer) charge(b []byte, cost int, left uint32, check bool) []byte {
	b = uleb(append(b, opGlobalGet), w.fuel)
	b = append(sleb(append(b, opI64Const), int64(cost)), opI64Sub)
	if check {
		b = uleb(append(b, opLocalTee), left)
	}
	b = uleb(append(b, opGlobalSet), w.fuel)
	if !check {
		return b
	}
	return w.look(uleb(append(b, opLocalGet), left))
}

// look calls refill if the number on the stack is negative.
func (w *writer) look(b []byte) []byte {
	b = append(b, opI64Const, 0, opI64LtS, opIf, typeEmpty, opCall)
	return append(uleb(b, w.m.imported), opEnd)
}

// enter is what a function that counts begins with: fuel and room, one look at both.
// Without a cost it is the room alone.
func (w *writer) enter(b []byte, cost, frame int, left uint32) []byte {
	if cost > 0 {
		b = uleb(append(b, opGlobalGet), w.fuel)
		b = append(sleb(append(b, opI64Const), int64(cost)), opI64Sub)
		b = uleb(append(b, opLocalTee), left)
		b = uleb(append(b, opGlobalSet), w.fuel)
	}
	b = uleb(append(b, opGlobalGet), w.room)
	b = append(sleb(append(b, opI64Const), int64(frame)), opI64Sub)
	b = uleb(append(b, opLocalTee), left+1)
	b = uleb(append(b, opGlobalSet), w.room)
	b = uleb(append(b, opLocalGet), left+1)
	if cost > 0 {
		b = append(uleb(append(b, opLocalGet), left), opI64Or)
	}
	return w.look(b)
}

// exit gives back the room of a function, and looks at the fuel if it has to.
func (w *writer) exit(b []byte, frame int, look bool) []byte {
	if look {
		b = w.look(uleb(append(b, opGlobalGet), w.fuel))
	}
	b = uleb(append(b, opGlobalGet), w.room)
	b = append(sleb(append(b, opI64Const), int64(frame)), opI64Add)
	return uleb(append(b, opGlobalSet), w.room)
}

// function appends the rewritten body of a defined function, without its size. A
// function that counts is wrapped into a block, which takes the place of the
// function's own label: whatever leaves the function by a branch, or by a return
// turned into one, leaves the block, and the room is given back behind it.
func (w *writer) function(b []byte, f int) ([]byte, error) {
	s := &w.scan
	s.reset(w.m, f)
	for done := false; !done; {
		var err error
		if done, err = s.step(); err != nil {
			return nil, err
		}
	}
	s.settle(w.graph.looks[f])
	src := &w.m.bodies[f]
	counted, free := w.graph.counts[f], w.free[f]
	left := s.locals
	frame := w.graph.frame[f]
	b = w.locals(b, src, counted, free)
	if counted {
		w.m.info.Counted++
		first := &s.regions[0]
		cost := first.own + first.folded
		if free {
			cost = 0
		}
		b = w.enter(b, cost, frame, left)
		b = append(b, opBlock)
		b = w.resultType(b, w.m.typeOfFunc(w.m.imported+uint32(f)).results)
		first.own, first.folded = 0, 0
	}
	b, err := w.copyBody(b, f, counted, free)
	if err != nil {
		return nil, err
	}
	if counted {
		b = w.exit(append(b, opEnd), frame, w.graph.ends[f])
	}
	return append(b, opEnd), nil
}

// locals copies the declarations of local variables and adds what charges need.
func (w *writer) locals(b []byte, src *body, counted, free bool) []byte {
	r := reader{b: src.code}
	groups := r.u32()
	n := byte(1)
	switch {
	case counted:
		n = 2
	case free:
		return append(b, src.code[:src.expr]...)
	}
	b = uleb(b, groups+1)
	b = append(b, src.code[r.pos:src.expr]...)
	return append(b, n, typeI64)
}

// copyBody copies instructions with charges between, up to but without the
// function's end. The regions are those of the last scan.
func (w *writer) copyBody(b []byte, f int, counted, free bool) ([]byte, error) {
	s := &w.scan
	src := &w.m.bodies[f]
	left := s.locals
	regions := s.regions
	d := decoder{reader: reader{b: src.code, pos: src.expr, base: src.base}, m: w.m, locals: s.locals, targets: s.targets}
	from, next := src.expr, 0
	depth := uint32(0)
	for {
		for next < len(regions) && regions[next].at <= d.pos {
			r := &regions[next]
			next++
			cost := r.own + r.folded
			if free || cost == 0 && !r.check || r.isFunc && counted {
				continue
			}
			b = append(b, src.code[from:r.at]...)
			from = r.at
			b = w.charge(b, cost, left, r.check)
		}
		d.nesting = depth
		if err := d.next(); err != nil {
			return nil, err // cannot be: it was read before
		}
		switch d.op {
		case opBlock, opLoop, opIf:
			depth++
		case opEnd:
			if depth == 0 {
				return append(b, src.code[from:d.at]...), nil
			}
			depth--
		}
		if !w.changes(&d, counted) {
			continue
		}
		b = append(b, src.code[from:d.at]...)
		from = d.pos
		b = w.replace(b, &d, f, counted)
	}
}

// changes tells whether an instruction is not copied as it is.
func (w *writer) changes(d *decoder, counted bool) bool {
	switch d.op {
	case opCall, opRefFunc:
		return d.x >= w.m.imported
	case opReturn:
		return counted
	case opReturnCall, opReturnCallIndirect:
		return true
	case opMisc:
		return helperFor(d.op, d.sub)
	}
	return false
}

func (w *writer) replace(b []byte, d *decoder, f int, counted bool) []byte {
	switch d.op {
	case opReturn:
		return uleb(append(b, opBr), d.nesting)
	case opMisc:
		return uleb(append(b, opCall), w.helper(d))
	}
	if counted && d.op != opCall && d.op != opRefFunc { // a tail call leaves the function
		b = w.exit(b, w.graph.frame[f], w.graph.ends[f])
	}
	if d.op == opRefFunc {
		return w.reference(b, d.x)
	}
	if d.op == opReturnCallIndirect {
		return append(b, d.b[d.at:d.pos]...)
	}
	return uleb(append(b, d.op), w.m.renumber(d.x))
}

// reference appends what takes the place of ref.func. The runtime makes a reference anew
// each time, of Go's memory, and keeps all of them for as long as the instance: a loop
// takes a hundred megabytes in milliseconds. So each function's is made once, and kept in
// a global variable.
func (w *writer) reference(b []byte, f uint32) []byte {
	g, ok := w.refOf[f]
	if !ok {
		g = w.room + 1 + uint32(w.refs)
		w.refs++
		w.refOf[f] = g
	}
	b = append(uleb(append(b, opGlobalGet), g), opRefIsNull, opIf, typeEmpty)
	b = uleb(append(b, opRefFunc), w.m.renumber(f))
	b = append(uleb(append(b, opGlobalSet), g), opEnd)
	return uleb(append(b, opGlobalGet), g)
}

// resultType appends the type of a block that takes nothing and leaves results.
func (w *writer) resultType(b, results []byte) []byte {
	switch len(results) {
	case 0:
		return append(b, typeEmpty)
	case 1:
		return append(b, results[0])
	}
	return sleb(b, int64(w.typeIndex(funcType{results: results})))
}

func uleb(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
