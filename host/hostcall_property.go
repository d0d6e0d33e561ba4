package host

import (
	"bytes"
	"strings"

	"wproxy/abi"
)

// hostGetProperty is proxy_get_property(path, *ptr, *len). The host itself knows
// the plugin; the rest is the stream's. A root has the plugin's properties and
// those that were set on it.
func hostGetProperty(v *vm, a []uint64) abi.Status {
	path, ok := v.text(a[0], a[1])
	if !ok {
		return abi.StatusInvalidMemoryAccess
	}
	path = abi.TrimPath(path)
	switch path {
	case "":
		return abi.StatusNotFound
	case "plugin_name":
		return v.giveString(v.p.o.Name, a[2], a[3])
	case "plugin_root_id":
		return v.giveString(v.p.o.RootID, a[2], a[3])
	case "plugin_vm_id":
		return v.giveString(v.p.o.VMID, a[2], a[3])
	}
	c := v.current()
	if c.stream == nil {
		if value, ok := c.base.props[path]; ok {
			return v.give(value, a[2], a[3])
		}
		return abi.StatusNotFound
	}
	value, ok := c.stream.Property(v.buf[:0], path)
	if !ok {
		return abi.StatusNotFound
	}
	v.buf = value // it may have grown
	return v.give(value, a[2], a[3])
}

// hostSetProperty is proxy_set_property(path, value). It is OK even where nothing
// is stored: guests written in Rust panic on anything else.
func hostSetProperty(v *vm, a []uint64) abi.Status {
	path, ok1 := v.text(a[0], a[1])
	value, ok2 := v.view(a[2], a[3])
	if !ok1 || !ok2 {
		return abi.StatusInvalidMemoryAccess
	}
	path = abi.TrimPath(path)
	if path == "" {
		return abi.StatusOK
	}
	if len(path) > maxNameBytes || len(value) > maxPropertyBytes {
		v.warn("a property was not stored: its path or value is too long")
		return abi.StatusOK
	}
	c := v.current()
	if c.stream != nil {
		if c.late { // counted as if it replaced nothing
			n := len(path) + len(value)
			c.size, v.waiters = c.size+n, v.waiters+n
		}
		c.stream.SetProperty(strings.Clone(path), bytes.Clone(value))
		return abi.StatusOK
	}
	base := c.base
	if _, known := base.props[path]; !known && len(base.props) >= maxRootProperties {
		v.warn("a property was not stored: the plugin has set too many outside of streams")
		return abi.StatusOK
	}
	if base.props == nil {
		base.props = map[string][]byte{}
	}
	base.props[strings.Clone(path)] = bytes.Clone(value)
	return abi.StatusOK
}
