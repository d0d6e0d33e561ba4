package host

import (
	"errors"

	"wproxy/abi"
)

// Ids of contexts. Most guests get a new one for each context. One that knows
// abi.ExportStreamSlots gets ids of slots, and is not told of the beginning and the end
// of a stream: two calls fewer for each.

const (
	slotLimit = 1 << abi.StreamSlotBits // slots have numbers below
	firstUse  = slotLimit               // added to a slot's number: the id of its first stream
)

var errStreams = errors.New("one VM has all streams that it can tell apart")

// newID returns an id that no live context has. With slots it is below those of streams.
func (v *vm) newID() uint32 {
	for {
		v.nextID++
		if v.nextID == 0 || v.p.slots && v.nextID == slotLimit {
			v.nextID = 0
			v.reused = true
			continue
		}
		if !v.reused {
			return v.nextID
		}
		if _, used := v.contexts[v.nextID]; !used {
			return v.nextID
		}
	}
}

// streamID returns an id for a stream of base; known tells that the guest has a context
// for it, or will make one by itself. ok is false when there are too many streams.
func (v *vm) streamID(base *rootContext) (id uint32, known, ok bool) {
	if !v.p.slots {
		return v.newID(), false, true
	}
	if n := len(base.idle); n > 0 {
		id = base.idle[n-1]
		base.idle = base.idle[:n-1]
		return nextUse(id), true, true
	}
	if n := len(v.slots); n > 0 {
		id = v.slots[n-1]
		v.slots = v.slots[:n-1]
		return nextUse(id), false, true
	}
	if v.lastSlot == slotLimit-1 {
		return 0, false, false
	}
	v.lastSlot++
	return v.lastSlot + firstUse, false, true
}

// nextUse returns the id of the stream that has the slot after that of id.
func nextUse(id uint32) uint32 {
	if id += slotLimit; id < slotLimit { // around
		id += firstUse
	}
	return id
}

// deleteContext calls on_delete, or frees the slot of a stream; a root gives up all
// its slots first. False if the VM has died.
func (v *vm) deleteContext(c *Context) bool {
	if c.stream != nil && v.p.slots {
		c.base.idle = append(c.base.idle, c.id)
		return true
	}
	if c.stream == nil {
		for _, id := range c.base.idle {
			if _, ok := v.call(c, CallDelete, uint64(id)); !ok {
				return false
			}
		}
		v.slots = append(v.slots, c.base.idle...)
		c.base.idle = nil
	}
	_, ok := v.call(c, CallDelete, uint64(c.id))
	return ok
}
