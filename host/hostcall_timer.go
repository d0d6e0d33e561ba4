package host

import (
	"time"

	"wproxy/abi"
)

// hostSetTickPeriod is proxy_set_tick_period_milliseconds(ms): the tick of the
// current context's root. 0 turns it off; a new period starts anew.
func hostSetTickPeriod(v *vm, a []uint64) abi.Status {
	base := v.current().base
	period := time.Duration(uint32(a[0])) * time.Millisecond
	if base.closing {
		period = 0
	}
	base.tick = period
	if period > 0 {
		base.tick = max(period, minTick)
		base.due = v.p.now(time.Now()).Add(base.tick)
		v.kickTimer()
	}
	return abi.StatusOK
}
