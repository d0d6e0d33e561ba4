package host

import "wproxy/abi"

// hostCallForeignFunction is proxy_call_foreign_function(name, args, *ptr, *len).
// Those of the reference host that need nothing else are here.
func hostCallForeignFunction(v *vm, a []uint64) abi.Status {
	name, ok := v.text(a[0], a[1])
	if _, ok2 := v.view(a[2], a[3]); !ok || !ok2 {
		return abi.StatusInvalidMemoryAccess
	}
	if v.foreignDenied(name) {
		return abi.StatusInternalFailure
	}
	switch name {
	case "clear_route_cache":
		hostClearRouteCache(v, nil)
	case "declare_property": // every property is bytes here and may be set by anybody
	default:
		return abi.StatusNotFound
	}
	return v.give(nil, a[4], a[5])
}
