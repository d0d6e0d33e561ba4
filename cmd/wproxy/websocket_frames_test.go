package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// A wsCase is what a client sends after its handshake, as bytes, in the pieces in which it
// sends them. The numbers in the names are those of the Autobahn test suite, whose list of
// cases this is: it is a program for Python 2, so that its list is driven from here.
type wsCase struct {
	name       string
	sends      [][]byte
	extensions string // of the handshake
	open       bool   // no close frame follows: the case has its own end
}

// Opcodes of RFC 6455 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	wsFin  = 0x80
	wsRSV1 = 0x40
)

// wsMask is the masking key of all frames: results are compared byte for byte.
var wsMask = [4]byte{0x12, 0x34, 0x56, 0x78}

// wsFrame makes a frame as a client sends it (RFC 6455 5.2). first is the first byte: FIN,
// reserved bits and opcode.
func wsFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, wsMask[:]...)
	at := len(b)
	b = append(b, payload...)
	for i := range payload {
		b[at+i] ^= wsMask[i%4]
	}
	return b
}

// wsCloseFrame makes a close frame with a code and a reason.
func wsCloseFrame(code uint16, reason string) []byte {
	return wsFrame(wsFin|opClose, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

func text(p string) []byte          { return wsFrame(wsFin|opText, p) }
func binaryMessage(p string) []byte { return wsFrame(wsFin|opBinary, p) }
func ping(p string) []byte          { return wsFrame(wsFin|opPing, p) }
func pong(p string) []byte          { return wsFrame(wsFin|opPong, p) }

// fragments makes of p a message of frames with n bytes each.
func fragments(opcode byte, p string, n int) [][]byte {
	var all [][]byte
	for first := true; first || p != ""; first = false {
		part := p[:min(n, len(p))]
		p = p[len(part):]
		b := opcode
		if !first {
			b = opContinuation
		}
		if p == "" {
			b |= wsFin
		}
		all = append(all, wsFrame(b, part))
	}
	return all
}

// chopped cuts what is sent into pieces of n bytes.
func chopped(n int, frames ...[]byte) [][]byte {
	all := bytes.Join(frames, nil)
	var pieces [][]byte
	for len(all) > 0 {
		k := min(n, len(all))
		pieces, all = append(pieces, all[:k]), all[k:]
	}
	return pieces
}

// wsCases is the list. big leaves in what takes a second and more.
func wsCases(big bool) []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends}) }
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		add(fmt.Sprintf("1.1.%d text of %d bytes", i+1, n), text(strings.Repeat("*", n)))
		add(fmt.Sprintf("1.2.%d binary of %d bytes", i+1, n), binaryMessage(strings.Repeat("\xfe", n)))
	}
	add("1.1.8 text in pieces", chopped(997, text(strings.Repeat("*", 65536)))...)
	add("1.2.8 binary in pieces", chopped(997, binaryMessage(strings.Repeat("\xfe", 65536)))...)
	all = append(all, pingCases()...)
	all = append(all, reservedCases()...)
	all = append(all, fragmentCases()...)
	all = append(all, utf8Cases()...)
	all = append(all, closeCases()...)
	all = append(all, limitCases(big)...)
	return append(all, deflateCases()...)
}

// pingCases are the cases 2.x.
func pingCases() []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends}) }
	add("2.1 ping without payload", ping(""))
	add("2.2 ping with payload", ping("Hello, world!"))
	add("2.3 ping with binary payload", ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))
	add("2.4 ping of 125 bytes", ping(strings.Repeat("\xfe", 125)))
	add("2.5 ping of 126 bytes", ping(strings.Repeat("\xfe", 126)))
	add("2.6 ping in pieces", chopped(1, ping(strings.Repeat("\xfe", 125)))...)
	add("2.7 pong without payload", pong(""))
	add("2.8 pong with payload", pong("unsolicited"))
	add("2.9 pong, then ping", pong("unsolicited"), ping("ping"))
	var ten [][]byte
	for i := range 10 {
		ten = append(ten, ping(fmt.Sprintf("payload-%d", i)))
	}
	add("2.10 ten pings", ten...)
	add("2.11 ten pings in pieces", chopped(1, ten...)...)
	return all
}

