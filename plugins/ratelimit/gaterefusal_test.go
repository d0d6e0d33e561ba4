package main

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

func TestNewRefusals(t *testing.T) {
	metrics := [outcomes]uint32{limited: 1, keyless: 2, reported: 3, crowded: 4}
	for doc, want := range map[string][]abi.GateRefusal{
		`{"rate":"1/s"}`:                                             {{Why: abi.GateLimited, Status: 429, Metric: 1}},
		`{"rate":"1/s","mode":"report"}`:                             {{Why: abi.GateLimited, Metric: 3}},
		`{"rate":"1/s","concurrency":2,"status":503}`:                {{Why: abi.GateLimited, Status: 503, Metric: 1}, {Why: abi.GateCrowded, Status: 503, Metric: 4}},
		`{"concurrency":2,"on_missing_key":"deny"}`:                  {{Why: abi.GateCrowded, Status: 429, Metric: 4}, {Why: abi.GateKeyless, Status: 429, Metric: 2}},
		`{"rate":"1/s","on_missing_key":"allow"}`:                    {{Why: abi.GateLimited, Status: 429, Metric: 1}, {Why: abi.GateKeyless, Metric: 2}},
		`{"concurrency":2,"on_missing_key":"allow","mode":"report"}`: {{Why: abi.GateCrowded, Metric: 3}, {Why: abi.GateKeyless, Metric: 2}},
		`{"concurrency":2,"on_missing_key":"deny","mode":"report"}`:  {{Why: abi.GateCrowded, Metric: 3}, {Why: abi.GateKeyless, Metric: 3}},
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		got := newRefusals(c, &metrics)
		for i := range got {
			if r := &got[i]; (r.Status == 0) != (r.Body == "" && r.Details == "" && len(r.Fields) == 0) {
				t.Errorf("%s: %+v", doc, *r)
			}
			got[i] = abi.GateRefusal{Why: got[i].Why, Status: got[i].Status, Metric: got[i].Metric}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", doc, got, want)
		}
	}
}

// randomSettings have, often, requests refused.
func randomSettings(r *rand.Rand) string {
	var doc []string
	// set sets key to one of some values as JSON; "" leaves it out.
	set := func(key string, of ...string) string {
		v := of[r.IntN(len(of))]
		if v != "" {
			doc = append(doc, strconv.Quote(key)+":"+v)
		}
		return v
	}
	rated := set("rate", `"2/s"`, `"3/s"`, `"20/m"`, `"7/m"`, `"9/h"`, "") != ""
	switch {
	case !rated:
		set("concurrency", "1", "2", "3")
	case r.IntN(3) == 0:
		set("algorithm", `"sliding-window"`)
		set("cost", "", "1", "2")
	case r.IntN(2) == 0:
		set("algorithm", `"leaky-bucket"`)
		set("burst", "2", "5")
		set("max_delay", `"1ms"`, `"700ms"`, `"20s"`)
		set("cost", "", "2")
		set("concurrency", "", "", "1", "3")
	default:
		set("burst", "2", "3", "5")
		set("cost", "", "1", "2")
		set("concurrency", "", "1", "2")
	}
	set("key", "", `"client-ip"`, `"global"`, `"header:x-key"`, `["header:x-key","client-ip/61"]`, `"cookie:sid"`, `["query:k y","method"]`)
	set("scope", "", `"plugin"`)
	set("mode", "", "", `"report"`)
	set("on_missing_key", "", `"allow"`, `"deny"`, `"deny"`)
	set("exempt", "", "", `{"headers":{"x-plan":["gold"]}}`)
	set("status", "", "", "503", "429", "400")
	set("body", "", `""`, `"no\n"`, `"`+strings.Repeat("much ", 50)+`"`, `"`+strings.Repeat("too much ", 300)+`"`)
	return "{" + strings.Join(doc, ",") + "}"
}

