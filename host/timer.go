package host

import "time"

// A vmTimer is the goroutine that calls on_tick, and ends contexts whose
// proxy_done does not come. It exists only while something is due some time.
type vmTimer struct {
	wake    chan struct{} // capacity 1: look again
	running bool          // guarded by vm.mu
}

// poke makes the goroutine look again. It does not block.
func (t *vmTimer) poke() {
	select {
	case t.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// kickTimer is called after something became due earlier; mu is held.
func (v *vm) kickTimer() {
	switch {
	case v.p.h.o.ManualTicks:
	case v.timer.running:
		v.timer.poke()
	default:
		// Ends when nothing is due, or after the VM has died, which pokes it.
		v.timer.running = v.p.h.spawn(v.runTimer)
	}
}

func (v *vm) runTimer() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		v.lock()
		v.runDue(v.time())
		due, ok := v.nextDue()
		if !ok {
			v.timer.running = false
			v.unlock()
			return
		}
		v.unlock()
		t.Reset(time.Until(due))
		select {
		case <-t.C:
		case <-v.timer.wake:
		}
	}
}

// nextDue returns when the goroutine has to look again; false when there is
// nothing to wait for. mu is held.
func (v *vm) nextDue() (due time.Time, ok bool) {
	if v.dead != nil {
		return due, false
	}
	earlier := func(t time.Time) {
		if !ok || t.Before(due) {
			due, ok = t, true
		}
	}
	for _, base := range v.roots {
		if base.tick > 0 {
			earlier(base.due)
		}
		if base.ending {
			earlier(base.expires)
		}
	}
	if len(v.delayed) > 0 {
		earlier(v.delayed[0].expires)
	}
	return due, ok
}

// runDue calls on_tick of the roots whose time has come and ends what has waited
// for proxy_done for too long. It returns the number of ticks. mu is held.
func (v *vm) runDue(now time.Time) int {
	ticks := 0
	for _, base := range v.rootList() {
		switch {
		case v.dead != nil:
			return ticks
		case base.ending && !now.Before(base.expires):
			base.ending = false
			v.ended = append(v.ended, &base.Context)
		case base.tick > 0 && !now.Before(base.due):
			ticks++
			v.call(&base.Context, CallTick, uint64(base.id))
			// Armed again only now: ticks do not overlap and are not made
			// up for.
			base.due = v.deadlineClock().Add(base.tick)
		}
	}
	for len(v.delayed) > 0 && !now.Before(v.delayed[0].expires) {
		v.doneLate(v.delayed[0])
	}
	return ticks
}

// endSome makes the last calls of contexts that have ended. A guest can end all that wait
// for proxy_done in one callback, and each call may take its whole budget: whoever made the
// callback does some, and the timer's goroutine the others. mu is held.
func (v *vm) endSome() {
	began := v.clock
	for n := 0; v.dead == nil && len(v.ended) > 0; n++ {
		if n >= endsAtOnce || n > 0 && v.clock-began > slowAfter {
			if v.kickTimer(); v.timer.running {
				return
			}
		}
		c := v.ended[0]
		v.ended = v.ended[:copy(v.ended, v.ended[1:])]
		v.end(c)
	}
}

// rootList returns the roots, so that a callback may end one meanwhile.
func (v *vm) rootList() []*rootContext {
	list := make([]*rootContext, 0, len(v.roots))
	for _, base := range v.roots {
		list = append(list, base)
	}
	return list
}

// doneLate ends a stream that has waited for proxy_done, when the outermost call
// is over.
func (v *vm) doneLate(c *Context) {
	c.ending = false
	for i, d := range v.delayed {
		if d == c {
			v.delayed = append(v.delayed[:i], v.delayed[i+1:]...)
			v.waiters -= c.size
			break
		}
	}
	v.ended = append(v.ended, c)
}
