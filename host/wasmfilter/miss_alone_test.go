package wasmfilter_test

import (
	"testing"

	"wproxy/host/plugintest"
)

// TestMissAlone: a request with one of the fields of the order goes by where nothing is stored, whoever is on the way,
// and what becomes of its answer is what was said about answers to such requests.
func TestMissAlone(t *testing.T) {
	o := passOptions
	o.Instances = 2
	plugintest.Run(t, missGuest(missOrder(), missStore()), o, func(t *testing.T, p *plugintest.Plugin) {
		single := func(path string) plugintest.Request {
			r := missRequest(path)
			r.Fields = append(r.Fields, plugintest.Fields("authorization", "")...)
			return r
		}
		goesBy := func(what string, req plugintest.Request, resp plugintest.Response, by bool, stored int) {
			t.Helper()
			before, had := calls(p), storedOf(p)
			s := p.Do(req, resp)
			c, after := s.Client(), calls(p)
			if after.req != before.req || (after.resp == before.resp) != by || by != (line(c, "x-edit") == "host") || by != (s.LogField("l") == "passed") || c.Status != 200 {
				t.Errorf("%s: got %+v, log %q, calls %+v, before %+v", what, c, s.LogField("l"), after, before)
			}
			if n := storedOf(p) - had; n != stored {
				t.Errorf("%s: %d are stored, want %d", what, n, stored)
			}
		}
		goesBy("the first", missRequest("/a"), missAnswer("x-store", "1"), false, 1)
		goesBy("one like it, alone", single("/b"), missAnswer(), false, 0)
		goesBy("one like it", missRequest("/b"), missAnswer(), true, 1)
		goesBy("one that is refused", missRequest("/c"), passAnswer("x-refuse", "1"), false, 0) // under the key of the first
		goesBy("one like that, alone", single("/d"), passAnswer(), false, 0)
		goesBy("one like that", missRequest("/d"), passAnswer(), true, 1)

		goesBy("one that goes by, alone", single("/e"), passAnswer("x-by", "1"), false, 0)
		goesBy("one like that, alone", single("/f"), passAnswer(), true, 0)
		goesBy("one like that for all", missRequest("/f"), passAnswer(), true, 1) // as was said before
		goesBy("another one, alone", single("/g"), passAnswer("cache-control", "else"), false, 0)
		goesBy("one that is stored, alone", single("/h"), missAnswer("x-store", "1"), false, 0) // once more, under the same key
		goesBy("one like it, alone", single("/i"), missAnswer(), true, 1)
		if s := p.Do(missRequest("/i"), missAnswer()); s.Upstream().Method != "" || s.LogField("l") != "hit" {
			t.Errorf("what was stored is asked for: %+v", s.Client())
		}

		head := missRequest("/k")
		head.Method = "HEAD"
		for _, name := range []string{"x-store", "age"} { // whatever it is
			before, had := calls(p), storedOf(p)
			s := p.Do(head, plugintest.Response{Fields: plugintest.Fields("date", missDate, name, "1")})
			if calls(p) != before || line(s.Client(), name) != "1" || line(s.Client(), "x-edit") != "" || s.LogField("l") != "passed" || storedOf(p) != had {
				t.Errorf("HEAD: got %+v, log %q", s.Client(), s.LogField("l"))
			}
		}

		p.Purge("")
		before := calls(p)
		leader, waits, alone := p.Open(missRequest("/a")), p.Open(missRequest("/a")), p.Open(single("/a"))
		if leader.Upstream().Method == "" || waits.Upstream().Method != "" || alone.Upstream().Method == "" || calls(p).req != before.req+1 {
			t.Errorf("asked: %+v, %+v, %+v", leader.Upstream(), waits.Upstream(), alone.Upstream())
		}
		alone.Respond(passAnswer())
		alone.Finish()
		if waits.Upstream().Method != "" || !waits.Paused() {
			t.Error("the answer to who goes alone ends what others wait for")
		}
		leader.Respond(missAnswer())
		leader.Finish()
		if c := waits.Client(); c.Status != 200 || line(c, "x-edit") != "host" {
			t.Errorf("who waits got %+v", c)
		}
		waits.Finish()
		if got := p.Metrics()["n;route=r;passed"]; got != 9 {
			t.Errorf("%d requests are counted", got)
		}
	})
}
