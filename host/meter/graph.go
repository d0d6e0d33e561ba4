package meter

// Which functions count how deep calls go: those that can be on the stack more than
// once, because they are in a cycle of calls, and those with large frames. All others
// are there once at the most, and what they can take together is known.

// A graph is who calls whom among the defined functions. Function n is node n; one
// more node stands for what can be reached through a table: who has a call_indirect
// calls it, and it calls every function that has been taken.
type graph struct {
	first   []int    // where the calls of each node begin in calls; one more than nodes
	calls   []uint32 // nodes
	frame   []int    // bytes of stack
	counted []bool
	longest int // bytes that uncounted functions can take together
}

// A visit is a node whose calls are being followed.
type visit struct {
	node uint32
	next int
}

// A tarjan is the state of Tarjan's algorithm for strongly connected components,
// without recursion: guests may have 100,000 functions in a row.
type tarjan struct {
	g     *graph
	index []int // order of discovery, from 1; 0: not seen
	low   []int
	on    []bool
	stack []uint32
	chain []int // bytes of uncounted functions from here on
	seen  int
	work  []visit
}

// count decides which functions count.
func (g *graph) count() {
	n := len(g.first) - 1
	t := &tarjan{g: g, index: make([]int, n), low: make([]int, n), on: make([]bool, n), chain: make([]int, n)}
	g.counted = make([]bool, n)
	for v := range n {
		if t.index[v] == 0 {
			t.from(uint32(v))
		}
	}
	if g.longest > uncountedChain {
		for v := range g.counted {
			g.counted[v] = true
		}
	}
}

func (t *tarjan) push(v uint32) {
	t.seen++
	t.index[v], t.low[v], t.on[v] = t.seen, t.seen, true
	t.stack = append(t.stack, v)
	t.work = append(t.work, visit{v, t.g.first[v]})
}

func (t *tarjan) from(root uint32) {
	t.push(root)
	for len(t.work) > 0 {
		w := &t.work[len(t.work)-1]
		v := w.node
		if w.next < t.g.first[v+1] {
			to := t.g.calls[w.next]
			w.next++
			switch {
			case t.index[to] == 0:
				t.push(to)
			case t.on[to]:
				t.low[v] = min(t.low[v], t.index[to])
			}
			continue
		}
		t.work = t.work[:len(t.work)-1]
		if len(t.work) > 0 {
			up := t.work[len(t.work)-1].node
			t.low[up] = min(t.low[up], t.low[v])
		}
		if t.low[v] == t.index[v] {
			t.component(v)
		}
	}
}

// component takes a component off the stack, all of whose calls to others lead to
// components that are done.
func (t *tarjan) component(root uint32) {
	from := len(t.stack) - 1
	for t.stack[from] != root {
		from--
	}
	nodes := t.stack[from:]
	t.stack = t.stack[:from]
	chain, cycle := 0, len(nodes) > 1
	for _, v := range nodes {
		t.on[v] = false
		for _, to := range t.g.calls[t.g.first[v]:t.g.first[v+1]] {
			chain = max(chain, t.chain[to]) // 0 for those of this component
			cycle = cycle || to == v
		}
	}
	for _, v := range nodes {
		t.g.counted[v] = cycle || t.g.frame[v] > uncountedFrame
		if !t.g.counted[v] {
			chain += t.g.frame[v] // the component is this one alone
		}
	}
	for _, v := range nodes {
		t.chain[v] = chain
	}
	t.g.longest = max(t.g.longest, chain)
}
