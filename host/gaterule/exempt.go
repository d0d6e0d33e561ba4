package gaterule

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"wproxy/abi"
)

// Exempt says which requests are exempt. It is immutable. The zero value exempts nobody.
type Exempt struct {
	four   []network4
	six    []network6
	fields []fieldRule
}

// A network4 has the addresses that are addr where mask has ones.
type network4 struct{ addr, mask uint32 }

// A network6 is likewise, in two halves.
type network6 struct{ addr, mask [2]uint64 }

// A fieldRule is about the first line of a field.
type fieldRule struct {
	name   string
	any    bool
	values []string
}

// NewExempt returns what any of these conditions exempts; false if one of them is none.
func NewExempt(conditions []abi.GatePart) (e Exempt, ok bool) {
	for _, c := range conditions {
		name, value, equal := c.Text, "", false
		switch c.Kind {
		case abi.GateFrom:
			if !e.addNetwork(c.Text) {
				return Exempt{}, false
			}
			continue
		case abi.GateIs:
			if name, value, equal = strings.Cut(c.Text, "\x00"); !equal {
				return Exempt{}, false
			}
		case abi.GateHas:
		default:
			return Exempt{}, false
		}
		if !isName(name) {
			return Exempt{}, false
		}
		i := slices.IndexFunc(e.fields, func(f fieldRule) bool { return f.name == name })
		if i < 0 {
			i = len(e.fields)
			e.fields = append(e.fields, fieldRule{name: name})
		}
		if equal {
			e.fields[i].values = append(e.fields[i].values, value)
		} else {
			e.fields[i].any = true
		}
	}
	return e, true
}

// addNetwork adds the network that abi.GateNetwork has written.
func (e *Exempt) addNetwork(text string) bool {
	if len(text) != 1+4 && len(text) != 1+16 {
		return false
	}
	bits, addr := int(text[0]), []byte(text[1:])
	if bits > 8*len(addr) {
		return false
	}
	if len(addr) == 4 {
		mask := ^uint32(0) << (32 - bits)
		e.four = append(e.four, network4{binary.BigEndian.Uint32(addr) & mask, mask})
		return true
	}
	mask := [2]uint64{^uint64(0) << max(64-bits, 0), ^uint64(0) << min(128-bits, 64)}
	e.six = append(e.six, network6{
		[2]uint64{binary.BigEndian.Uint64(addr) & mask[0], binary.BigEndian.Uint64(addr[8:]) & mask[1]}, mask,
	})
	return true
}

// Reads returns how many fields are looked at.
func (e *Exempt) Reads() int { return len(e.fields) }

// Has reports whether a request is exempt. One whose client is not known has no address that is in a
// network; an IPv4 address in IPv6 form is the IPv4 address.
func (e *Exempt) Has(r *Request) bool {
	if len(e.four)+len(e.six) > 0 && e.hasClient(r.Client.Unmap()) {
		return true
	}
	for i := range e.fields {
		f := &e.fields[i]
		if v, ok := r.Head.Get(f.name); ok && (f.any || slices.Contains(f.values, v)) {
			return true
		}
	}
	return false
}

func (e *Exempt) hasClient(client netip.Addr) bool {
	switch {
	case client.Is4():
		b := client.As4()
		addr := binary.BigEndian.Uint32(b[:])
		for i := range e.four {
			if n := &e.four[i]; addr&n.mask == n.addr {
				return true
			}
		}
	case client.Is6():
		b := client.As16()
		high, low := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
		for i := range e.six {
			if n := &e.six[i]; high&n.mask[0] == n.addr[0] && low&n.mask[1] == n.addr[1] {
				return true
			}
		}
	}
	return false
}
