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
// function that looks.

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
	chain  []int  // bytes of a function that does not count, and of such that it calls
	work   []int  // units from a function's beginning until something looks
	table  []bool // can be reached through a table, and calls through one
}

func (g *graph) of(v uint32) []uint32 { return g.calls[g.first[v]:g.first[v+1]] }

// settle decides.
func (g *graph) settle() {
	n := len(g.first) - 1
	g.counts, g.looks = make([]bool, n), make([]bool, n)
	g.chain, g.work = make([]int, n), make([]int, n)
	indirect := uint32(n - 1)
	g.table = g.reach(indirect)
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
	work := g.total[v]
	for _, to := range g.of(v) {
		if !g.counts[to] && !g.looks[to] {
			work = min(work+g.work[to], 2*unchecked)
		}
	}
	g.work[v] = work
	g.looks[v] = work > unchecked
}