// reservedCases are the cases 3.x and 4.x: reserved bits and opcodes.
func reservedCases() []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends}) }
	for rsv := byte(1); rsv <= 7; rsv++ {
		bits := rsv << 4
		add(fmt.Sprintf("3.%d reserved bits %d", rsv, rsv), text("before"), wsFrame(wsFin|bits|opText, "Hello"), ping("after"))
		add(fmt.Sprintf("3.%d reserved bits %d of a ping", rsv, rsv), text("before"), wsFrame(wsFin|bits|opPing, "Hello"))
		add(fmt.Sprintf("3.%d reserved bits %d in pieces", rsv, rsv), chopped(1, text("before"), wsFrame(wsFin|bits|opBinary, "Hello"))...)
	}
	for i, op := range []byte{3, 4, 5, 6, 7} {
		add(fmt.Sprintf("4.1.%d opcode %d", i+1, op), text("before"), wsFrame(wsFin|op, ""), ping("after"))
		add(fmt.Sprintf("4.1.%d opcode %d with payload", i+1, op), text("before"), wsFrame(wsFin|op, "reserved"))
	}
	for i, op := range []byte{11, 12, 13, 14, 15} {
		add(fmt.Sprintf("4.2.%d opcode %d", i+1, op), text("before"), wsFrame(wsFin|op, ""), ping("after"))
		add(fmt.Sprintf("4.2.%d opcode %d in pieces", i+1, op), chopped(1, text("before"), wsFrame(wsFin|op, "reserved"))...)
	}
	return all
}

// fragmentCases are the cases 5.x.
func fragmentCases() []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) {
		all = append(all, wsCase{name: name, sends: sends},
			wsCase{name: name + ", at once", sends: [][]byte{bytes.Join(sends, nil)}},
			wsCase{name: name + ", byte by byte", sends: chopped(1, sends...)})
	}
	first, middle, last := wsFrame(opText, "fragment1"), wsFrame(opContinuation, "fragment2"), wsFrame(wsFin|opContinuation, "fragment3")
	add("5.1 ping in fragments", wsFrame(opPing, "fragment1"), last)
	add("5.2 pong in fragments", wsFrame(opPong, "fragment1"), last)
	add("5.3 text in fragments", first, last)
	add("5.6 ping between fragments", first, ping("ping"), last)
	add("5.7 pong between fragments", first, pong("pong"), last)
	add("5.9 continuation of nothing", wsFrame(wsFin|opContinuation, "nothing"), text("Hello"))
	add("5.12 unfinished continuation of nothing", wsFrame(opContinuation, "nothing"), text("Hello"))
	add("5.15 continuation after the end", first, last, wsFrame(opContinuation, "fragment3"), wsFrame(wsFin|opContinuation, "fragment4"))
	add("5.16 continuations and messages in turn", wsFrame(opContinuation, "f1"), first, last, wsFrame(opContinuation, "f1"), first, last)
	add("5.18 message within a message", first, text("fragment2"))
	add("5.19 five fragments and pings", first, middle, ping("1"), middle, middle, ping("2"), last)
	add("5.x empty fragments", wsFrame(opText, ""), wsFrame(opContinuation, ""), wsFrame(wsFin|opContinuation, ""))
	add("5.x binary in fragments", wsFrame(opBinary, "\x00\xff"), wsFrame(opContinuation, ""), wsFrame(wsFin|opContinuation, "\xfe"))
	return all
}

// utf8Cases are the cases 6.x: what is text, whole, in fragments, and cut within a
// character.
func utf8Cases() []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends}) }
	const greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // a word of Greek
	for i, p := range []string{
		"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4", greek, greek + "\xed\xa0\x80edited", "\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80",
		"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf", "\xf7\xbf\xbf\xbf",
		"\xfb\xbf\xbf\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf\x80", "\xc0 \xc1 ",
		"\xe0 \xe1 ", "\xf0 \xf7 ", "\xf8 \xfb ", "\xfe", "\xff", "\xfe\xfe\xff\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",
		"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xe0\x80\x80", "\xed\xad\xbf", "\xed\xae\x80\xed\xb0\x80",
		"\xef\xbf\xbe", "\xf0\x9f\xbf\xbf", "\xce", greek[:3], greek[:5],
	} {
		add(fmt.Sprintf("6.x text %d", i), text(p), text("after"))
		add(fmt.Sprintf("6.x text %d in frames of a byte", i), append(fragments(opText, p, 1), text("after"))...)
		add(fmt.Sprintf("6.x text %d byte by byte", i), chopped(1, text(p), text("after"))...)
	}
	return all
}

