package main

import "wproxy/abi"

// A head is the fields of a message, pseudo fields among them.
type head struct{ pairs []abi.Pair }

// get returns the first value of a field.
func (h *head) get(name string) string {
	v, _ := h.find(name)
	return v
}

func (h *head) find(name string) (string, bool) {
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
