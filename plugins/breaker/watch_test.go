package main

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

func TestNewWatch(t *testing.T) {
	for doc, want := range map[string]bool{
		`{}`: true,
		`{"failures":false,"consecutive":1,"statuses":[404,"5xx"]}`: true,
		`{"fallback_upstream":"b"}`:                                 true,
		`{"slow":0.5,"slow_call":"1s"}`:                             false,
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		w, ok := newWatch(c, 1)
		if ok != want {
			t.Errorf("%s: got %t, want %t", doc, ok, want)
		}
		if !ok {
			continue
		}
		if _, err := abi.ParseWatch(string(abi.AppendWatch(nil, w))); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		for status := range 1000 {
			if got := c.judge("", status).failed; got != w.Statuses.Has(status) {
				t.Errorf("%s: status %d is a failure: %t", doc, status, got)
			}
		}
	}
}

// TestParseWatched: the key of the property is that of the circuit.
func TestParseWatched(t *testing.T) {
	c := newCircuit(&config{}, "a route", "b")
	route, upstream, p, ok := parseWatched(append(abi.AppendUint(nil, 7), c.key...))
	if route != "a route" || upstream != "b" || p != (pass{admitted: true, generation: 7}) || !ok {
		t.Errorf("%q, %q, %+v, %t", route, upstream, p, ok)
	}
	for _, bad := range []string{"", "1234567", "12345678", "12345678breaker1:a", "12345678breaker2:a\x00b"} {
		if _, _, _, ok := parseWatched([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

// asked returns how often the guest was called for requests and for answers.
func asked(p *plugintest.Plugin) [2]uint64 {
	s := p.Stats()
	return [2]uint64{s.Work[host.CallRequestHeaders].Calls, s.Work[host.CallResponseHeaders].Calls}
}

// TestWasmWatch: while all goes well nobody asks the guest, after a failure it is asked about
// answers until the window has forgotten it, and of an answer that nobody tried for it is not.
func TestWasmWatch(t *testing.T) {
	run(t, options(`{"failures":0.5,"min_requests":100,"window":"10s"}`), func(t *testing.T, p *plugintest.Plugin) {
		for i, step := range []struct {
			resp plugintest.Response
			wait time.Duration
			want [2]uint64 // calls, after it
		}{
			{fine, 0, [2]uint64{1, 1}}, // the guest makes the record, and the window
			{fine, 0, [2]uint64{1, 1}},
			{plugintest.Response{Status: 404}, 0, [2]uint64{1, 1}},
			{plugintest.Response{Status: 503, Untried: true}, 0, [2]uint64{1, 1}},
			{wrong, 0, [2]uint64{1, 2}},
			{fine, 9 * time.Second, [2]uint64{1, 3}},
			{fine, 1 * time.Second, [2]uint64{1, 4}},
			{fine, 0, [2]uint64{1, 4}},
			{plugintest.Response{Status: 502, Failure: "connect"}, 0, [2]uint64{1, 5}},
			{fine, 20 * time.Second, [2]uint64{1, 6}},
			{fine, 0, [2]uint64{1, 6}},
		} {
			s := p.Do(plugintest.Request{}, step.resp)
			if got := asked(p); got != step.want {
				t.Errorf("request %d: calls %v, want %v", i, got, step.want)
			}
			if v := s.Verdict("plugin"); v != "" {
				t.Errorf("request %d: verdict %q", i, v)
			}
			p.Advance(step.wait)
		}
		shows(t, p, closed)
		if n, _ := p.Metric("wproxy_breaker_total;decision=passed"); n != 11 {
			t.Errorf("%d passed, want 11", n)
		}
		// With the settings of a reload its guest is asked once, and shows the state.
		q := p.With("test", `{"failures":0.5,"min_requests":100,"window":"10s"}`)
		for i, want := range []uint64{2, 2} {
			do(t, q, fine, 200)
			if got := asked(p)[0]; got != want {
				t.Errorf("request %d after a reload: asked about %d, want %d", i, got, want)
			}
		}
	})
}

// A turn is what one step of a play has come to.
type turn struct {
	step     string
	client   plugintest.Response
	upstream string
	selected string
	reason   string
	verdict  string
	property string
	metrics  map[string]int64
	changes  []string // what the log has told of changes so far
}

// settings of plays.
var plays = map[string]string{
	"defaults":       `{}`,
	"ratio":          `{"failures":0.5,"min_requests":6,"window":"10s","open_for":"2s"}`,
	"small":          `{"failures":0.25,"min_requests":4,"window":"3s","open_for":"1s","probes":2,"open_for_growth":3}`,
	"streak":         `{"failures":false,"consecutive":3,"window":"100ms","open_for":"1s"}`,
	"consecutive":    `{"failures":false,"consecutive":2,"open_for":"1s","probes":1}`,
	"both":           `{"failures":0.8,"consecutive":3,"min_requests":3,"window":"2s","open_for":"1s"}`,
	"on":             `{"on":["reset"],"failures":0.3,"min_requests":3,"window":"5s","open_for":"1s"}`,
	"statuses":       `{"statuses":[404,500],"failures":0.5,"min_requests":3,"open_for":"1s"}`,
	"fallback":       `{"failures":false,"consecutive":2,"open_for":"1s","fallback":{"status":200,"body":"[]"}}`,
	"fall elsewhere": `{"failures":false,"consecutive":2,"open_for":"1s","fallback_upstream":"backup"}`,
	"slow":           `{"failures":0.5,"slow":0.5,"slow_call":"1s","min_requests":4,"open_for":"1s"}`,
}

// TestWasmWatchAlike: with a watch, everything that is to be seen is what it is without.
func TestWasmWatchAlike(t *testing.T) {
	for name, config := range plays {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				with, calls := play(t, config, seed, nil)
				without, all := play(t, config, seed, []string{abi.ForeignWatch})
				opened := 0
				for i := range with {
					if !reflect.DeepEqual(with[i], without[i]) {
						t.Fatalf("seed %d, step %d: with the watch\n%+v, without\n%+v", seed, i, with[i], without[i])
					}
					opened = len(with[i].changes)
				}
				if fewer := calls[0] < all[0] && calls[1] < all[1]; fewer != (name != "slow") {
					t.Errorf("seed %d: the guest was asked %d times, without the watch %d", seed, calls, all)
				}
				if name != "defaults" && opened < 3 {
					t.Errorf("seed %d: %d changes: nothing was played", seed, opened)
				}
			}
		})
	}
}

// play has an upstream go through good and bad times, seen from two routes, with answers out of
// order, clients that leave, another plugin that answers, and a reload in the middle.
func play(t *testing.T, config string, seed uint64, without []string) (turns []turn, calls [2]uint64) {
	t.Helper()
	o := options(config)
	o.Route, o.Without, o.Instances = "a", without, 3
	o.Grants = append(o.Grants, host.GrantUpstream+"backup")
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		answers := p.Load(denier(), plugintest.Options{Name: "denier"})
		chains := []plugintest.Chain{{p}, {p.With("b", config)}}
		r := rand.New(rand.NewPCG(seed, 2))
		var pending []*plugintest.Stream
		note := func(step string, s *plugintest.Stream) {
			v, _ := s.Property("breaker", "state")
			turns = append(turns, turn{step, s.Client(), s.Upstream().Method, s.Selected(), s.Reason(), s.Verdict("plugin"), string(v), p.Metrics(), changes(p)})
		}
		bad := 0
		for i := range 320 {
			if i%40 == 0 {
				bad = []int{0, 0, 30, 80}[r.IntN(4)]
			}
			if i == 200 { // a reload, with other settings in the window
				add := `{"open_for_max":"70s",`
				if !strings.Contains(config, "window") {
					add += `"window":"4s",`
				}
				other := strings.Replace(strings.Replace(config, "{", add, 1), ",}", "}", 1)
				chains = []plugintest.Chain{{p.With("a", other)}, {p.With("b", other)}}
			}
			c := chains[min(r.IntN(4), 1)]
			switch k := r.IntN(20); {
			case k == 0:
				s := append(slices.Clone(c), answers).Do(plugintest.Request{}, fine)
				note("denied", s)
			case k < 4: // its answer comes later
				pending = append(pending, c.Open(plugintest.Request{}))
			case k < 6 && len(pending) > 0:
				s := pending[0]
				pending = pending[1:]
				if r.IntN(4) == 0 {
					s.Leave()
				} else if s.Upstream().Method != "" {
					s.Respond(answer(r, bad))
				}
				s.Finish()
				note("late", s)
			default:
				req := plugintest.Request{}
				if r.IntN(3) == 0 {
					req = plugintest.Request{Method: "POST", Body: []byte("question"), Trailers: plugintest.Fields("a", "b")}
				}
				note("at once", c.Do(req, answer(r, bad)))
			}
			p.Advance(time.Duration(r.IntN(200)) * time.Millisecond)
		}
		for _, s := range pending {
			s.Finish()
		}
		calls = asked(p)
	})
	return turns, calls
}

