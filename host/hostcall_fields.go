package host

import (
	"errors"
	"strings"

	"wproxy/abi"
)

// headerArg is how every header call begins: readable says whether what the guest has
// pointed to is in its memory, and kind is the map that it means. With a status other
// than OK the call is over; the map may be nil all the same, when it is not there.
func (v *vm) headerArg(kind uint64, readable bool) (Map, abi.Status) {
	k := abi.MapType(uint32(kind))
	switch {
	case !readable:
		return nil, abi.StatusInvalidMemoryAccess
	case !k.Known():
		return nil, abi.StatusBadArgument
	}
	return v.header(k), abi.StatusOK
}

// header returns the map that the current stream has of that kind; nil when it is not
// there.
func (v *vm) header(kind abi.MapType) Map {
	if s := v.stream(); s != nil {
		return s.Map(kind)
	}
	return nil
}

// readArg is headerArg for calls that only read: they see the answer of a call too.
func (v *vm) readArg(kind uint64, readable bool) (Map, abi.Status) {
	m, st := v.headerArg(kind, readable)
	if m != nil || st != abi.StatusOK || v.answer == nil && v.rpc == nil {
		return m, st
	}
	switch k := abi.MapType(uint32(kind)); {
	case v.answer != nil && k == abi.MapHTTPCallResponseHeaders:
		return &v.answer.head, st
	case v.answer != nil && k == abi.MapHTTPCallResponseTrailers:
		return &v.answer.trailers, st
	case v.rpc != nil && k == abi.MapGRPCInitialMetadata:
		return &v.rpc.head, st
	case v.rpc != nil && k == abi.MapGRPCTrailingMetadata:
		return &v.rpc.trailer, st
	}
	return m, st
}

// serialize encodes a map into the scratch buffer; an empty one has no bytes, as
// SDKs expect.
func (v *vm) serialize(m Map) []byte {
	v.pairs = v.pairs[:0]
	m.All()(v.collect)
	if len(v.pairs) == 0 {
		return nil
	}
	v.buf = abi.AppendPairs(v.buf[:0], v.pairs)
	clear(v.pairs) // they hold on to a head that will be reused
	v.charge(int64(len(v.pairs))*pairUnits + int64(len(v.buf))*copyUnits)
	return v.buf
}

// hostGetHeaderMapSize is proxy_get_header_map_size(type, *size): of the encoding.
func hostGetHeaderMapSize(v *vm, a []uint64) abi.Status {
	m, st := v.readArg(a[0], v.writable32(a[1]))
	if st != abi.StatusOK {
		return st
	}
	size := 0
	if m != nil {
		size = len(v.serialize(m))
	}
	return v.put32(a[1], uint32(size))
}

// hostGetHeaderMapPairs is proxy_get_header_map_pairs(type, *ptr, *len). A map that
// is not there is empty.
func hostGetHeaderMapPairs(v *vm, a []uint64) abi.Status {
	m, st := v.readArg(a[0], true)
	if st != abi.StatusOK {
		return st
	}
	var data []byte
	if m != nil {
		data = v.serialize(m)
	}
	return v.give(data, a[1], a[2])
}

// hostSetHeaderMapPairs is proxy_set_header_map_pairs(type, ptr, len). What cannot
// be decoded leaves the map as it is: the reference host would empty it, and any
// status but OK kills guests written in Rust.
func hostSetHeaderMapPairs(v *vm, a []uint64) abi.Status {
	data, ok := v.view(a[1], a[2])
	m, st := v.headerArg(a[0], ok)
	if st != abi.StatusOK {
		return st
	}
	if m == nil {
		return v.noMap()
	}
	pairs, err := v.ownPairs(data)
	if errors.Is(err, abi.ErrPairsTooLarge) {
		return v.overflow(m)
	}
	if err != nil {
		v.warn("a header map was not replaced: " + err.Error())
		return abi.StatusOK
	}
	if !m.Replace(pairs) {
		return v.refused()
	}
	return abi.StatusOK
}

// ownPairs decodes borrowed bytes into pairs that own their strings, with names in
// lower case. It is charged for what is done with them as well.
func (v *vm) ownPairs(data []byte) ([]abi.Pair, error) {
	count := uint32(0)
	if len(data) >= 4 {
		count = u32at(data)
	}
	if len(data) > abi.MaxPairBytes || count > abi.MaxPairs {
		return nil, abi.ErrPairsTooLarge
	}
	v.charge(int64(len(data))*parseUnits + int64(min(count, uint32(len(data))/8))*2*pairUnits)
	pairs, err := abi.ParsePairs(nil, string(data))
	for i := range pairs {
		pairs[i].Name = strings.ToLower(pairs[i].Name)
	}
	return pairs, err
}