// TestWasmGateRandom: whatever the settings and the requests are, a host that refuses by itself comes to the same,
// to the byte, as one that asks the guest.
func TestWasmGateRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	configs := make([]string, 40)
	for i := range configs {
		configs[i] = randomSettings(r)
	}
	with, calls := playRandom(t, configs, nil)
	without, all := playRandom(t, configs, []string{abi.ForeignGate})
	refused := map[string]int{}
	for i := range with {
		if !reflect.DeepEqual(with[i].step, without[i].step) {
			t.Fatalf("step %d, %s: with the gate\n%+v, without\n%+v", i, with[i].config, with[i].step, without[i].step)
		}
		refused[with[i].reason]++
	}
	if 3*calls > all {
		t.Errorf("the guest was asked %d times, without the gate %d: want a third", calls, all)
	}
	fmt.Fprintln(t.Output(), calls, "calls, without the gate", all, refused)
	for _, o := range []outcome{limited, keyless, crowded} {
		if n := refused[detailsOf(o)]; n < len(with)/50 {
			t.Errorf("%d of %d are refused as %s", n, len(with), o)
		}
	}
}

// TestWasmGateOldHost: a host that does not take the refusals, as one of before does not, or one that finds them too long,
// has a gate without.
func TestWasmGateOldHost(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/h","burst":3,"body":"` + strings.Repeat("b", abi.MaxGateBody+1) + `"}`, Grants: places["counters"].grants}
	plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
		for i := range 6 {
			s := p.Do(plugintest.Request{}, plugintest.Response{})
			if c := s.Client(); (c.Status == 200) != (i < 3) || c.Status == 429 && len(c.Body) != abi.MaxGateBody+1 {
				t.Errorf("request %d: got %d with %d bytes", i, c.Status, len(c.Body))
			}
			if got, want := asked(p.Stats()), uint64(1+max(0, i-2)); got != want { //nolint:gosec // little
				t.Errorf("request %d: the guest was asked %d times, want %d", i, got, want)
			}
		}
	})
}

// A configStep is one of an exchange with these settings.
type configStep struct {
	config string
	step
}

// playRandom has clients ask routes with these settings at the same times whenever it is called.
func playRandom(t *testing.T, configs, without []string) (steps []configStep, calls uint64) {
	t.Helper()
	o := plugintest.Options{Config: configs[0], Route: "0", Grants: places["counters"].grants, Without: without, Instances: 2}
	plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
		r := rand.New(rand.NewPCG(13, 14))
		for i, config := range configs {
			q := p
			if i > 0 {
				q = p.With(strconv.Itoa(i%3), config)
			}
			for _, s := range playSome(q, r) {
				steps = append(steps, configStep{config, s})
			}
		}
		calls = asked(p.Stats())
	})
	return steps, calls
}

// playSome has exchanges begin and end, which last a while.
func playSome(p *plugintest.Plugin, r *rand.Rand) (steps []step) {
	var open []*plugintest.Stream
	end := func(i int) {
		s := open[i]
		open = append(open[:i], open[i+1:]...)
		if s.Paused() || r.IntN(5) == 0 {
			s.Leave()
		} else {
			s.Respond(plugintest.Response{Fields: plugintest.Fields("server", "s"), Body: []byte("answer")})
		}
		s.Finish()
		steps = append(steps, step{s.Client(), s.Upstream(), s.Verdict("plugin"), s.Reason() + s.Aborted(), p.Metrics()})
	}
	for range 60 {
		if len(open) < 5 && r.IntN(3) > 0 {
			open = append(open, p.Open(randomKind(r)))
			if s := open[len(open)-1]; r.IntN(3) == 0 { // if it has more, and goes on
				s.Send([]byte("more"), r.IntN(2) == 0)
			}
		} else if len(open) > 0 {
			end(r.IntN(len(open)))
		}
		p.Advance(time.Duration(r.IntN(200)) * time.Millisecond)
	}
	for len(open) > 0 {
		end(0)
	}
	return steps
}

// randomKind is randomRequest of a few clients, with all kinds of bodies and of clients.
func randomKind(r *rand.Rand) plugintest.Request {
	q := randomRequest(r)
	q.Client = []string{"192.0.2.1:1", "192.0.2.1:1", "[2001:db8::1]:1"}[r.IntN(3)]
	switch r.IntN(6) {
	case 0:
		q.Method = "HEAD"
	case 1:
		q.Method, q.Protocol = "POST", "HTTP/2"
		q.Fields = append(q.Fields, plugintest.Fields("content-type", "application/grpc+proto")...)
	case 2:
		q.Method, q.More = "POST", true
	case 3:
		q.Method, q.Body = "PUT", []byte("body")
	}
	return q
}
