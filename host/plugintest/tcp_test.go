package plugintest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
	"wproxy/host/wasmtest"
)

// tcpGuest returns a guest whose callbacks of data answer with what is on the stack at the end of
// down and up; nil: it has none.
func tcpGuest(version string, build func(m *wasmtest.Module)) []byte {
	m := wasmtest.NewGuestVersion("proxy_abi_version_" + version)
	build(m)
	return m.Bytes()
}

var versions = []string{"0_1_0", "0_2_0", "0_2_1"}

func wantSide(t *testing.T, what string, got plugintest.TCPSide, data string, ended bool) {
	t.Helper()
	if string(got.Data) != data || got.Ended != ended {
		t.Errorf("%s has got %q (end %v), want %q (%v)", what, got.Data, got.Ended, data, ended)
	}
}

// Bytes are edited anywhere in what the guest sees, in both directions.
func TestTCPEdit(t *testing.T) {
	for _, version := range versions {
		for _, tt := range []struct {
			start, size int32
			text, want  string
		}{
			{0, 0, "AB", "ABhello"},
			{0, 2, "AB", "ABllo"},
			{0, 0x7fffffff, "AB", "AB"},
			{0x7fffffff, 0, "AB", "helloAB"},
			{2, 2, "ABC", "heABCo"},
			{4, 100, "AB", "hellAB"},
			{1, 3, "", "ho"},
			{5, 0, "AB", "helloAB"},
		} {
			for _, kind := range []abi.BufferType{abi.BufferDownstreamData, abi.BufferUpstreamData} {
				wasm := tcpGuest(version, func(m *wasmtest.Module) {
					set := m.Env(abi.ImportSetBufferBytes, "iiiii>i")
					name := "proxy_on_downstream_data"
					if kind == abi.BufferUpstreamData {
						name = "proxy_on_upstream_data"
					}
					text := m.Data([]byte(tt.text + "."))
					m.Func(name, "iii>i",
						wasmtest.Call(set, wasmtest.I32(int32(kind)), wasmtest.I32(tt.start), wasmtest.I32(tt.size),
							wasmtest.I32(text), wasmtest.I32(int32(len(tt.text)))))
				})
				plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
					s := p.Connect(plugintest.Connection{})
					if kind == abi.BufferDownstreamData {
						s.Send("hello", false)
						wantSide(t, "the upstream", s.Upstream(), tt.want, false)
						return
					}
					s.Respond("hello", false)
					wantSide(t, "the client", s.Client(), tt.want, false)
				})
			}
		}
	}
}

// pausing returns a guest that pauses in both directions until it sees least bytes, or the end.
func pausing(m *wasmtest.Module, least int32) {
	for _, name := range []string{"proxy_on_downstream_data", "proxy_on_upstream_data"} {
		m.Func(name, "iii>i", wasmtest.And(wasmtest.LtU(wasmtest.Local(1), wasmtest.I32(least)),
			wasmtest.Eq(wasmtest.Local(2), wasmtest.I32(0))))
	}
}

// What a guest does not let go of is shown again, with what has come since; the end is told.
func TestTCPPause(t *testing.T) {
	wasm := tcpGuest("0_2_1", func(m *wasmtest.Module) { pausing(m, 8) })
	plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Connect(plugintest.Connection{})
		s.Send("abc", false)
		s.Send("def", false)
		s.Respond("123", false)
		wantSide(t, "the upstream", s.Upstream(), "", false)
		s.Send("ghi", false)
		wantSide(t, "the upstream", s.Upstream(), "abcdefghi", false)
		s.Send("x", true)
		wantSide(t, "the upstream", s.Upstream(), "abcdefghix", true)
		wantSide(t, "the client", s.Client(), "", false)
		s.Respond("", true)
		wantSide(t, "the client", s.Client(), "123", true)
		s.Finish()
		if reason, closed := s.Closed(); closed {
			t.Errorf("it was closed: %s", reason)
		}
	})
}

