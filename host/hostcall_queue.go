package host

import "wproxy/abi"

// hostRegisterSharedQueue is proxy_register_shared_queue(name, *token): the root of the
// current context becomes the consumer of the queue, which is made if it is not there.
func hostRegisterSharedQueue(v *vm, a []uint64) abi.Status {
	name, ok := v.text(a[0], a[1])
	if !ok || !v.writable32(a[2]) {
		return abi.StatusInvalidMemoryAccess
	}
	base := v.current().base
	if base.closing || len(name) > maxNameBytes {
		v.warn("a queue was not registered: its name is too long, or the plugin is ending")
		return abi.StatusInternalFailure
	}
	token, ok := v.p.h.shared.registerQueue(v.p.shared, name, base)
	if !ok {
		v.warn("a queue was not registered: there are too many with this vm_id")
		return abi.StatusInternalFailure
	}
	return v.put32(a[2], token)
}

// hostResolveSharedQueue is proxy_resolve_shared_queue(vm_id, name, *token). No vm_id
// means the plugin's own.
func hostResolveSharedQueue(v *vm, a []uint64) abi.Status {
	vmID, ok1 := v.text(a[0], a[1])
	name, ok2 := v.text(a[2], a[3])
	if !ok1 || !ok2 || !v.writable32(a[4]) {
		return abi.StatusInvalidMemoryAccess
	}
	if len(name) > maxNameBytes || len(vmID) > maxNameBytes {
		return abi.StatusNotFound
	}
	if vmID == "" {
		vmID = v.p.o.VMID
	}
	token, found, full := v.p.h.shared.resolveQueue(v.p.shared, vmID, name)
	switch {
	case full:
		v.charge(maxKnownQueues * lineUnits) // all of them were looked at
		v.warn("a queue was not resolved: there are too many that this vm_id knows")
		return abi.StatusNotFound
	case !found:
		return abi.StatusNotFound
	}
	return v.put32(a[4], token)
}

// hostEnqueueSharedQueue is proxy_enqueue_shared_queue(token, data). A queue that is full
// is an internal failure, which guests written in Rust do not survive: the bounds are
// such that only a queue that nobody empties meets them.
func hostEnqueueSharedQueue(v *vm, a []uint64) abi.Status {
	data, ok := v.view(a[1], a[2])
	if !ok {
		return abi.StatusInvalidMemoryAccess
	}
	q := v.p.shared.queue(uint32(a[0]))
	if q == nil {
		return abi.StatusNotFound
	}
	v.charge(int64(len(data)) * heapUnits)
	status := q.push(data)
	if status == abi.StatusInternalFailure {
		v.warn("a shared queue is full: data were not put into it")
	}
	return status
}

// hostDequeueSharedQueue is proxy_dequeue_shared_queue(token, *ptr, *len). An item that
// the guest has no room for stays.
func hostDequeueSharedQueue(v *vm, a []uint64) abi.Status {
	if !v.writable32(a[1]) || !v.writable32(a[2]) {
		return abi.StatusInvalidMemoryAccess
	}
	q := v.p.shared.queue(uint32(a[0]))
	if q == nil {
		return abi.StatusNotFound
	}
	item, status := q.pop()
	if status != abi.StatusOK {
		return status
	}
	given := abi.StatusInternalFailure
	defer func() { // also when the allocator traps
		if given != abi.StatusOK {
			q.unpop(item)
		}
	}()
	given = v.give(item, a[1], a[2])
	return given
}
