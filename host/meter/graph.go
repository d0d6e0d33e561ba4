package meter

// Which functions count how deep calls go, and which look at the fuel as they begin.
//
// A stack grows without bound only through a cycle of calls, so it is enough that
// every cycle has one function that counts; which ones is found by following calls and
// taking those that are met again. Calls through a table can lead to any function that
// has been taken: whoever makes them counts, if it can be reached that way itself.
// Functions that do not count have a price still: the longest chain of them that can be
// between two that count is bounded, and a part of it is in the price of the upper one.
//
// In the same way, a function need not look at the fuel as it begins if it, and all
// that it calls up to others that look, cannot do much work; the cycles have a
// function that looks. Who calls it counts that work as its own (flow.go). Through a
// table one cannot know whom one calls, so functions that have been taken look unless
// they are quite small.

// A graph is who calls whom among the defined functions. Function n is node n; one
// more node stands for what can be reached through a table: who has a call_indirect
// calls it, and it calls every function that has been taken.
type graph struct {
	first []int    // where the calls of each node begin in calls; one more than nodes
	calls []uint32 // nodes
	frame []int    // bytes of stack; after settle what one that counts charges
	total []int    // units of its instructions

	counts []bool // functions that count
	looks  []bool // functions that look at the fuel as they begin
	ends   []bool // functions that look at the fuel as they end
	chain  []int  // bytes of a function that does not count, and of such that it calls
	table  []bool // can be reached through a table, and calls through one
	taken  []bool // can be called through a table

	sums []summary              // of functions that have been followed
	scan func(f uint32) summary // follows one, after all that it calls and that does not count
}

func (g *graph) of(v uint32) []uint32 { return g.calls[g.first[v]:g.first[v+1]] }

// settle decides.
func (g *graph) settle() {
	n := len(g.first) - 1
	g.counts, g.looks = make([]bool, n), make([]bool, n)
	g.ends, g.taken, g.sums = make([]bool, n), make([]bool, n), make([]summary, n)
	g.chain = make([]int, n)
	indirect := uint32(n - 1)
	g.table = g.reach(indirect)
	for _, f := range g.of(indirect) {
		g.taken[f] = true
	}
	for v := range n - 1 {
		for _, to := range g.of(uint32(v)) {
			if to == indirect && g.table[v] {
				g.counts[v] = true
			}
		}
		g.counts[v] = g.counts[v] || g.frame[v] > uncountedFrame
	}
	g.counts[indirect] = true // it is no function: nothing is followed through it
	g.follow()
	for v := range n - 1 {
		if g.counts[v] {
			g.frame[v] += g.below(uint32(v)) / chainShare
			g.looks[v] = true
		}
	}
}

// reach returns what can be reached from a node.
func (g *graph) reach(from uint32) []bool {
	seen := make([]bool, len(g.first)-1)
	seen[from] = true
	for todo := []uint32{from}; len(todo) > 0; {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range g.of(v) {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	return seen
}

// A visit is a node whose calls are being followed.
type visit struct {
	node uint32
	next int
}

// follow goes through all calls in depth, without recursion of its own: guests may
// have 100,000 functions in a row. Every cycle of functions that do not count yet has
// a call to one that is being followed; that one counts from then on.
func (g *graph) follow() {
	const (
		unseen = iota
		open
		done
	)
	state := make([]byte, len(g.first)-1)
	var path []visit
	for root := range state {
		if state[root] != unseen {
			continue
		}
		state[root] = open
		path = append(path, visit{uint32(root), g.first[root]})
		for len(path) > 0 {
			w := &path[len(path)-1]
			v := w.node
			if w.next == g.first[v+1] {
				path = path[:len(path)-1]
				state[v] = done
				g.close(v)
				continue
			}
			to := g.calls[w.next]
			w.next++
			switch state[to] {
			case unseen:
				if !g.counts[to] { // it is a root of its own otherwise
					state[to] = open
					path = append(path, visit{to, g.first[to]})
				}
			case open:
				g.counts[to] = true
			}
		}
	}
}

// below is the longest chain of functions that do not count among those that v calls.
func (g *graph) below(v uint32) int {
	longest := 0
	for _, to := range g.of(v) {
		if !g.counts[to] {
			longest = max(longest, g.chain[to])
		}
	}
	return longest
}

// close decides about a function after all that it calls.
func (g *graph) close(v uint32) {
	g.chain[v] = g.frame[v] + g.below(v)
	if g.chain[v] > uncountedChain {
		g.counts[v] = true
	}
	if v == uint32(len(g.counts)-1) { // calls through a table
		return
	}
	sum := g.scan(v)
	if g.taken[v] && sum.tail.unwind > frameBytes/unwindShare {
		g.counts[v] = true // whoever calls it through a table does not know of that
	}
	g.looks[v] = g.counts[v] || sum.work > smallWork || g.taken[v] && sum.work > takenWork
	g.ends[v] = g.counts[v] && sum.tail.unwind > g.frame[v]/unwindShare
	sum.has = sum.has || g.looks[v]
	g.sums[v] = sum
}
