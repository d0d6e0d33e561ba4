package wasmfilter_test

import (
	"encoding/binary"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

// TestMissRefused: an answer that is like one that the guest has refused, with a model, is refused for its own key
// by the host: it goes by, and so do those that follow it for as long as the pass is good from then on. Any other
// answer is the guest's.
func TestMissRefused(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		goesBy := func(path string, answer plugintest.Response, want bool) string {
			t.Helper()
			before := calls(p)
			s := p.Do(missRequest(path), answer)
			told, _ := s.Property("mine")
			c, after := s.Client(), calls(p)
			if by := after == before; by != want || by != (line(c, "x-edit") == "host") || by != (line(c, "x-gone") == "") || by != (s.LogField("l") == "passed") {
				t.Errorf("%s: got %+v, log %q, calls %+v, before %+v", path, c, s.LogField("l"), after, before)
			}
			return string(told)
		}
		goesBy("/a", passAnswer("x-refuse", "1"), false)
		p.Advance(8 * time.Second)
		goesBy("/b", passAnswer(), true)
		if n := storedOf(p); n != 2 {
			t.Errorf("%d records are there", n)
		}
		goesBy("/c", passAnswer("cache-control", "else"), false) // it has another line
		p.Advance(5 * time.Second)
		goesBy("/b", passAnswer(), true) // the pass that was said first is not good any more
		meta := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64([]byte("<"), passTime+8), 1)
		if got, want := goesBy("/b", missAnswer(), false), string(abi.AppendPassed(nil, passTime+13, "http://example.com/b\nr", append(meta, 'b'))); got != want {
			t.Errorf("the guest is told %q, want %q", got, want)
		}
		p.Advance(5 * time.Second)
		goesBy("/b", passAnswer(), false) // it was good for ten seconds
		p.Advance(30 * time.Second)
		goesBy("/b", passAnswer(), true) // the record is gone
		metrics := p.Metrics()
		if got := metrics["n;route=r;passed"]; got != 3 {
			t.Errorf("%d requests are counted: %v", got, metrics)
		}
	})
}

// TestMissRefusedBesideStored: what is refused and what is stored are told apart, whichever was said first.
func TestMissRefusedBesideStored(t *testing.T) {
	for _, first := range []string{"x-refuse", "x-store"} {
		plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			teach := func(name string) {
				if name == "x-store" {
					p.Do(missRequest("/stored"), missAnswer("x-store", "1"))
				} else {
					p.Do(missRequest("/refused"), passAnswer("x-refuse", "1"))
				}
			}
			teach(first)
			teach(map[string]string{"x-refuse": "x-store", "x-store": "x-refuse"}[first])
			before := calls(p)
			p.Do(missRequest("/1"), missAnswer())
			p.Do(missRequest("/2"), passAnswer())
			if s := p.Do(missRequest("/1"), missAnswer()); s.Upstream().Method != "" || s.LogField("l") != "hit" {
				t.Errorf("%s first: what was stored is asked for", first)
			}
			if s := p.Do(missRequest("/2"), passAnswer()); s.Upstream().Method == "" || s.LogField("l") != "passed" {
				t.Errorf("%s first: what was refused is served", first)
			}
			if after := calls(p); after != before {
				t.Errorf("%s first: calls %+v, before %+v", first, after, before)
			}
		})
	}
}
