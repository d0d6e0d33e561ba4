package tcp

// SetMaxPipes bounds the pipes of p, before it serves.
func (p *Proxy) SetMaxPipes(n int64) { p.pipes.most = n }

// Pipes returns how many pipes there are.
func (p *Proxy) Pipes() int64 { return p.pipes.made.Load() }