// answer is one of an upstream that fails so many times in a hundred.
func answer(r *rand.Rand, bad int) plugintest.Response {
	if r.IntN(100) < bad {
		return []plugintest.Response{
			{Status: 503, Body: []byte("no")},
			{Status: 502, Failure: "connect"},
			{Status: 504, Failure: "timeout"},
			{Status: 502, Failure: "reset"},
			{Status: 500},
			{Status: 404},
		}[r.IntN(6)]
	}
	return []plugintest.Response{
		{},
		{Status: 204},
		{Body: []byte("yes"), Trailers: plugintest.Fields("c", "d")},
		{Status: 302},
		{Status: 503, Untried: true},
	}[r.IntN(5)]
}

// denier answers each request with 503.
func denier() []byte {
	m := wt.NewGuest()
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	m.Headers("request", wt.Call(reply, wt.I32(503), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(-1)), wt.Drop(), wt.I32(1))
	return m.Bytes()
}

// changes returns the changes that the log tells of.
func changes(p *plugintest.Plugin) (lines []string) {
	for _, l := range p.Logs() {
		if strings.Contains(l.Message, " -> ") {
			lines = append(lines, l.Message)
		}
	}
	return lines
}

// TestWasmWatchLate: what comes of a request that was let through before the circuit was open
// does not count for the one after, well or not, nor does it close it.
func TestWasmWatchLate(t *testing.T) {
	for _, without := range [][]string{nil, {abi.ForeignWatch}} {
		o := options(`{"failures":0.5,"min_requests":2,"consecutive":2,"open_for":"1s","probes":1}`)
		o.Without = without
		run(t, o, func(t *testing.T, p *plugintest.Plugin) {
			do(t, p, fine, 200)
			var late []*plugintest.Stream
			for range 4 {
				late = append(late, p.Open(plugintest.Request{}))
			}
			do(t, p, wrong, 503)
			do(t, p, wrong, 503)
			shows(t, p, open)
			respond := func(resp plugintest.Response) {
				late[0].Respond(resp)
				late[0].Finish()
				late = late[1:]
			}
			respond(fine)
			shows(t, p, open)
			p.Advance(time.Second)
			do(t, p, fine, 200) // the probe
			shows(t, p, closed)
			do(t, p, fine, 200)
			for range 3 {
				respond(wrong)
			}
			shows(t, p, closed)
			do(t, p, wrong, 503)
			do(t, p, wrong, 503)
			shows(t, p, open)
		})
	}
}

