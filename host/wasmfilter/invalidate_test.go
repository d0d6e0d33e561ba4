package wasmfilter_test

import (
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

// unsafeOrder is about methods too.
var unsafeOrder = func() abi.ObjectStanding {
	o := passOrder
	o.SafeMethods, o.OwnMethods, o.UnsafeShown, o.MethodValue, o.MethodTail = []string{"OPTIONS", "get"}, []string{"PURGE"}, []string{"Location"}, "changed", ";changed"
	return o
}()

// TestUnsafeOrder: a request that changes something is none of the guest's, and nor is its answer, by which what is under
// the URL goes, on all routes; one that names another URL is the guest's, with the request as it was.
func TestUnsafeOrder(t *testing.T) {
	plugintest.Run(t, orderedGuest(unsafeOrder), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		chain := plugintest.Chain{p, p.Load(withoutAuth(), plugintest.Options{Name: "q"})}
		changed := int64(0)
		for name, tc := range map[string]struct {
			method, path string
			answer       plugintest.Response
			deletes      bool
			req, resp    uint64 // calls of the guest
		}{
			"POST":              {method: "POST", deletes: true},
			"any other":         {method: "X", deletes: true},
			"not for all of it": {method: "POST", path: "/ab"},
			"with a query":      {method: "POST", path: "/a?"},
			"HEAD":              {method: "HEAD", req: 1, resp: 1},
			"safe":              {method: "OPTIONS"},
			"get":               {method: "get"},
			"safe, another URL": {method: "OPTIONS", answer: plugintest.Response{Fields: plugintest.Fields("location", "/b")}},
			"the guest's":       {method: "PURGE", req: 1, resp: 1},
			"refused":           {method: "POST", answer: plugintest.Response{Status: 400}},
			"redirected":        {method: "POST", answer: plugintest.Response{Status: 399}, deletes: true},
			"upgraded":          {method: "POST", answer: plugintest.Response{Status: 101}},
			"no upstream":       {method: "POST", answer: plugintest.Response{Status: 502, Failure: "connect"}},
			"another URL":       {method: "POST", answer: plugintest.Response{Fields: plugintest.Fields("location", "/b")}, resp: 1},
			"and refused":       {method: "POST", answer: plugintest.Response{Status: 404, Fields: plugintest.Fields("location", "/b")}},
			"longer than a key": {method: "POST", path: "/" + strings.Repeat("x", 5000), req: 1, resp: 1},
		} {
			p.Purge("")
			chain.Do(passRequest(), passAnswer("x-store", "1"))
			if n, _ := p.Stored(); n != 1 {
				t.Fatalf("%s: %d objects are stored", name, n)
			}
			if tc.path == "" {
				tc.path = "/a"
			}
			before := calls(p)
			s := chain.Open(plugintest.Request{Method: tc.method, Path: tc.path, Fields: plugintest.Fields("x-auth", "mine"), Body: []byte("question"), Trailers: plugintest.Fields("a", "b")})
			s.RespondInformational(103)
			if tc.answer.Body == nil && tc.answer.Status != 101 {
				tc.answer.Body, tc.answer.Trailers = []byte("answer"), plugintest.Fields("t", "u")
			}
			s.Respond(tc.answer)
			s.Finish()
			up, client, after := s.Upstream(), s.Client(), calls(p)
			if string(up.Body) != "question" || len(up.Trailers) != 1 || up.Get("x-auth") != "" {
				t.Errorf("%s: the upstream got %+v", name, up)
			}
			if tc.method != "HEAD" && string(client.Body) != string(tc.answer.Body) || client.Status != max(tc.answer.Status, 200) && tc.answer.Status != 101 {
				t.Errorf("%s: the client got %+v", name, client)
			}
			if n, _ := p.Stored(); n != 0 != !tc.deletes {
				t.Errorf("%s: %d objects are left", name, n)
			}
			if req, resp := after.req-before.req, after.resp-before.resp; req != tc.req || resp != tc.resp || after.respBody != before.respBody && tc.req+tc.resp == 0 {
				t.Errorf("%s: %d and %d calls, want %d and %d", name, req, resp, tc.req, tc.resp)
			}
			said := ""
			if tc.req == 0 {
				said = "changed"
				changed++
			}
			if s.LogField("l") != said {
				t.Errorf("%s: the log says %q", name, s.LogField("l"))
			}
			told, _ := s.Property("mine")
			if want := toldMiss(tc.path); tc.resp == 1 && tc.req == 0 && (string(told) != want || line(client, "x-guest") != "mine") {
				t.Errorf("%s: the guest was told %q, want %q; the client got %+v", name, told, want, client)
			}
		}
		if n, _ := p.Metric("n;route=r;changed"); n != changed || changed == 0 {
			t.Errorf("the metric is %d, want %d", n, changed)
		}
	})
}