// closeCases are the cases 7.x.
func closeCases() []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends, open: true}) }
	closing := wsFrame(wsFin|opClose, "")
	add("7.1.1 message, then close", text("Hello World!"), wsCloseFrame(1000, ""))
	add("7.1.2 two close frames", wsCloseFrame(1000, ""), wsCloseFrame(1000, ""))
	add("7.1.3 ping after close", wsCloseFrame(1000, ""), ping("after"))
	add("7.1.4 text after close", wsCloseFrame(1000, ""), text("after"))
	add("7.1.5 fragment, close, fragment", wsFrame(opText, "fragment1"), wsCloseFrame(1000, ""), wsFrame(wsFin|opContinuation, "fragment2"))
	add("7.1.6 large message, then close", text(strings.Repeat("BAsd7&jh23", 26214)), text("Hello World!"), wsCloseFrame(1000, ""))
	add("7.3.1 close without payload", closing)
	add("7.3.2 close with one byte", wsFrame(wsFin|opClose, "a"))
	add("7.3.3 close with a code", wsCloseFrame(1000, ""))
	add("7.3.4 close with a reason", wsCloseFrame(1000, "Hello World!"))
	add("7.3.5 close of 125 bytes", wsCloseFrame(1000, strings.Repeat("*", 123)))
	add("7.3.6 close of 126 bytes", wsCloseFrame(1000, strings.Repeat("*", 124)))
	add("7.5.1 close with a bad reason", wsCloseFrame(1000, "\xce\xba\xed\xa0\x80edited"))
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("7.7 code %d", code), wsCloseFrame(code, ""))
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1012, 1013, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(fmt.Sprintf("7.9 code %d", code), wsCloseFrame(code, "x"))
	}
	return all
}

// limitCases are the cases 9.x: large messages, small frames, small pieces.
func limitCases(big bool) []wsCase {
	var all []wsCase
	add := func(name string, sends ...[]byte) { all = append(all, wsCase{name: name, sends: sends}) }
	sizes := []int{64 << 10, 256 << 10, 1 << 20}
	if big {
		sizes = append(sizes, 4<<20, 8<<20, 16<<20)
	}
	for _, n := range sizes {
		add(fmt.Sprintf("9.1 text of %d bytes", n), text(strings.Repeat("*", n)))
		add(fmt.Sprintf("9.2 binary of %d bytes", n), binaryMessage(strings.Repeat("\xfe", n)))
	}
	for _, n := range []int{64, 1 << 10, 64 << 10, 1 << 20} {
		add(fmt.Sprintf("9.3 text of 1 MiB in frames of %d bytes", n), bytes.Join(fragments(opText, strings.Repeat("*", 1<<20), n), nil))
		add(fmt.Sprintf("9.4 binary of 1 MiB in frames of %d bytes", n), fragments(opBinary, strings.Repeat("\xfe", 1<<20), max(n, 4<<10))...)
	}
	for _, n := range []int{64, 256, 1 << 10, 2 << 10} {
		add(fmt.Sprintf("9.5 text of 256 KiB in pieces of %d bytes", n), chopped(n, text(strings.Repeat("*", 256<<10)))...)
	}
	for _, n := range []int{0, 16, 256, 4 << 10} {
		add(fmt.Sprintf("9.7 a thousand messages of %d bytes", n), bytes.Repeat(text(strings.Repeat("*", n)), 1000))
	}
	return all
}

// deflated is p as the payload of a compressed message (RFC 7692 7.2.1).
func deflated(p string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write([]byte(p)) // into memory
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// deflateCases are the cases 12.x and 13.x: permessage-deflate, and how it is agreed on.
func deflateCases() []wsCase {
	var all []wsCase
	add := func(name, extensions string, sends ...[]byte) {
		all = append(all, wsCase{name: name, extensions: extensions, sends: sends})
	}
	for i, p := range []string{"", "Hello", strings.Repeat("Hello, world! ", 100), strings.Repeat("0123456789abcdef", 8<<10)} {
		for _, ext := range []string{
			"permessage-deflate",
			"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
			"permessage-deflate; server_no_context_takeover",
			"permessage-deflate; client_max_window_bits",
			"permessage-deflate; server_max_window_bits=9",
			"permessage-deflate; unknown=1",
			"permessage-deflate; unknown=1, permessage-deflate; client_no_context_takeover",
			"x-unknown, permessage-deflate",
		} {
			z := deflated(p)
			add(fmt.Sprintf("12.x/13.x message %d with %q", i, ext), ext, wsFrame(wsFin|wsRSV1|opText, z), text(p))
		}
	}
	z := deflated(strings.Repeat("Hello, world! ", 1000))
	add("12.x compressed in fragments", "permessage-deflate; client_no_context_takeover", wsFrame(wsRSV1|opText, z[:3]), ping("between"), wsFrame(wsFin|opContinuation, z[3:]))
	add("12.x compressed, byte by byte", "permessage-deflate; client_no_context_takeover", chopped(1, wsFrame(wsFin|wsRSV1|opText, z))...)
	add("12.x not to be inflated", "permessage-deflate", wsFrame(wsFin|wsRSV1|opText, "\xff\xff\xff\xff"))
	add("12.x compressed without being agreed on", "", wsFrame(wsFin|wsRSV1|opText, z))
	add("12.x compressed ping", "permessage-deflate", wsFrame(wsFin|wsRSV1|opPing, z))
	return all
}

// TestWSFrame: the frames of the list are what RFC 6455 5.7 shows.
func TestWSFrame(t *testing.T) {
	want := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	was := wsMask
	wsMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}
	got := text("Hello")
	wsMask = was
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
