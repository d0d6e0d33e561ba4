package host

import (
	"slices"
	"time"
)

// bind returns a VM that has the root, locked and alive: one that is free, the
// most recently used ones first since their memory is warm, else the one with the
// fewest waiting and bound to it.
func (p *Plugin) bind(r *Root) (*vm, *rootContext, error) {
	for {
		vms := p.vms.Load()
		if vms == nil || len(*vms) == 0 {
			return nil, nil, p.noVM()
		}
		var least *vm
		for _, v := range *vms {
			if !v.mu.TryLock() {
				if least == nil || v.load() < least.load() {
					least = v
				}
				continue
			}
			v.clock = v.p.h.elapsed()
			if base := v.serves(r); base != nil {
				return v, base, nil
			}
			v.unlock()
		}
		if least == nil { // none is busy and none has the root: they just died
			if p.vms.Load() != vms { // or others have taken their places
				continue
			}
			return nil, nil, p.noVM()
		}
		p.waits.Add(1)
		p.grow(len(*vms))
		least.lock()
		if base := least.serves(r); base != nil {
			return least, base, nil
		}
		least.unlock() // died, or the root did not start there: another round, one VM fewer
		if !p.alive(least) {
			continue
		}
		return nil, nil, p.noVM()
	}
}

// serves returns the root's context in v if streams can be opened on it; mu is
// held.
func (v *vm) serves(r *Root) *rootContext {
	if v.dead != nil || v.retired {
		return nil
	}
	if base := v.roots[r]; base != nil && !base.closing {
		return base
	}
	return nil
}

// load is how busy v is. A goroutine that waits now counts more than streams that
// may never call again.
func (v *vm) load() int64 { return int64(v.waiting.Load())<<32 + int64(v.bound.Load()) }

func (p *Plugin) alive(v *vm) bool {
	vms := p.vms.Load()
	return vms != nil && slices.Contains(*vms, v)
}

func (p *Plugin) noVM() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return &ClosedError{Plugin: p.o.Name}
	}
	return &NoVMError{Plugin: p.o.Name, Err: p.lastErr}
}

// grow asks for one VM more when all n are busy.
func (p *Plugin) grow(n int) {
	if n >= p.o.Instances {
		return
	}
	p.mu.Lock()
	if p.want == n {
		p.want = n + 1
	}
	p.mu.Unlock()
	p.maintain()
}

// addVMLocked and removeVMLocked change the pool; p.mu is held. The slice that
// readers have is never written to.
func (p *Plugin) addVMLocked(v *vm) {
	p.vms.Store(new(append(slices.Clone(p.list()), v)))
	p.want = max(p.want, len(p.list()))
}

func (p *Plugin) removeVMLocked(v *vm) {
	p.vms.Store(new(slices.DeleteFunc(slices.Clone(p.list()), func(o *vm) bool { return o == v })))
}

// list returns the VMs of the pool.
func (p *Plugin) list() []*vm {
	if vms := p.vms.Load(); vms != nil {
		return *vms
	}
	return nil
}

// vmDied takes a dead VM out of the pool and sees to its replacement.
func (p *Plugin) vmDied(v *vm, trap *TrapError) {
	p.mu.Lock()
	p.removeVMLocked(v)
	p.retired = slices.DeleteFunc(p.retired, func(o *vm) bool { return o == v })
	p.lastErr = trap
	p.traps[trap.Cause]++
	p.want = min(p.want+1, p.o.Instances) // a warm spare: what has crashed may crash again
	p.crash.died(time.Now())
	p.mu.Unlock()
	p.logTrap(trap)
	p.maintain()
}

// maintain starts VMs in the background until there are as many as wanted: in
// place of dead ones, with a growing wait between them, and more under load.
func (p *Plugin) maintain() {
	p.mu.Lock()
	start := !p.maintaining && p.wantsVMLocked()
	p.maintaining = p.maintaining || start
	p.mu.Unlock()
	if start && !p.h.spawn(p.runMaintain) { // ends by itself, or when p.stop is closed
		p.mu.Lock()
		p.maintaining = false
		p.mu.Unlock()
	}
}

func (p *Plugin) wantsVMLocked() bool {
	return !p.stopped && len(p.roots) > 0 && (len(p.list()) < p.want || p.wornLocked() != nil)
}

// waitLocked returns how long to wait before the next VM is started.
func (p *Plugin) waitLocked(now time.Time) time.Duration {
	wait := p.crash.left(now)
	if len(p.list()) >= p.want {
		wait = max(wait, p.recycledAt.Add(recycleEvery).Sub(now))
	}
	return wait
}

func (p *Plugin) runMaintain() {
	for {
		p.mu.Lock()
		if !p.wantsVMLocked() {
			p.maintaining = false
			p.mu.Unlock()
			return
		}
		wait := p.waitLocked(time.Now())
		p.mu.Unlock()
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-p.stop:
				t.Stop()
			}
		}
		p.addVM()
	}
}

// addVM starts one VM with all roots there are and adds it to the pool.
func (p *Plugin) addVM() {
	p.startMu.Lock()
	defer p.startMu.Unlock()
	p.mu.Lock()
	wanted := p.wantsVMLocked()
	replacing := !p.crash.last.IsZero()
	var old *vm // whose place it takes
	if len(p.list()) >= p.want {
		old = p.wornLocked()
	}
	roots := p.liveRootsLocked()
	p.mu.Unlock()
	if !wanted {
		return
	}
	v, err := p.startVM(roots)
	if err == nil {
		err = p.join(v, old)
	}
	if err != nil {
		p.mu.Lock()
		p.lastErr = err
		wait := p.crash.failed(time.Now())
		p.mu.Unlock()
		p.warnf("a VM did not start, next try in %v: %v", wait, err)
		return
	}
	switch {
	case old != nil:
		old.retire()
	case replacing:
		p.restarts.Add(1)
	}
}

// join puts a started VM into the pool, in the place of old if that is not nil and still
// there. Roots that were closed meanwhile are
// drained: whoever closed them did not see this VM. The error tells that the VM
// died before it got there (a tick may have run already).
func (p *Plugin) join(v, old *vm) error {
	v.lock()
	if v.dead != nil {
		defer v.unlock()
		return v.dead
	}
	v.joined, v.size = true, v.mem.Size()
	p.mu.Lock()
	if old != nil && slices.Contains(p.list(), old) {
		p.replaceLocked(old, v)
	} else {
		p.addVMLocked(v)
	}
	p.mu.Unlock()
	v.serve()
	for r, base := range v.roots {
		if r.refs.Load() == 0 {
			v.drainLocked(base)
		}
	}
	v.unlock()
	return nil
}

// startVM makes an instance with the given roots. The error is a *StartError.
func (p *Plugin) startVM(roots []*Root) (*vm, error) {
	v, err := p.newVM()
	if err != nil {
		return nil, err
	}
	for _, r := range roots {
		v.lock()
		err := v.startRoot(r)
		v.unlock()
		if err != nil {
			v.kill(&ClosedError{Plugin: p.o.Name})
			return nil, err
		}
	}
	return v, nil
}
