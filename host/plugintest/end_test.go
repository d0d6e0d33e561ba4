package plugintest_test

import (
	"testing"

	"wproxy/abi"
	"wproxy/host/plugintest"
	wt "wproxy/host/wasmtest"
)

// A stream is always told of its end, whichever other callbacks the guest has and
// however far the exchange has come (abi.md 4.4, 4.5).
func TestEndIsAlwaysTold(t *testing.T) {
	none := func(*wt.Module) {}
	complete := func(p *plugintest.Plugin) { p.Do(plugintest.Request{}, plugintest.Response{}) }
	aborted := func(p *plugintest.Plugin) {
		s := p.Open(plugintest.Request{})
		s.Leave()
		s.Finish()
	}
	tests := []struct {
		name string
		add  func(m *wt.Module)
		do   func(p *plugintest.Plugin)
	}{
		{"nothing but the end", none, complete},
		{"nothing but the end, aborted", none, aborted},
		{"a body callback, and no body", func(m *wt.Module) { m.Body("request", wt.I32(0)) }, complete},
		{"response callbacks, and no response", func(m *wt.Module) { m.Headers("response", wt.I32(0)) }, aborted},
		{"request callbacks, aborted", func(m *wt.Module) { m.Headers("request", wt.I32(1)) }, aborted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := wt.NewGuest()
			log := m.Env(abi.ImportLog, "iii>i")
			say := func(s string) wt.Instr { return drop(wt.Call(log, wt.I32(2), m.Str(s))) }
			m.Func(abi.ExportOnContextCreate, "ii", wt.If(wt.Ne(wt.Local(1), wt.I32(0)), say("create")))
			m.Func(abi.ExportOnDone, "i>i", say("done"), wt.I32(1))
			m.Func(abi.ExportOnLog, "i", say("log"))
			m.Func(abi.ExportOnDelete, "i", say("delete"))
			tt.add(m)
			plugintest.Run(t, m.Bytes(), plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
				tt.do(p)
				var got []string
				for _, e := range p.Logs() {
					if e.Guest {
						got = append(got, e.Message)
					}
				}
				want := []string{"create", "done", "log", "delete"}
				if len(got) != len(want) {
					t.Fatalf("calls: got %q, want %q", got, want)
				}
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("calls: got %q, want %q", got, want)
					}
				}
			})
		})
	}
}
