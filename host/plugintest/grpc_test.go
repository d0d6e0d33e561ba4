package plugintest_test

import (
	"slices"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"

	wt "wproxy/host/wasmtest"
)

// chatter makes a call for each request and opens a stream for all. The request goes on when
// its call is answered, or gets the status of gRPC; the stream sends back what it is sent.
func chatter() []byte {
	m := wt.NewGuest()
	grpcCall := m.Env(abi.ImportGRPCCall, "iiiiiiiiiiii>i")
	grpcStream := m.Env(abi.ImportGRPCStream, "iiiiiiiii>i")
	send := m.Env(abi.ImportGRPCSend, "iiii>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	buffer := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	id, stream, ptr, asker := m.Slot(4), m.Slot(4), m.Slot(8), m.Slot(4)
	size := wt.I32(ptr + 4)
	md := string(abi.AppendPairs(nil, plugintest.Fields("x-a", "1")))
	m.Func(abi.ExportOnConfigure, "ii>i",
		drop(wt.Call(grpcStream, m.Str("auth"), m.Str("pkg.Svc"), m.Str("Chat"), m.Str(""), wt.I32(stream))), wt.I32(1))
	m.Headers("request",
		wt.Store32(wt.I32(asker), wt.Local(0)),
		drop(wt.Call(grpcCall, m.Str("auth"), m.Str("pkg.Svc"), m.Str("Do"), m.Str(md), m.Str("who?"), wt.I32(500), wt.I32(id))), wt.I32(1))
	m.Func(abi.ExportOnGRPCReceive, "iii",
		wt.If(wt.Eq(wt.Local(1), wt.Load32(wt.I32(stream))),
			drop(wt.Call(buffer, wt.I32(5), wt.I32(0), wt.I32(1<<20), wt.I32(ptr), size)),
			drop(wt.Call(send, wt.Local(1), wt.Load32(wt.I32(ptr)), wt.Load32(size), wt.I32(0))), wt.Return()),
		drop(wt.Call(effective, wt.Load32(wt.I32(asker)))), drop(wt.Call(resume, wt.I32(0))))
	m.Func(abi.ExportOnGRPCClose, "iii",
		drop(wt.Call(effective, wt.Load32(wt.I32(asker)))),
		drop(wt.Call(reply, wt.Add(wt.I32(500), wt.Local(2)), m.Str(""), m.Str(""), m.Str(""), wt.I32(-1))))
	return m.Bytes()
}

func TestGRPC(t *testing.T) {
	plugintest.Run(t, chatter(), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Open(plugintest.Request{})
		calls := p.GRPCCalls()
		if len(calls) != 2 || !s.Paused() {
			t.Fatalf("%d calls", len(calls))
		}
		chat, c := calls[0], calls[1]
		if !chat.Stream || chat.Method != "Chat" || chat.Timeout != 0 || c.Stream || c.Upstream != "auth" || c.Service != "pkg.Svc" || c.Method != "Do" ||
			c.Timeout != 500*time.Millisecond || !slices.Equal(c.Metadata, plugintest.Fields("x-a", "1")) {
			t.Errorf("calls %+v, %+v", chat, c)
		}
		if m, closed := c.Sent(); len(m) != 1 || string(m[0]) != "who?" || !closed {
			t.Errorf("sent %q, closed %v", m, closed)
		}
		c.Answer([]byte("you"))
		if !c.Over() || s.Paused() || len(p.GRPCCalls()) != 1 {
			t.Error("the call was not answered")
		}
		c.Answer([]byte("again")) // no second one
		chat.Head(abi.Pair{Name: "x", Value: "y"})
		chat.Send([]byte("one"))
		chat.Send([]byte("two"))
		if m, closed := chat.Sent(); len(m) != 2 || string(m[1]) != "two" || closed {
			t.Errorf("the stream has sent %q, closed %v", m, closed)
		}
		s.Finish()
	})
}

func TestGRPCFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(p *plugintest.Plugin, c *plugintest.GRPC)
		status int
	}{
		{"a status", func(_ *plugintest.Plugin, c *plugintest.GRPC) { c.End(7, "no") }, 507},
		{"no connection", func(_ *plugintest.Plugin, c *plugintest.GRPC) { c.Fail(host.CallUnavailable, 14, "refused") }, 514},
		{"its time", func(p *plugintest.Plugin, _ *plugintest.GRPC) { p.Advance(time.Second) }, 504},
	} {
		plugintest.Run(t, chatter(), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
			s := p.Open(plugintest.Request{})
			tt.happen(p, p.GRPCCalls()[1])
			if got := s.Client().Status; got != tt.status {
				t.Errorf("%s: the client got %d, want %d", tt.name, got, tt.status)
			}
			s.Finish()
		})
	}
}