// A guest that holds as much as it may is not given more; when it lets go, all comes through.
func TestTCPBackpressure(t *testing.T) {
	wasm := tcpGuest("0_2_1", func(m *wasmtest.Module) { pausing(m, 1<<20) })
	plugintest.Run(t, wasm, plugintest.Options{BodyBuffer: 100, Pause: time.Minute}, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Connect(plugintest.Connection{})
		for range 5 {
			s.Send(strings.Repeat("x", 40), false)
		}
		p.Advance(59 * time.Second)
		if reason, closed := s.Closed(); closed {
			t.Errorf("closed early: %s", reason)
		}
		p.Advance(2 * time.Second)
		if reason, _ := s.Closed(); reason != "plugin_timeout:plugin" {
			t.Errorf("closed because of %q", reason)
		}
		wantSide(t, "the upstream", s.Upstream(), "", false)
		if !p.Logged("longer than sandbox.pause") {
			t.Error("the log does not say so")
		}
	})
}

// resuming is a guest that pauses, and lets go of both sides of stream 2 in a tick.
func resuming(m *wasmtest.Module, where string, calls ...string) {
	tick := m.Env(abi.ImportSetTickPeriod, "i>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	var body []wasmtest.Instr
	body = append(body, wasmtest.Call(effective, wasmtest.I32(2)), wasmtest.Drop())
	for _, c := range calls {
		if c == abi.ImportContinueStream {
			f := m.Env(c, "i>i")
			for _, side := range []abi.StreamType{abi.StreamDownstream, abi.StreamUpstream} {
				body = append(body, wasmtest.Call(f, wasmtest.I32(int32(side))), wasmtest.Drop())
			}
			continue
		}
		body = append(body, wasmtest.Call(m.Env(c, ">i")), wasmtest.Drop())
	}
	m.Func("proxy_on_tick", "i", body...)
	m.Func("proxy_on_vm_start", "ii>i", wasmtest.Call(tick, wasmtest.I32(1000)), wasmtest.Drop(), wasmtest.I32(1))
	pause := wasmtest.I32(1)
	if where == "connection" {
		m.Func("proxy_on_new_connection", "i>i", pause)
		return
	}
	m.Func("proxy_on_downstream_data", "iii>i", pause)
	m.Func("proxy_on_upstream_data", "iii>i", pause)
}

// Both sides are let go of from a tick, whatever the ABI calls that.
func TestTCPContinue(t *testing.T) {
	for _, version := range versions {
		calls := []string{abi.ImportContinueStream}
		if version == "0_1_0" {
			calls = []string{abi.ImportContinueRequest, abi.ImportContinueResponse}
		}
		wasm := tcpGuest(version, func(m *wasmtest.Module) { resuming(m, "data", calls...) })
		plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
			s := p.Connect(plugintest.Connection{})
			s.Send("abc", false)
			s.Respond("123", true)
			wantSide(t, "the upstream", s.Upstream(), "", false)
			wantSide(t, "the client", s.Client(), "", false)
			p.Advance(time.Second)
			wantSide(t, "the upstream", s.Upstream(), "abc", false)
			wantSide(t, "the client", s.Client(), "123", true)
			s.Send("def", true)
			wantSide(t, "the upstream", s.Upstream(), "abc", false)
			p.Advance(time.Second)
			wantSide(t, "the upstream", s.Upstream(), "abcdef", true)
		})
		wasm = tcpGuest(version, func(m *wasmtest.Module) { resuming(m, "connection", calls...) })
		plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
			s := p.Connect(plugintest.Connection{})
			s.Send("abc", false)
			if s.Upstream().Open {
				t.Error("the upstream was connected to although the connection is held")
			}
			p.Advance(time.Second)
			wantSide(t, "the upstream", s.Upstream(), "abc", false)
		})
	}
}

