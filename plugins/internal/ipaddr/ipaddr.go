// Package ipaddr reads IP addresses and networks. It is net/netip in small: that package interns
// zones, for which it brings maps, weak pointers and finalizers, and makes a guest a seventh of
// a megabyte larger. There are no zones here, and an IPv4 address in IPv6 form is the IPv4
// address.
package ipaddr

// An Addr is an address. The zero value is none. Addresses are equal if they are ==.
type Addr struct {
	b    [16]byte // an IPv4 address is in the first four
	bits uint8    // 32 or 128; 0: none
}

// From4 returns an IPv4 address.
func From4(b [4]byte) Addr {
	a := Addr{bits: 32}
	copy(a.b[:], b[:])
	return a
}

// From16 returns an IPv6 address, or the IPv4 address that it stands for (RFC 4291, 2.5.5.2).
func From16(b [16]byte) Addr {
	if b[10] == 0xff && b[11] == 0xff && [10]byte(b[:10]) == [10]byte{} {
		return From4([4]byte(b[12:]))
	}
	return Addr{b, 128}
}

// FromBytes returns the address that 4 or 16 bytes are.
func FromBytes(b []byte) (Addr, bool) {
	switch len(b) {
	case 4:
		return From4([4]byte(b)), true
	case 16:
		return From16([16]byte(b)), true
	}
	return Addr{}, false
}

// IsValid reports whether a is an address.
func (a Addr) IsValid() bool { return a.bits != 0 }

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.bits == 32 }

// As4 returns the bytes of an IPv4 address.
func (a Addr) As4() [4]byte { return [4]byte(a.b[:4]) }

// As16 returns the bytes of an IPv6 address.
func (a Addr) As16() [16]byte { return a.b }

// Parse reads an address without a zone.
func Parse(text string) (Addr, bool) {
	for i := range len(text) {
		switch text[i] {
		case '.':
			b, ok := parse4(text)
			return From4(b), ok
		case ':':
			b, ok := parse6(text)
			if !ok {
				return Addr{}, false
			}
			return From16(b), true
		}
	}
	return Addr{}, false
}

// ParseWithPort reads an address with a port, which is looked at and dropped.
func ParseWithPort(text string) (Addr, bool) {
	i := len(text) - 1
	for i >= 0 && text[i] != ':' {
		i--
	}
	if i < 0 {
		return Addr{}, false
	}
	if _, ok := number(text[i+1:], 65535, true); !ok {
		return Addr{}, false
	}
	if host := text[:i]; len(host) > 2 && host[0] == '[' && host[i-1] == ']' {
		b, ok := parse6(host[1 : i-1])
		if !ok {
			return Addr{}, false
		}
		return From16(b), true
	}
	b, ok := parse4(text[:i])
	if !ok {
		return Addr{}, false
	}
	return From4(b), true
}

// number reads decimal digits, up to most. Zeros in front are an octal number to some, and so
// to nobody here unless they are allowed.
func number(text string, most int, zeros bool) (int, bool) {
	if text == "" || len(text) > 1 && text[0] == '0' && !zeros {
		return 0, false
	}
	n := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		if n = 10*n + int(text[i]-'0'); n > most {
			return 0, false
		}
	}
	return n, true
}

// parse4 reads four numbers.
func parse4(text string) (b [4]byte, ok bool) {
	for i := range b {
		end := 0
		for end < len(text) && text[end] != '.' {
			end++
		}
		if (i < 3) != (end < len(text)) {
			return b, false
		}
		n, ok := number(text[:end], 255, false)
		if !ok {
			return b, false
		}
		b[i] = byte(n)
		text = text[min(end+1, len(text)):]
	}
	return b, true
}

// parse6 reads up to eight groups (RFC 4291, 2.2).
func parse6(text string) (b [16]byte, ok bool) {
	at, gap := 0, -1
	if len(text) > 1 && text[:2] == "::" {
		gap, text = 0, text[2:]
	}
	for text != "" {
		if at == len(b) {
			return b, false
		}
		n, end := 0, 0
		for end < len(text) && end < 5 {
			d := digit(text[end])
			if d < 0 {
				break
			}
			n = n<<4 + d
			end++
		}
		if end < len(text) && text[end] == '.' { // the rest is an IPv4 address
			four, ok := parse4(text)
			if !ok || at > 12 || gap < 0 && at != 12 {
				return b, false
			}
			at += copy(b[at:], four[:])
			break
		}
		if end == 0 || end > 4 {
			return b, false
		}
		b[at], b[at+1] = byte(n>>8), byte(n)
		at += 2
		if text = text[end:]; text == "" {
			break
		}
		if text[0] != ':' || len(text) == 1 {
			return b, false
		}
		if text = text[1:]; text[0] == ':' {
			if gap >= 0 {
				return b, false
			}
			gap, text = at, text[1:]
		}
	}
	if at == len(b) {
		return b, gap < 0
	}
	if gap < 0 {
		return b, false
	}
	tail := at - gap
	copy(b[len(b)-tail:], b[gap:at])
	clear(b[gap : len(b)-tail])
	return b, true
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// A Prefix is a network. The zero value has no addresses.
type Prefix struct {
	addr Addr
	bits int
}

// ParsePrefix reads a network such as 10.0.0.0/8, or an address, which is a network of one. A
// network of IPv4 addresses is not read in IPv6 form.
func ParsePrefix(text string) (Prefix, bool) {
	slash := 0
	for slash < len(text) && text[slash] != '/' {
		slash++
	}
	a, ok := Parse(text[:slash])
	if !ok {
		return Prefix{}, false
	}
	if slash == len(text) {
		return Prefix{a, int(a.bits)}, true
	}
	for i := range slash { // IPv4 in IPv6 form: of which bits would it tell?
		if text[i] == ':' && a.Is4() {
			return Prefix{}, false
		}
	}
	bits, ok := number(text[slash+1:], int(a.bits), false)
	return Prefix{a, bits}, ok
}

// Addr returns the address that the network was written with.
func (p Prefix) Addr() Addr { return p.addr }

// Bits returns how many bits of the address are those of all in the network.
func (p Prefix) Bits() int { return p.bits }

// Contains reports whether an address is in the network.
func (p Prefix) Contains(a Addr) bool {
	if a.bits != p.addr.bits || a.bits == 0 {
		return false
	}
	whole := p.bits / 8
	if a.b != p.addr.b {
		for i := range whole {
			if a.b[i] != p.addr.b[i] {
				return false
			}
		}
		if rest := p.bits % 8; rest > 0 {
			return (a.b[whole]^p.addr.b[whole])>>(8-rest) == 0
		}
	}
	return true
}
