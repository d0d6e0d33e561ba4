package main

import "wproxy/abi"

// A head is the fields of a message, pseudo fields among them.
type head struct {
	pairs []abi.Pair
	names uint64 // what mark makes of them, and perhaps of others; 0: not known
}

// mark returns a bit for a name. Most of the fields that are asked for are not there, and a bit
// that no name has says so without a look at all of them.
func mark(name string) uint64 {
	if name == "" {
		return 1
	}
	// Of the names that are usually asked for, and of those that browsers send, no two share one.
	return 1 << ((uint(len(name)) + uint(name[0]) + 3*uint(name[len(name)-1])) & 63)
}

// noteNames notes which names there are.
func (h *head) noteNames() {
	h.names = 0
	for i := range h.pairs {
		h.names |= mark(h.pairs[i].Name)
	}
}

// get returns the first value of a field.
func (h *head) get(name string) string {
	v, _ := h.find(name)
	return v
}

func (h *head) find(name string) (string, bool) {
	if h.names != 0 && h.names&mark(name) == 0 {
		return "", false
	}
	for i := range h.pairs {
		if h.pairs[i].Name == name {
			return h.pairs[i].Value, true
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
	n := 0
	for i := range h.pairs {
		if h.pairs[i].Name == name {
			n++
		}
	}
	return n
}

// control reads the lines of a field such as Cache-Control.
func (h *head) control(name string) control {
	c := newControl()
	c.strict = name == cdnControl
	if h.names != 0 && h.names&mark(name) == 0 {
		return c
	}
	for i := range h.pairs {
		if h.pairs[i].Name == name {
			c.add(h.pairs[i].Value)
		}
	}
	return c
}

// status returns the status of a response.
func (h *head) status() int {
	n, _ := number(h.get(":status"))
	return int(n)
}