// A guest that traps, loops, or closes costs its connection, and nobody else's.
func TestTCPFailures(t *testing.T) {
	for name, tt := range map[string]struct {
		body   func(m *wasmtest.Module) []wasmtest.Instr
		reason string
		log    string
	}{
		"traps": {func(*wasmtest.Module) []wasmtest.Instr { return []wasmtest.Instr{wasmtest.Unreachable()} }, "plugin_failed:plugin", "unreachable"},
		"loops": {func(*wasmtest.Module) []wasmtest.Instr {
			return []wasmtest.Instr{wasmtest.Loop(wasmtest.I32(1)), wasmtest.I32(0)}
		}, "plugin_failed:plugin", "proxy_on_downstream_data"},
		"closes": {func(m *wasmtest.Module) []wasmtest.Instr {
			return []wasmtest.Instr{wasmtest.Call(m.Env(abi.ImportCloseStream, "i>i"), wasmtest.I32(int32(abi.StreamUpstream)))}
		}, "closed_by_plugin:plugin", ""},
		"grows": {func(m *wasmtest.Module) []wasmtest.Instr {
			set := m.Env(abi.ImportSetBufferBytes, "iiiii>i")
			return []wasmtest.Instr{wasmtest.Call(set, wasmtest.I32(2), wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(2000))}
		}, "payload_too_large:plugin", ""},
	} {
		for _, open := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				wasm := tcpGuest("0_2_1", func(m *wasmtest.Module) {
					m.Func("proxy_on_downstream_data", "iii>i", tt.body(m)...)
				})
				o := plugintest.Options{BodyBuffer: 1000, Instances: 1}
				if open {
					o.OnError = wasmfilter.OnErrorOpen
				}
				plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
					s := p.Connect(plugintest.Connection{})
					s.Respond("123", false)
					s.Send("abc", false)
					reason, closed := s.Closed()
					if open && strings.HasPrefix(tt.reason, "plugin_failed") {
						s.Send("def", true)
						wantSide(t, "the upstream", s.Upstream(), "abcdef", true)
					} else if !closed || reason != tt.reason {
						t.Errorf("closed %v because of %q, want %q", closed, reason, tt.reason)
					}
					if tt.log != "" && !p.Logged(tt.log) {
						t.Errorf("no line with %q: %v", tt.log, p.Logs())
					}
					s.Finish()
				})
			})
		}
	}
}

// Callbacks come in order, close callbacks before the end, and who closed is told.
func TestTCPCallbackOrder(t *testing.T) {
	wasm := tcpGuest("0_2_1", func(m *wasmtest.Module) {
		log := m.Env(abi.ImportLog, "iii>i")
		say := func(text string) wasmtest.Instr {
			at := m.Data([]byte(text))
			return wasmtest.Seq(wasmtest.Call(log, wasmtest.I32(2), wasmtest.I32(at), wasmtest.I32(int32(len(text)))), wasmtest.Drop())
		}
		m.Func("proxy_on_new_connection", "i>i", say("new"), wasmtest.I32(0))
		m.Func("proxy_on_downstream_data", "iii>i", say("down"), wasmtest.I32(0))
		m.Func("proxy_on_upstream_data", "iii>i", say("up"), wasmtest.I32(0))
		for _, side := range []string{"downstream", "upstream"} {
			m.Func("proxy_on_"+side+"_connection_close", "ii",
				wasmtest.If(wasmtest.Eq(wasmtest.Local(1), wasmtest.I32(1)), say(side+" closed by us")),
				wasmtest.If(wasmtest.Eq(wasmtest.Local(1), wasmtest.I32(2)), say(side+" closed by them")))
		}
		m.Func("proxy_on_done", "i>i", say("done"), wasmtest.I32(1))
		m.Func("proxy_on_log", "i", say("log"))
		m.Func("proxy_on_delete", "i", say("delete"))
	})
	for _, tt := range []struct {
		do   func(s *plugintest.TCPStream)
		want []string
	}{
		{
			func(s *plugintest.TCPStream) { s.Respond("x", true); s.Send("y", true); s.Leave() },
			[]string{"new", "up", "upstream closed by them", "down", "downstream closed by them", "done", "log", "delete"},
		},
		{
			func(s *plugintest.TCPStream) { s.Send("y", false); s.Finish() },
			[]string{"new", "down", "downstream closed by us", "upstream closed by us", "done", "log", "delete"},
		},
		{
			func(s *plugintest.TCPStream) { s.Leave() },
			[]string{"new", "downstream closed by them", "upstream closed by us", "done", "log", "delete"},
		},
	} {
		plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
			tt.do(p.Connect(plugintest.Connection{}))
			var got []string
			for _, e := range p.Logs() {
				if e.Level == abi.LogInfo {
					got = append(got, e.Message)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}
