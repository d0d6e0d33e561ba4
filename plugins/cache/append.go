package main

import "wproxy/abi"

// What append does, once: in line, in a guest, each append takes some 200 bytes of code. A call takes more
// instructions, so that what nearly all requests need has them in line.

// add appends a text.
//
//go:noinline
func add(dst []byte, s string) []byte { return append(dst, s...) }

// addName appends a name to a list.
//
//go:noinline
func addName(list []string, name string) []string { return append(list, name) }

// addEdit appends an edit to a list.
//
//go:noinline
func addEdit(list []abi.FieldEdit, op abi.FieldOp, name, value string) []abi.FieldEdit {
	return append(list, abi.FieldEdit{Op: op, Name: name, Value: value})
}
