package tcp

import "time"

// deadline returns when the connection's time is over; zero: never.
func (c *conn) deadline() time.Time {
	if c.route.Timeout <= 0 {
		return time.Time{}
	}
	return c.start.Add(c.route.Timeout)
}

// watch starts the connection's clock: one timer for both its times, which looks at the byte
// counts instead of being set anew with each read.
func (c *conn) watch() {
	first, ok := c.nextLook(time.Now())
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.timer = time.AfterFunc(first, c.look) // stopped by end
	}
}

// nextLook returns when there is something to look at; false: never.
func (c *conn) nextLook(now time.Time) (time.Duration, bool) {
	wait := c.route.idle() / idleLooks
	if dl := c.deadline(); !dl.IsZero() && (wait == 0 || dl.Sub(now) < wait) {
		wait = max(dl.Sub(now), 1)
	}
	return wait, wait > 0
}

// look ends a connection whose time is over, or that has rested for too long.
func (c *conn) look() {
	now := time.Now()
	if dl := c.deadline(); !dl.IsZero() && !now.Before(dl) {
		c.abort(reasonTimeout, false)
		return
	}
	if sum := c.in.Load() + c.out.Load() + c.heard.Load(); sum != c.seen {
		c.seen, c.quiet = sum, 0
	} else if c.quiet++; c.route.idle() > 0 && c.quiet >= idleLooks {
		c.abort(reasonIdle, false)
		return
	}
	wait, _ := c.nextLook(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.timer.Reset(wait)
	}
}
