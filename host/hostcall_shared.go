package host

import "wproxy/abi"

// hostGetSharedData is proxy_get_shared_data(key, *ptr, *len, *cas).
func hostGetSharedData(v *vm, a []uint64) abi.Status {
	key, ok := v.text(a[0], a[1])
	if !ok || !v.writable32(a[4]) {
		return abi.StatusInvalidMemoryAccess
	}
	value, cas, found := v.p.shared.get(v.buf[:0], key)
	v.buf = value
	v.charge(int64(len(value)) * copyUnits)
	if !found {
		return abi.StatusNotFound
	}
	if status := v.give(value, a[2], a[3]); status != abi.StatusOK {
		return status
	}
	return v.put32(a[4], cas)
}

// hostSetSharedData is proxy_set_shared_data(key, value, cas).
func hostSetSharedData(v *vm, a []uint64) abi.Status {
	key, ok1 := v.text(a[0], a[1])
	value, ok2 := v.view(a[2], a[3])
	if !ok1 || !ok2 {
		return abi.StatusInvalidMemoryAccess
	}
	v.charge(int64(len(value)) * heapUnits)
	return v.p.shared.set(key, value, uint32(a[4]))
}
