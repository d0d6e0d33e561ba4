package plugintest_test

import (
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"

	wt "wproxy/host/wasmtest"
)

// tcpAsker asks the upstream "auth" about each connection, by HTTP or, with grpc, by gRPC. The
// connection goes on when an answer comes whose first byte of the status is a 2, or any of
// gRPC, and is closed otherwise.
func tcpAsker(grpc bool) []byte {
	m := wt.NewGuest()
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	shut := m.Env(abi.ImportCloseStream, "i>i")
	id, ptr, asker := m.Slot(4), m.Slot(8), m.Slot(256)
	whose := drop(wt.Call(effective, wt.Load32(wt.Add(wt.I32(asker), wt.Local(1)))))
	goOn, end := drop(wt.Call(resume, wt.I32(int32(abi.StreamDownstream)))), drop(wt.Call(shut, wt.I32(int32(abi.StreamDownstream))))
	var ask wt.Instr
	if grpc {
		call := m.Env(abi.ImportGRPCCall, "iiiiiiiiiiii>i")
		ask = drop(wt.Call(call, m.Str("auth"), m.Str("pkg.Svc"), m.Str("Do"), m.Str(""), m.Str("who?"), wt.I32(500), wt.I32(id)))
		m.Func(abi.ExportOnGRPCReceive, "iii", whose, goOn)
		m.Func(abi.ExportOnGRPCClose, "iii", whose, end)
	} else {
		call := m.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
		value := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
		head := abi.AppendPairs(nil, plugintest.Fields(":method", "GET", ":path", "/", ":authority", "auth.test"))
		ask = drop(wt.Call(call, m.Str("auth"), m.Str(string(head)), m.Str(""), m.Str(""), wt.I32(500), wt.I32(id)))
		m.Func(abi.ExportOnHTTPCallResponse, "iiiii", whose,
			wt.If(wt.Eq(wt.Local(2), wt.I32(0)), end, wt.Return()),
			drop(wt.Call(value, wt.I32(6), m.Str(":status"), wt.I32(ptr), wt.I32(ptr+4))),
			wt.If(wt.Eq(wt.Load8(wt.Load32(wt.I32(ptr))), wt.I32('2')), goOn, wt.Return()), end)
	}
	m.Func("proxy_on_new_connection", "i>i", ask,
		wt.Store32(wt.Add(wt.I32(asker), wt.Load32(wt.I32(id))), wt.Local(0)), wt.I32(1))
	return m.Bytes()
}

// A plugin may ask somebody before it lets a connection go on; until then the upstream hears
// nothing of it, and of one that is closed never.
func TestTCPCallout(t *testing.T) {
	first := func(p *plugintest.Plugin) *plugintest.Callout { return p.Callouts()[0] }
	grpc := func(p *plugintest.Plugin) *plugintest.GRPC { return p.GRPCCalls()[0] }
	for name, tt := range map[string]struct {
		grpc bool
		do   func(p *plugintest.Plugin)
		pass bool
	}{
		"allowed":     {false, func(p *plugintest.Plugin) { first(p).Answer(plugintest.Response{Status: 200}) }, true},
		"denied":      {false, func(p *plugintest.Plugin) { first(p).Answer(plugintest.Response{Status: 403}) }, false},
		"reset":       {false, func(p *plugintest.Plugin) { first(p).Fail(host.CallReset, "reset") }, false},
		"timeout":     {false, func(p *plugintest.Plugin) { p.Advance(time.Second) }, false},
		"gRPC":        {true, func(p *plugintest.Plugin) { grpc(p).Answer([]byte("you")) }, true},
		"gRPC denied": {true, func(p *plugintest.Plugin) { grpc(p).End(7, "no") }, false},
		"gRPC fails":  {true, func(p *plugintest.Plugin) { grpc(p).Fail(host.CallUnavailable, 14, "refused") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			plugintest.Run(t, tcpAsker(tt.grpc), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
				s := p.Connect(plugintest.Connection{})
				s.Send("hello", false)
				if s.Upstream().Open {
					t.Error("the upstream was connected to before there was an answer")
				}
				tt.do(p)
				reason, closed := s.Closed()
				if tt.pass {
					wantSide(t, "the upstream", s.Upstream(), "hello", false)
					s.Send("more", true)
					wantSide(t, "the upstream", s.Upstream(), "hellomore", true)
				} else if s.Upstream().Open || !closed || reason != "closed_by_plugin:plugin" {
					t.Errorf("upstream %+v, closed %v because of %q", s.Upstream(), closed, reason)
				}
				s.Finish()
			})
			// A client that leaves while somebody is asked.
			plugintest.Run(t, tcpAsker(tt.grpc), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
				s := p.Connect(plugintest.Connection{})
				s.Send("hello", false)
				s.Leave()
				if n := len(p.Callouts()) + len(p.GRPCCalls()); n != 0 {
					tt.do(p) // the answer is nobody's any more
				}
				if n := p.Stats().Streams; s.Upstream().Open || n != 0 {
					t.Errorf("%d streams, upstream %+v", n, s.Upstream())
				}
			})
		})
	}
}

// With headers_pause = "hold" a guest that pauses for a new connection sees what the client
// sends, and lets the connection go on with it; else it does not see any of it.
func TestTCPHold(t *testing.T) {
	for _, pause := range []host.HeadersPause{host.HeadersPauseStopAll, host.HeadersPauseHold} {
		wasm := tcpGuest("0_2_1", func(m *wt.Module) {
			m.Func("proxy_on_new_connection", "i>i", wt.I32(1))
			m.Func("proxy_on_downstream_data", "iii>i", wt.LtU(wt.Local(1), wt.I32(4)))
		})
		plugintest.Run(t, wasm, plugintest.Options{HeadersPause: pause}, func(t *testing.T, p *plugintest.Plugin) {
			s := p.Connect(plugintest.Connection{})
			s.Send("he", false)
			if s.Upstream().Open {
				t.Error("the upstream was connected to")
			}
			s.Send("llo", false)
			if pause == host.HeadersPauseHold {
				wantSide(t, "the upstream", s.Upstream(), "hello", false)
			} else if s.Upstream().Open {
				t.Error("a pause of the connection ended by itself")
			}
			s.Finish()
		})
	}
}
