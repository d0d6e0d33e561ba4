package host

import "wproxy/abi"

// hostSetEffectiveContext is proxy_set_effective_context(id): later host calls of
// this outermost callback act on the context with that id.
func hostSetEffectiveContext(v *vm, a []uint64) abi.Status {
	c := v.contexts[uint32(a[0])]
	if c == nil {
		return abi.StatusBadArgument
	}
	v.effective = c
	return abi.StatusOK
}

// hostDone is proxy_done(): the current context, whose on_done returned false, may
// end. It does so after the outermost callback.
func hostDone(v *vm, _ []uint64) abi.Status {
	c := v.current()
	switch {
	case !c.ending:
		return abi.StatusNotFound
	case c.late:
		v.doneLate(c)
	default:
		c.ending = false
		v.ended = append(v.ended, c)
	}
	return abi.StatusOK
}

// hostGetConfiguration is proxy_get_configuration(*ptr, *len) of ABI 0.1.0: the
// plugin's configuration inside of on_configure, the VM's elsewhere.
func hostGetConfiguration(v *vm, a []uint64) abi.Status {
	if v.callback == CallConfigure {
		return v.give(v.current().root.config, a[0], a[1])
	}
	return v.give(v.p.o.VMConfig, a[0], a[1])
}
