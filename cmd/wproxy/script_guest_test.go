package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"wproxy/abi"
	"wproxy/host/wasmtest"
)

// cmdGuest writes a plugin to a file. Kinds:
//
//	ask UPSTREAM MS   asks the upstream about each request: a 2xx lets it pass, with the field
//	                  x-asked: STATUS; what else it says the client gets, as a 403 with that field.
//	                  A call that was not accepted is a 500 with the details call_STATUS, one
//	                  that was reset a 502
//	poll UPSTREAM MS  asks the upstream when it starts, and every so often; logs "polled STATUS"
//	moody             starts with the setting mood = "fine", and with no other
func cmdGuest(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	var wasm []byte
	switch args[1] {
	case "ask", "poll":
		noNeg(ts, neg, args, 4)
		ms, err := strconv.ParseInt(args[3], 10, 32)
		ts.Check(err)
		if args[1] == "ask" {
			wasm = askGuest(args[2], int32(ms)).Bytes()
		} else {
			wasm = pollGuest(args[2], int32(ms)).Bytes()
		}
	case "moody":
		wasm = countingGuest("yes").Bytes()
	default:
		ts.Fatalf("there is no guest of kind %q", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), wasm, 0o600))
}

// A callGuest is a guest that makes calls.
type callGuest struct {
	*wasmtest.Module
	upstream     string
	call         *wasmtest.Func
	id           int32 // of the call
	value, size  int32 // what get_header_map_value returned
	callStatus   int32 // address of three digits
	statusFields int32 // encoded x-asked: with these digits, and how long that is
	statusSize   int32
}

func newCallGuest(upstream string) *callGuest {
	g := &callGuest{Module: wasmtest.NewGuest(), upstream: upstream}
	g.call = g.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
	g.id, g.value = g.Slot(8), g.Slot(8)
	g.size = g.value + 4
	fields := abi.AppendPairs(nil, []abi.Pair{{Name: "x-asked", Value: "???"}})
	g.statusFields, g.statusSize = g.Data(fields), int32(len(fields))
	g.callStatus = g.statusFields + int32(strings.Index(string(fields), "???"))
	return g
}

// ask makes the call and leaves its status.
func (g *callGuest) ask(ms int32) wasmtest.Instr {
	head := abi.AppendPairs(nil, []abi.Pair{
		{Name: ":method", Value: "POST"},
		{Name: ":path", Value: "/check?a=b"},
		{Name: ":authority", Value: "auth.test"},
		{Name: "connection", Value: "x-hop"},
		{Name: "x-hop", Value: "1"},
		{Name: "x-token", Value: "t"},
	})
	return wasmtest.Call(g.call, g.Str(g.upstream), g.Str(string(head)), g.Str("who?"), g.Str(""), wasmtest.I32(ms), wasmtest.I32(g.id))
}

// readStatus puts the digits of the answer's :status to callStatus.
func (g *callGuest) readStatus() wasmtest.Instr {
	value := g.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	read := []wasmtest.Instr{
		wasmtest.Call(value, wasmtest.I32(6), g.Str(":status"), wasmtest.I32(g.value), wasmtest.I32(g.size)), wasmtest.Drop(),
	}
	for i := range int32(3) {
		read = append(read, wasmtest.Store8(wasmtest.I32(g.callStatus+i), wasmtest.Load8(wasmtest.Add(wasmtest.Load32(wasmtest.I32(g.value)), wasmtest.I32(i)))))
	}
	return wasmtest.Seq(read...)
}

func askGuest(upstream string, ms int32) *wasmtest.Module {
	g := newCallGuest(upstream)
	reply := g.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	effective := g.Env(abi.ImportSetEffectiveContext, "i>i")
	add := g.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	resume := g.Env(abi.ImportContinueStream, "i>i")
	body := g.Env(abi.ImportGetBufferBytes, "iiiii>i")
	const calls = 1024 // as many as a script makes; an id is its place here
	askers := g.Slot(4 * calls)
	details := g.Data([]byte("call_?"))
	text := g.Slot(8)
	local := func(code int32, details, body, fields wasmtest.Instr) wasmtest.Instr {
		return wasmtest.Seq(wasmtest.Call(reply, wasmtest.I32(code), details, body, fields, wasmtest.I32(-1)), wasmtest.Drop())
	}
	g.FuncLocals("proxy_on_request_headers", "iii>i", "i",
		wasmtest.SetLocal(3, g.ask(ms)),
		wasmtest.IfElse(wasmtest.Eq(wasmtest.Local(3), wasmtest.I32(0)),
			wasmtest.Store32(wasmtest.Add(wasmtest.I32(askers), wasmtest.Load32(wasmtest.I32(g.id))), wasmtest.Local(0)),
			wasmtest.Seq(
				// 10 is ':' behind '9'.
				wasmtest.Store8(wasmtest.I32(details+5), wasmtest.Add(wasmtest.I32('0'), wasmtest.Local(3))),
				local(500, wasmtest.Seq(wasmtest.I32(details), wasmtest.I32(6)), g.Str(""), g.Str("")))),
		wasmtest.I32(1))
	g.Func("proxy_on_http_call_response", "iiiii",
		wasmtest.Call(effective, wasmtest.Load32(wasmtest.Add(wasmtest.I32(askers), wasmtest.Local(1)))), wasmtest.Drop(),
		wasmtest.If(wasmtest.Eq(wasmtest.Local(2), wasmtest.I32(0)), local(502, g.Str("call_reset"), g.Str(""), g.Str("")), wasmtest.Return()),
		g.readStatus(),
		wasmtest.If(wasmtest.Eq(wasmtest.Load8(wasmtest.I32(g.callStatus)), wasmtest.I32('2')),
			wasmtest.Call(add, wasmtest.I32(0), g.Str("x-asked"), wasmtest.I32(g.callStatus), wasmtest.I32(3)), wasmtest.Drop(),
			wasmtest.Call(resume, wasmtest.I32(0)), wasmtest.Drop(), wasmtest.Return()),
		wasmtest.Call(body, wasmtest.I32(4), wasmtest.I32(0), wasmtest.I32(1000), wasmtest.I32(text), wasmtest.I32(text+4)), wasmtest.Drop(),
		local(403, g.Str("asked"), wasmtest.Seq(wasmtest.Load32(wasmtest.I32(text)), wasmtest.Load32(wasmtest.I32(text+4))),
			wasmtest.Seq(wasmtest.I32(g.statusFields), wasmtest.I32(g.statusSize))))
	return g.Module
}

func pollGuest(upstream string, ms int32) *wasmtest.Module {
	g := newCallGuest(upstream)
	period := g.Env(abi.ImportSetTickPeriod, "i>i")
	line := g.Env(abi.ImportLog, "iii>i")
	text := g.Data([]byte("polled ???"))
	g.Func("proxy_on_configure", "ii>i",
		g.ask(30_000), wasmtest.Drop(),
		wasmtest.Call(period, wasmtest.I32(ms)), wasmtest.Drop(), wasmtest.I32(1))
	g.Func("proxy_on_tick", "i", g.ask(30_000), wasmtest.Drop())
	copied := []wasmtest.Instr{g.readStatus()}
	for i := range int32(3) {
		copied = append(copied, wasmtest.Store8(wasmtest.I32(text+7+i), wasmtest.Load8(wasmtest.I32(g.callStatus+i))))
	}
	g.Func("proxy_on_http_call_response", "iiiii",
		append(copied, wasmtest.Call(line, wasmtest.I32(2), wasmtest.I32(text), wasmtest.I32(10)), wasmtest.Drop())...)
	return g.Module
}