// TestWasmWatchEvicted: a record that has made room for others is made again, by the guest.
func TestWasmWatchEvicted(t *testing.T) {
	run(t, options(`{}`), func(t *testing.T, p *plugintest.Plugin) {
		for range 3 {
			do(t, p, fine, 200)
		}
		if got := asked(p); got != [2]uint64{1, 1} {
			t.Errorf("calls %v", got)
		}
		if v, ok := p.SharedData(keyPrefix + "test\x00upstream"); !ok || len(v) != recordSize {
			t.Errorf("the record: %q, %t", v, ok)
		}
	})
}

// TestWasmWatchDead: a watch lets nobody through while its plugin has no VM, and what a failure
// needs a VM for fails as on_error says.
func TestWasmWatchDead(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 200} {
		for _, without := range [][]string{nil, {abi.ForeignWatch}} {
			o := options(`{"failures":false,"consecutive":2,"open_for":"1h","fallback":{"headers":{"x-long":"` + strings.Repeat("x", 200<<10) + `"}}}`)
			o.OnError, o.CPU, o.Without = onError, 100*time.Microsecond, without
			run(t, o, func(t *testing.T, p *plugintest.Plugin) {
				q := p.With("other", o.Config)
				do(t, q, fine, 200)
				do(t, q, fine, 200)
				do(t, p, wrong, 503)
				do(t, p, wrong, 503)
				for i := 0; p.Stats().Instances > 0; i++ { // a refusal is too much for it
					if got := p.Do(plugintest.Request{}, fine).Client().Status; got != want {
						t.Fatalf("a trap: got %d, want %d", got, want)
					}
					p.Advance(time.Millisecond)
					if i > 20 {
						t.Fatal("the VM comes back and back")
					}
				}
				do(t, q, fine, want)
				p.Advance(time.Minute)
				do(t, q, fine, 200)
			})
		}
	}
}
