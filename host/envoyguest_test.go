package host_test

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/wasmtest"
)

// A liveGuest is a guest of testdata/wat made fit for a host whose memory no test can
// write and read: arguments are data of the module, and what has come of the call or
// callback is told in a line of the log, in hexadecimal digits behind "@" and the guest's
// name. Nothing else of the guest changes.
type liveGuest struct {
	name  string
	src   string
	pages int // of memory, as the arguments need
}

// reportBytes is how many bytes of a result a report has at most.
const reportBytes = 4096

// reportCode writes reports; the two numbers are where they are made and the length of
// the guest's name, which is there from the start.
const reportCode = `
  (func $hex (param $from i32) (param $size i32) (param $to i32) (result i32)
    (local $digit i32)
    (local $nibbles i32)
    (local.set $nibbles (i32.shl (local.get $size) (i32.const 1)))
    (block $end
      (loop $next
        (br_if $end (i32.eqz (local.get $nibbles)))
        (local.set $digit (i32.load8_u (local.get $from)))
        (if (i32.and (local.get $nibbles) (i32.const 1))
          (then
            (local.set $digit (i32.and (local.get $digit) (i32.const 15)))
            (local.set $from (i32.add (local.get $from) (i32.const 1))))
          (else (local.set $digit (i32.shr_u (local.get $digit) (i32.const 4)))))
        (i32.store8 (local.get $to)
          (i32.add (local.get $digit)
            (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $digit) (i32.const 9)))))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $nibbles (i32.sub (local.get $nibbles) (i32.const 1)))
        (br $next)))
    (i32.store8 (local.get $to) (i32.const 32))
    (i32.add (local.get $to) (i32.const 1)))

  (func $report
    (local $end i32)
    (local.set $end (call $hex (i32.const 1024) (i32.const 64) (i32.const REPORT_END)))
    (local.set $end (call $hex (i32.const 2048) (i32.const 64) (local.get $end)))
    (if (i32.le_u (i32.load (i32.const 2068)) (i32.const MOST))
      (then
        (if (i32.le_u (i32.load (i32.const 2064)) (i32.const LAST))
          (then
            (local.set $end
              (call $hex (i32.load (i32.const 2064)) (i32.load (i32.const 2068)) (local.get $end)))))))
    (drop (call $told (i32.const 5) (i32.const REPORT) (i32.sub (local.get $end) (i32.const REPORT)))))
`

// bytes returns the guest, assembled.
func (g *liveGuest) bytes(tb testing.TB) []byte {
	tb.Helper()
	at := g.pages * wasmtest.PageSize
	code := strings.NewReplacer(
		"REPORT_END", fmt.Sprint(at+len(g.name)+2), "REPORT", fmt.Sprint(at),
		"MOST", fmt.Sprint(reportBytes), "LAST", fmt.Sprint(at-reportBytes),
	).Replace(reportCode)
	src := g.swap(tb, g.src, "(module\n", "(module\n  (import \"env\" \"proxy_log\" (func $told (param i32 i32 i32) (result i32)))\n")
	src = g.swap(tb, src, `(memory (export "memory") 2)`, fmt.Sprintf("(memory (export \"memory\") %d)", g.pages+1))
	src = strings.TrimSuffix(strings.TrimSpace(src), ")")
	return assemble(tb, src+code+datum(at, []byte("@"+g.name+" "))+")\n")
}

// swap replaces the one place where the guest's text has from.
func (g *liveGuest) swap(tb testing.TB, src, from, to string) string {
	tb.Helper()
	if strings.Count(src, from) != 1 {
		tb.Fatalf("%s: the guest has %d times %q, want once", g.name, strings.Count(src, from), from)
	}
	return strings.Replace(src, from, to, 1)
}

// also imports another function, as $also.
func (g *liveGuest) also(tb testing.TB, src, name, params string) string {
	tb.Helper()
	return g.swap(tb, src, "(module\n", fmt.Sprintf("(module\n  (import \"env\" %q (func $also (param %s) (result i32)))\n", name, params))
}

// datum is a data segment.
func datum(at int, b []byte) string {
	var d strings.Builder
	fmt.Fprintf(&d, "  (data (i32.const %d) \"", at)
	for _, c := range b {
		d.WriteByte('\\')
		d.WriteByte("0123456789abcdef"[c>>4])
		d.WriteByte("0123456789abcdef"[c&15])
	}
	d.WriteString("\")\n")
	return d.String()
}

// handles finds where guests have the host give out a number, of a metric or a queue.
var handles = regexp.MustCompile(`(\(call \$(?:define|register) .*)\(i32\.const 640\)\)\)`)

const (
	v010  = "proxy_abi_version_0_1_0"
	v020  = "proxy_abi_version_0_2_0"
	v0100 = "proxy_abi_version_0_2_100"
)

const onRequestHeaders = `(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)`

