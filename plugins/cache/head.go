package main

import "wproxy/abi"

// A head is the fields of a message, pseudo fields among them.
type head struct {
	pairs []abi.Pair
	names uint64    // what mark makes of them, and perhaps of others; 0: not known
	first [64]uint8 // by the number of a mark's bit, where the first of them is, from 1

	code    int        // the status, once it is known
	encoded string     // as abi.AppendPairs has them; "": there are only pairs
	spare   []abi.Pair // for list
}

// list returns the fields. Those of a head that was kept are read again: most of what is asked of a
// request when its answer is there, the names' bits tell.
func (h *head) list() []abi.Pair {
	if h.pairs == nil && h.encoded != "" {
		h.pairs, _ = abi.ParsePairs(h.spare[:0], h.encoded) // it was read before
	}
	return h.pairs
}

// mark returns a bit for a name. Most of the fields that are asked for are not there, and a bit
// that no name has says so without a look at all of them.
func mark(name string) uint64 { return 1 << markBit(name) }

// markBit returns the number of the bit.
func markBit(name string) uint {
	if name == "" {
		return 0
	}
	// Found by trial: of the names that are asked for, and of those that browsers and servers send,
	// hardly any two share one.
	n := uint(len(name))
	return (59*n + 9*uint(name[0]) + 31*uint(name[n/2]) + 23*uint(name[n-1])) & 63
}

// marks returns the bits of names.
func marks(names ...string) (m uint64) {
	for _, name := range names {
		m |= mark(name)
	}
	return m
}

// mayHave reports whether one of the names that marks are of may be there.
func (h *head) mayHave(marks uint64) bool { return h.names == 0 || h.names&marks != 0 }

// noteNames notes which names there are. Of a head with more fields than places can be noted for,
// nothing is known.
func (h *head) noteNames() {
	h.names, h.code, h.first = 0, 0, [64]uint8{}
	if len(h.pairs) > 255 {
		return
	}
	for i := range h.pairs {
		b := markBit(h.pairs[i].Name)
		if h.first[b] == 0 {
			h.first[b] = uint8(i + 1)
		}
		h.names |= 1 << b
	}
}

// get returns the first value of a field.
func (h *head) get(name string) string {
	v, _ := h.find(name)
	return v
}

func (h *head) find(name string) (string, bool) {
	i := 0
	if h.names != 0 {
		if i = int(h.first[markBit(name)]) - 1; i < 0 {
			return "", false
		}
	}
	for pairs := h.list(); i < len(pairs); i++ {
		if pairs[i].Name == name {
			return pairs[i].Value, true
		}
	}
	return "", false
}

func (h *head) has(name string) bool {
	_, ok := h.find(name)
	return ok
}

// count returns how many lines of a field there are.
func (h *head) count(name string) int {
	n, pairs := 0, h.list()
	for i := range pairs {
		if pairs[i].Name == name {
			n++
		}
	}
	return n
}

// control reads the lines of a field such as Cache-Control.
func (h *head) control(name string) (c control) {
	c.maxAge, c.sMaxAge, c.staleRevalidate, c.staleError, c.maxStale, c.minFresh = -1, -1, -1, -1, -1, -1
	i := 0
	if h.names != 0 {
		if i = int(h.first[markBit(name)]) - 1; i < 0 {
			return c
		}
	}
	c.strict = name == cdnControl
	for pairs := h.list(); i < len(pairs); i++ {
		if pairs[i].Name == name {
			c.add(pairs[i].Value)
		}
	}
	return c
}

// status returns the status of a response.
func (h *head) status() int {
	if h.code == 0 {
		n, _ := number(h.get(":status"))
		h.code = int(n)
	}
	return h.code
}
