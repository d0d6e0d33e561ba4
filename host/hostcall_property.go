package host

import (
	"bytes"
	"strings"
	"time"

	"wproxy/abi"
)

// hostGetProperty is proxy_get_property(path, *ptr, *len).
func hostGetProperty(v *vm, a []uint64) abi.Status {
	path, ok := v.text(a[0], a[1])
	if !ok {
		return abi.StatusInvalidMemoryAccess
	}
	value, ok := v.property(path)
	if !ok {
		return abi.StatusNotFound
	}
	return v.giveString(value, a[2], a[3])
}

// property returns the property at path. The host itself knows the plugin; the rest is the
// stream's. A root has the plugin's properties and those that were set on it. The value is
// borrowed until the next is asked for.
func (v *vm) property(path string) (string, bool) {
	path = abi.TrimPath(path)
	switch path {
	case "":
		return "", false
	case "plugin_name":
		return v.p.o.Name, true
	case "plugin_root_id":
		return v.p.o.RootID, true
	case "plugin_vm_id":
		return v.p.o.VMID, true
	case "plugin_vm_memory": // of Higress
		v.buf = abi.AppendUint(v.buf[:0], uint64(v.mem.Size()))
		return borrow(v.buf), true
	}
	c := v.current()
	if c.stream == nil {
		value, ok := c.base.props[path]
		return borrow(value), ok
	}
	if len(path) > maxNameBytes {
		return "", false
	}
	slow := slowProperty(path)
	var began time.Duration
	if slow {
		began = v.p.h.elapsed()
	}
	value, ok := c.stream.Property(v.buf[:0], path)
	if slow {
		v.chargeSince(began, 0, propertyMostUnits)
	}
	if !ok {
		return "", false
	}
	v.buf = value // it may have grown
	return borrow(value), true
}

// slowProperty reports whether a property may have to be made from something large: from
// certificates, heads or what plugins have set. The others cost a look at a clock
// less.
func slowProperty(path string) bool {
	first, rest, more := abi.CutPath(path)
	switch first {
	case "upstream":
		return rest != "attempts" && rest != "failure" // numbers and words, read after each request
	case "connection", "route_metadata", "filter_state", "xds":
		return true
	case "request", "response":
		return more && (strings.HasPrefix(rest, "headers") || strings.HasPrefix(rest, "trailers"))
	}
	return false
}

// hostSetProperty is proxy_set_property(path, value). It is OK even where nothing
// is stored: guests written in Rust panic on anything else.
func hostSetProperty(v *vm, a []uint64) abi.Status {
	path, ok1 := v.text(a[0], a[1])
	value, ok2 := v.view(a[2], a[3])
	if !ok1 || !ok2 {
		return abi.StatusInvalidMemoryAccess
	}
	v.setProperty(abi.TrimPath(path), value)
	return abi.StatusOK
}

// setProperty stores a property of the current context; path and value are borrowed.
func (v *vm) setProperty(path string, value []byte) {
	if path == "" {
		return
	}
	if len(path) > maxNameBytes || len(value) > maxPropertyBytes {
		v.warn("a property was not stored: its path or value is too long")
		return
	}
	v.charge(int64(len(value)) * heapUnits)
	if path == "wasm_need_rebuild" && string(value) == "true" { // of Higress
		v.rebuild = true
	}
	c := v.current()
	if n, ok := c.stream.(Noter); ok && !c.late && c.base.declared == nil {
		if rest, ok := strings.CutPrefix(path, notePrefix); ok {
			n.Note(v.notes.own(rest, value))
			return
		}
	}
	if v.readOnly(c, path) {
		v.warn("a property was not stored: the plugin has declared it read-only, and it is set")
		return
	}
	if c.stream != nil {
		if c.late { // counted as if it replaced nothing
			n := len(path) + len(value)
			c.size, v.waiters = c.size+n, v.waiters+n
		}
		c.stream.SetProperty(strings.Clone(path), bytes.Clone(value))
		return
	}
	base := c.base
	if _, known := base.props[path]; !known && len(base.props) >= maxRootProperties {
		v.warn("a property was not stored: the plugin has set too many outside of streams")
		return
	}
	if base.props == nil {
		base.props = map[string][]byte{}
	}
	base.props[strings.Clone(path)] = bytes.Clone(value)
}

// readOnly reports whether the plugin has declared a property that it may set once only,
// and it is there.
func (v *vm) readOnly(c *Context, path string) bool {
	if !c.base.declared[path].readOnly {
		return false
	}
	if c.stream == nil {
		_, set := c.base.props[path]
		return set
	}
	value, set := c.stream.Property(v.buf[:0], path)
	if set {
		v.buf = value
	}
	return set
}