// liveCall returns the guest of a case of hostCallCases. Its call is made once, in
// on_request_headers, or, as a body is there no sooner, in on_request_body.
func liveCall(tb testing.TB, name string, c *hostCallCase) []byte {
	tb.Helper()
	version := c.version
	if version == "" {
		version = v021
	}
	g := &liveGuest{name: name, pages: 2, src: strings.Replace(readGuest(tb, "call/"+c.call), v021, version, 1)}
	data, first := g.arguments(c.args), `
    (if (i32.ne (i32.load (i32.const 1024)) (i32.const -1))
      (then (return (i32.const 0))))`

	// A number that hosts give out is not the same on each; the case's is which of them.
	if metrics := strings.Contains(g.src, `"counter"`); metrics {
		// In Envoy a metric's name is the whole process's.
		g.src = strings.Replace(g.src, `"counter"`, fmt.Sprintf("%q", fmt.Sprintf("%-7.7s", strings.TrimPrefix(name, "call")+"counter")), 1)
	}
	n := 0
	g.src = handles.ReplaceAllStringFunc(g.src, func(s string) string {
		n++
		return strings.Replace(s, "(i32.const 640)))", fmt.Sprintf("(i32.const %d)))", 640+8*(n-1)), 1)
	})
	id, ok := firstInt(c.args)
	switch {
	case c.call == abi.ImportSetEffectiveContext && id == 2:
		first += "\n    (i32.store (i32.const 1032) (local.get 0))"
	case c.call == abi.ImportSetSharedData && slices.Equal(c.args[2:], []any{1}):
		// The cas is what get_shared_data says.
		g.src = g.also(tb, g.src, "proxy_get_shared_data", "i32 i32 i32 i32 i32")
		first += "\n    (drop (call $also (i32.const 512) (i32.const 3) (i32.const 640) (i32.const 648) (i32.const 1064)))"
	case c.call == abi.ImportGetHeaderMapSize:
		// The size of what get_header_map_pairs hands out is at 2104.
		g.src = g.also(tb, g.src, "proxy_get_header_map_pairs", "i32 i32 i32")
		first += "\n    (drop (call $also (i32.load (i32.const 1032)) (i32.const 640) (i32.const 2104)))"
	case !ok || id <= 0 || c.call == abi.ImportRegisterSharedQueue || c.call == abi.ImportDefineMetric:
	case id <= n:
		first += fmt.Sprintf("\n    (i32.store (i32.const 1032) (i32.load (i32.const %d)))", 640+8*(id-1))
	case n > 0:
		first += fmt.Sprintf("\n    (i32.store (i32.const 1032) (i32.const %d))", 4000+id) // one that no host has given out
	}
	callback := onRequestHeaders
	switch {
	case needsBody(c):
		callback = strings.Replace(callback, "request_headers", "request_body", 1)
	case version == v010:
		callback = strings.Replace(callback, "i32 i32 i32", "i32 i32", 1) // all that there is in 0.1.0
	}
	g.src = g.swap(tb, g.src, onRequestHeaders, callback+first)
	end := strings.LastIndex(g.src, "(i32.const 0)))")
	g.src = g.src[:end] + "(call $report)\n    (i32.const 0))\n" + data + ")"
	return g.bytes(tb)
}

// needsBody tells of cases that are about the request's body.
func needsBody(c *hostCallCase) bool {
	buffer, ok := firstInt(c.args)
	switch c.call {
	case abi.ImportGetBufferBytes, abi.ImportSetBufferBytes, abi.ImportGetBufferStatus:
		return ok && buffer == int(abi.BufferRequestBody)
	}
	return false
}

func firstInt(args []any) (int, bool) {
	if len(args) == 0 {
		return 0, false
	}
	n, ok := args[0].(int)
	return n, ok
}

// arguments returns data segments with what guestCall.poke writes.
func (g *liveGuest) arguments(list []any) string {
	data := datum(atStatus, []byte{0xff, 0xff, 0xff, 0xff}) + datum(atResult, slices.Repeat([]byte{guard}, resultBytes))
	var args []byte
	next, beyond := atText, atEnd
	add := func(v uint64) { args = binary.LittleEndian.AppendUint64(args, v) }
	for _, a := range list {
		switch a := a.(type) {
		case int:
			add(uint64(uint32(int32(a))))
		case int64:
			add(uint64(a))
		case out:
			add(uint64(uint32(atResult + 16 + a)))
		case raw:
			add(uint64(a))
		case string:
			at := &next
			if len(a) > atHeap-next {
				at = &beyond
			}
			if a != "" {
				data += datum(*at, []byte(a))
			}
			add(uint64(*at))
			add(uint64(len(a)))
			*at += (len(a) + 7) &^ 7
		default:
			panic(fmt.Sprintf("no argument of type %T", a))
		}
	}
	g.pages = max(g.pages, (beyond+wasmtest.PageSize-1)/wasmtest.PageSize)
	if len(args) > 0 {
		data += datum(atArgs, args)
	}
	return data
}

// liveCallback returns the guest of a callback, which answers with answer if the callback
// has a result.
func liveCallback(tb testing.TB, name, callback, version string, answer uint32) []byte {
	tb.Helper()
	g := &liveGuest{name: name, pages: 2, src: strings.Replace(readGuest(tb, "callback/"+callback), v021, version, 1)}
	g.src = strings.TrimSpace(g.src)
	if version == v010 && strings.HasSuffix(callback, "_headers") {
		g.src = g.swap(tb, g.src, "(param i32 i32 i32)", "(param i32 i32)")
		g.src = g.swap(tb, g.src, "    (i32.store (i32.const 1048) (local.get 2))\n", "")
	} else if version == v010 {
		g.src = strings.Replace(g.src, onRequestHeaders, strings.Replace(onRequestHeaders, "i32 i32 i32", "i32 i32", 1), 1)
	}
	at := strings.LastIndex(g.src, "(i32.load (i32.const 1096))))")
	if at < 0 {
		at = len(g.src) - len("))")
	}
	g.src = g.src[:at] + "\n    (call $report)\n    " + g.src[at:]
	if answer != 0 {
		g.src = strings.TrimSuffix(g.src, ")") + datum(atAnswer, binary.LittleEndian.AppendUint32(nil, answer)) + ")"
	}
	return g.bytes(tb)
}
