package h1

// MinSplice is what has to be left of a body for a pipe.
const MinSplice = minSplice

// MaxPipes is how many pipes there are at most.
const MaxPipes = maxPipes

// Pipes returns how many pipes there are, and how many of them rest.
func Pipes() (open, idle int) {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	return pipes.open, len(pipes.idle)
}

// TakePipes uses up n pipes until the function that it returns is called.
func TakePipes(n int) func() {
	var all []*pipe
	for range n {
		if p := takePipe(); p != nil {
			all = append(all, p)
		}
	}
	return func() {
		for _, p := range all {
			p.giveBack()
		}
	}
}

// Watched returns how many connections w knows.
func (w *Watcher) Watched() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for i := range w.slots {
		if w.slots[i].w != nil {
			n++
		}
	}
	return n
}
