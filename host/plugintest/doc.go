// Package plugintest runs a real .wasm plugin in the real host, for the tests of
// people who write plugins. What a test sees is what a proxy would do: the same
// host functions, the same filter code, the same limits; only the sockets are
// missing. Go plugins of this repository are tested with it directly. A plugin in a
// module of its own cannot import it, and one in another language neither: for those
// there are tables (package tabletest, `wproxy plugin test`), which are run by it.
//
//	func TestPlugin(t *testing.T) {
//		wasm := plugintest.BuildGo(t, ".")
//		o := plugintest.Options{Config: `{"rate": "1/s", "burst": 1}`}
//		plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
//			req := plugintest.Request{Path: "/", Client: "192.0.2.1:4711"}
//			if s := p.Do(req, plugintest.Response{}); s.Client().Status != 200 {
//				t.Errorf("first request: got %d, want 200", s.Client().Status)
//			}
//			if s := p.Do(req, plugintest.Response{}); s.Client().Status != 429 {
//				t.Errorf("second request: got %d, want 429", s.Client().Status)
//			}
//			p.Advance(time.Second) // no waiting: the clock is a fake
//			...
//		})
//	}
//
// [Run] calls the test in a testing/synctest bubble: the clock stands still while
// code runs, [Plugin.Advance] moves it, and on_tick, pause limits and the guest's
// own idea of time follow. [Plugin.Do] runs a whole exchange. [Plugin.Open] runs one
// step by step, for plugins that pause or work on bodies in pieces; after each
// step everything that could happen has happened. [Chain] puts several plugins into
// one exchange. A plugin that makes HTTP calls finds the test at the other end:
// [Plugin.Callouts] lists them, and [Callout.Answer] answers; [Plugin.GRPCCalls] and [GRPC] are
// the same for gRPC.
// [Plugin.Logs], [Plugin.Metrics] and [Plugin.SharedData] tell what it has left behind.
//
// [Try] and [Plugin.TryOpen] return errors where [Run] and [Plugin.Open] fail the test, and
// [Outside] is for programs that are no tests.
package plugintest
