package host

import "wproxy/abi"

// hostGetCurrentTime is proxy_get_current_time_nanoseconds(*out u64): the wall
// clock.
func hostGetCurrentTime(v *vm, a []uint64) abi.Status {
	return v.put64(a[0], uint64(v.p.h.o.Now().UnixNano()))
}