// noMap answers a change of a map that is not there. The change is dropped; a
// status would kill guests written in Rust.
func (v *vm) noMap() abi.Status {
	v.warn("a header map was changed that is not there: ignored")
	return abi.StatusOK
}

// overflow answers a change that is too large even to be looked at.
func (v *vm) overflow(m Map) abi.Status {
	o, ok := m.(Overflower)
	if !ok {
		return v.refused()
	}
	o.Overflow()
	return abi.StatusOK
}

// refused answers a change that would break framing. It is dropped; security wins
// over guests that cannot bear a status.
func (v *vm) refused() abi.Status {
	v.warn("a change of headers was refused: a name or value with bytes that a field must not have, or a pseudo header with a value that it cannot have (a port is a number)")
	return abi.StatusBadArgument
}

// lowerName returns the name at ptr in lower case, borrowed from guest memory or
// from the scratch buffer.
func (v *vm) lowerName(ptr, n uint64) (string, bool) {
	b, ok := v.view(ptr, n)
	v.charge(int64(len(b)) * parseUnits)
	for i := range b {
		if 'A' <= b[i] && b[i] <= 'Z' {
			v.buf = appendLower(v.buf[:0], b)
			return borrow(v.buf), ok
		}
	}
	return borrow(b), ok
}

func appendLower[T []byte | string](dst []byte, b T) []byte {
	for i := range len(b) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// hostGetHeaderMapValue is proxy_get_header_map_value(type, name, *ptr, *len): the
// first value. What is absent is NotFound; in ABI 0.1.0 it is OK and empty.
func hostGetHeaderMapValue(v *vm, a []uint64) abi.Status {
	name, ok := v.lowerName(a[1], a[2])
	m, st := v.readArg(a[0], ok)
	if st != abi.StatusOK {
		return st
	}
	var value string
	found := false
	if m != nil {
		v.chargeLines(m, a[0], lineUnits)
		value, found = m.Get(name)
	}
	if !found && v.p.version != abi.Version010 {
		return abi.StatusNotFound
	}
	return v.giveString(value, a[3], a[4])
}

// hostAddHeaderMapValue is proxy_add_header_map_value(type, name, value): one line
// more.
func hostAddHeaderMapValue(v *vm, a []uint64) abi.Status { return v.edit(a, true) }

// hostReplaceHeaderMapValue is proxy_replace_header_map_value(type, name, value):
// exactly this line.
func hostReplaceHeaderMapValue(v *vm, a []uint64) abi.Status { return v.edit(a, false) }

func (v *vm) edit(a []uint64, add bool) abi.Status {
	name, ok := v.text(a[1], a[2])
	value, ok2 := v.text(a[3], a[4])
	m, st := v.headerArg(a[0], ok && ok2)
	if st != abi.StatusOK {
		return st
	}
	if m == nil {
		return v.noMap()
	}
	if len(name) > abi.MaxPairBytes || len(value) > abi.MaxPairBytes {
		return v.overflow(m)
	}
	v.chargeEdit(m, a[0])
	if !v.change(m, a, name, value, add) {
		return v.refused()
	}
	return abi.StatusOK
}

// change makes one edit of m; name and value are borrowed.
func (v *vm) change(m Map, a []uint64, name, value string, add bool) bool {
	var ownName, ownValue string
	place := fieldPlace(a[1], a[3])
	known := v.fields.find(place, name, value)
	clean := known != nil
	if clean {
		ownName, ownValue = known.name, known.value
	} else {
		// One allocation for both strings, which the map owns.
		v.charge(int64(len(name)+len(value)) * (parseUnits + heapUnits))
		v.buf = append(appendLower(v.buf[:0], name), value...)
		both := string(v.buf)
		ownName, ownValue = both[:len(name)], both[len(name):]
		if clean = isClean(ownName, ownValue); clean && ownName == name {
			v.fields.keep(place, ownName, ownValue)
		}
	}
	if f, ok := m.(FieldMap); ok && clean {
		if add {
			return f.AddClean(ownName, ownValue)
		}
		return f.SetClean(ownName, ownValue)
	}
	if add {
		return m.Add(ownName, ownValue)
	}
	return m.Set(ownName, ownValue)
}

// hostRemoveHeaderMapValue is proxy_remove_header_map_value(type, name): all
// lines. What is absent is fine; a pseudo header stays, with a warning.
func hostRemoveHeaderMapValue(v *vm, a []uint64) abi.Status {
	name, ok := v.lowerName(a[1], a[2])
	m, st := v.headerArg(a[0], ok)
	if st != abi.StatusOK {
		return st
	}
	if m == nil {
		return v.noMap()
	}
	v.chargeLines(m, a[0], editLineUnits)
	if !m.Remove(name) {
		v.warn("a pseudo header, or a header that the proxy needs, was not removed")
	}
	return abi.StatusOK
}
