package host

import "wproxy/abi"

// readValues is abi.ForeignReadValues. What it costs is what the calls for single values do, and
// it reads what they do.
func readValues(v *vm, args []byte) abi.Status {
	r := abi.ReadRecord(args)
	n, at, ok := r.Parse()
	if !ok {
		return abi.StatusBadArgument
	}
	name := r.Names(n)
	for i := range n {
		kind, size := r.Asked(i)
		if kind != abi.ReadProperty && !kind.Known() || !all(borrow(args[name:name+size]), noUpper) && kind != abi.ReadProperty {
			return abi.StatusBadArgument
		}
		name += size
	}
	name = r.Names(n)
	for i := range n {
		kind, size := r.Asked(i)
		value, found := v.value(kind, borrow(args[name:name+size]))
		name += size
		v.charge(int64(len(value)) * copyUnits) // also if there is no room: a property has been made
		switch {
		case !found:
			r.SetValue(i, 0, 0)
		case len(value) > len(args)-at:
			r.SetValue(i, 0, len(value))
		default:
			copy(args[at:], value)
			r.SetValue(i, at, len(value))
			at += len(value)
		}
	}
	return abi.StatusOK
}

// value returns a property, or the first line of a header map. It is borrowed until the next is
// asked for, and so is name, which has no upper case if it is that of a field.
func (v *vm) value(kind abi.MapType, name string) (string, bool) {
	if kind == abi.ReadProperty {
		v.charge(hostCallUnits / 2)
		return v.property(name)
	}
	m, _ := v.readArg(uint64(kind), true)
	if m == nil {
		return "", false
	}
	v.charge(int64(len(name)) * parseUnits)
	v.chargeLines(m, uint64(kind), lineUnits)
	return m.Get(name)
}
