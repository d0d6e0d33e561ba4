package wasmfilter

import "slices"

// body is what a direction holds of a message's body. It is guarded by
// Exchange.Mu, as a guest may look at a body that is held back from outside the
// direction's callbacks.
type body struct {
	// visible is what the guest sees: the caller's chunk, or store if owned.
	visible []byte
	owned   bool
	open    bool // there is something to see, if only an empty body
	base    int  // bytes of visible that were there before the latest chunk

	kept   []byte // held back, not visible any more; goes before visible
	store  []byte // memory of visible when owned; reused
	edited bool   // the guest has changed the body at some time
}

// size returns the number of bytes held back.
func (b *body) size() int { return len(b.kept) + len(b.visible) }

// show makes p, which is borrowed, visible after what is visible already.
func (b *body) show(p []byte) {
	b.open, b.base = true, 0
	if b.owned {
		b.base = len(b.visible)
		b.visible = append(b.visible, p...)
		b.store = b.visible
		return
	}
	b.visible = p
}

// own copies what is visible, so that it outlives the caller's chunk.
func (b *body) own() {
	if b.owned {
		return
	}
	b.store = append(b.store[:0], b.visible...)
	b.visible, b.owned = b.store, true
}

// keep moves what is visible out of sight, still to be passed on.
func (b *body) keep() {
	b.kept = append(b.kept, b.visible...)
	b.visible, b.owned, b.open = nil, false, false
}

// drop forgets the latest chunk.
func (b *body) drop() {
	b.edited = b.edited || len(b.visible) > 0
	if b.owned {
		b.visible = b.visible[:min(b.base, len(b.visible))]
		return
	}
	b.visible, b.open = nil, false
}

// take hands out what is held back, in order, and leaves the body empty. The
// slices are valid until the next show.
func (b *body) take() (kept, visible []byte) {
	kept, visible = b.kept, b.visible
	b.kept, b.visible, b.owned, b.open = nil, nil, false, false
	return kept, visible
}

// replace replaces the bytes [start, start+size) of what is visible, clamped, by
// data; false if it would grow past limit.
func (b *body) replace(start, size int, data []byte, limit int) bool {
	start = min(max(start, 0), len(b.visible))
	size = min(max(size, 0), len(b.visible)-start)
	if n := len(b.visible) - size + len(data); n > len(b.visible) && len(b.kept)+n > limit {
		return false
	}
	b.edited = true
	b.own()
	b.visible = slices.Replace(b.visible, start, start+size, data...)
	b.store = b.visible
	return true
}

// recycle returns the memory to use for the next exchange.
func (b *body) recycle() []byte {
	if cap(b.store) > keepBuffer {
		return nil
	}
	return b.store[:0]
}

// Bytes implements host.Buffer. The goroutine that is in the direction waits for the
// callback that asks, and leaves what is visible alone until then.
func (d *half) Bytes() []byte {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	return d.body.visible
}

// Append implements host.Buffer.
func (d *half) Append(dst []byte) []byte {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	if d.over {
		return dst // the feeder may have its memory back
	}
	return append(dst, d.body.visible...)
}

// Replace implements host.Buffer. After a resume the body is on its way, and
// edits have no effect any more.
func (d *half) Replace(start, size int, data []byte) bool {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	if !d.body.open || d.resume && d.parked || d.over || d.f.x.ClosingLocked() {
		return true
	}
	if !d.body.replace(start, size, data, d.limitLocked()) {
		d.overflowLocked(bodyTooLarge)
	}
	return true
}

// End implements host.Buffer.
func (d *half) End() bool {
	d.f.x.Mu.Lock()
	defer d.f.x.Mu.Unlock()
	return d.ended && d.trailer == nil
}
