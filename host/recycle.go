package host

import (
	"slices"
	"time"
)

// Replacing VMs that are alive, because they have served for long or have grown: linear
// memory never shrinks. A replacement starts first and takes the place of the old VM in
// the pool. The old one serves the streams that it has, its roots end when the last of
// them has (on_done, on_delete), and then it is freed.

// wornOut reports whether the VM is to be replaced; mu is held.
func (v *vm) wornOut() bool {
	o := &v.p.o
	switch {
	case v.rebuild:
	case o.RecycleRequests > 0 && v.served >= o.RecycleRequests:
	case o.RecycleMemory > 0 && int64(v.mem.Size()) >= o.RecycleMemory && v.mem.Size() > v.size:
		// But not for what it needs from the start: its successor would need it too.
	default:
		return false
	}
	return true
}

// wear asks for a replacement if the VM is to be replaced. It is called at the end of
// every call; mu is held.
func (v *vm) wear() {
	if v.worn || !v.joined || v.dead != nil || !v.wornOut() {
		return
	}
	v.worn = true
	v.after = append(v.after, func() {
		v.p.mu.Lock()
		v.p.worn = append(v.p.worn, v)
		v.p.mu.Unlock()
		v.p.maintain()
	})
}

// wornLocked returns a VM that waits for its replacement, if there may be one more VM
// that serves out its streams. p.mu is held.
func (p *Plugin) wornLocked() *vm {
	vms := p.list()
	p.worn = slices.DeleteFunc(p.worn, func(v *vm) bool { return !slices.Contains(vms, v) })
	if len(p.worn) == 0 || len(p.retired) >= p.o.Instances {
		return nil
	}
	return p.worn[0]
}

// replaceLocked puts v in the place of old, at once, so that a stream always finds one
// of them. p.mu is held.
func (p *Plugin) replaceLocked(old, v *vm) {
	list := slices.Clone(p.list())
	list[slices.Index(list, old)] = v
	p.vms.Store(&list)
	p.retired = append(p.retired, old)
	p.worn = slices.DeleteFunc(p.worn, func(o *vm) bool { return o == old })
	p.recycledAt = time.Now()
	p.recycled.Add(1)
}

// retire has v take no more streams, and end when it has none.
func (v *vm) retire() {
	v.lock()
	v.retired = true
	v.unlock()
}

// windUp ends a retired VM that has no streams any more; mu is held.
func (v *vm) windUp() {
	if v.dead != nil || len(v.contexts) > len(v.roots) {
		return
	}
	for _, base := range v.rootList() {
		v.drainLocked(base)
	}
	if v.dead == nil && len(v.roots) == 0 {
		v.die(&ClosedError{Plugin: v.p.o.Name}, nil)
		v.after = append(v.after, func() { v.p.dropRetired(v) })
	}
}

// dropRetired forgets a VM that has ended, which makes room for others to.
func (p *Plugin) dropRetired(v *vm) {
	p.mu.Lock()
	p.retired = slices.DeleteFunc(p.retired, func(o *vm) bool { return o == v })
	p.mu.Unlock()
	p.maintain()
}

// all returns the VMs of the pool and those that serve out their streams.
func (p *Plugin) all() []*vm {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.list(), p.retired)
}
