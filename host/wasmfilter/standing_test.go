package wasmfilter_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// TestStandingEdits: what a guest has asked for ahead is done to each answer, before the guest
// is called if it is.
func TestStandingEdits(t *testing.T) {
	always := []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "set", Value: "1"},
		{Op: abi.FieldAdd, Name: "added", Value: "2"},
		{Op: abi.FieldAddIfMissing, Name: "there", Value: "3"},
		{Op: abi.FieldAddIfMissing, Name: "missing", Value: "4"},
		{Op: abi.FieldRemove, Name: "server"},
		{Op: abi.FieldSet, Name: "connection", Value: "close"},
	}
	edits := []host.StandingEdits{
		{When: abi.EditsAlways, Edits: always},
		{When: abi.EditsTLS, Edits: []abi.FieldEdit{{Op: abi.FieldSet, Name: "over", Value: "tls"}}},
		{When: abi.EditsWithout, Edits: []abi.FieldEdit{{Op: abi.FieldSet, Name: "over", Value: "tcp"}}},
	}
	for _, tt := range []struct {
		name   string
		script script
		scheme string
		over   string
	}{
		{"no callback", script{}, "http", "tcp"},
		{"over TLS", script{}, "https", "tls"},
		{"beside a callback", script{onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			if v, _ := c.Map(abi.MapResponseHeaders).Get("set"); v != "1" {
				t.Errorf("the guest was called first: set is %q", v)
			}
			return abi.Continue
		}}, "http", "tcp"},
		{"beside a request callback", script{onReqHeaders: cont}, "http", "tcp"},
		{"with an end to be told of", script{onLog: func(*call) {}}, "http", "tcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{})
				p.LeaveEdits(edits...)
				for range 2 { // a filter is used again
					s := open(t, plugintest.Request{Scheme: tt.scheme}, p)
					s.RespondInformational(103, "link", "x")
					s.Respond(plugintest.Response{Body: []byte("body"), Fields: plugintest.Fields(
						"server", "x", "set", "a", "set", "b", "added", "c", "there", "d", "server", "y")})
					s.Finish()
					c := s.Client()
					var got []string
					for _, f := range c.Fields {
						if f.Name != "content-length" {
							got = append(got, f.Name+"="+f.Value)
						}
					}
					want := "set=1 added=c there=d added=2 missing=4 over=" + tt.over
					if strings.Join(got, " ") != want || string(c.Body) != "body" || !c.Ended {
						t.Errorf("got %q, body %q, want %q", got, c.Body, want)
					}
				}
				if tt.name == "no callback" && len(p.open) > 0 {
					t.Error("a context was opened")
				}
			})
		})
	}
}

// TestStandingEditsTooLarge: an answer that has no room for them is not passed on without.
func TestStandingEditsTooLarge(t *testing.T) {
	for name, s := range map[string]script{"no callback": {}, "beside a callback": {onRespHeaders: cont}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", s, fakeOptions{})
				p.LeaveEdits(host.StandingEdits{Edits: []abi.FieldEdit{{Name: "x", Value: strings.Repeat("x", 100)}}})
				s := open(t, plugintest.Request{}, p)
				s.Respond(plugintest.Response{Body: []byte("secret"), Fields: plugintest.Fields("y", strings.Repeat("y", wasmfilter.MaxHeadBytes-50))})
				s.Finish()
				if c := s.Client(); c.Status != 502 || s.Reason() != "response_headers_too_large:p" || strings.Contains(string(c.Body), "secret") {
					t.Errorf("client has got %d, reason %q, %q", c.Status, s.Reason(), c.Body)
				}
				s = open(t, plugintest.Request{}, p) // the filter is in order again
				s.Respond(plugintest.Response{})
				s.Finish()
				if c := s.Client(); c.Status != 200 || len(c.All("x")) != 1 {
					t.Errorf("the next exchange: %d, x %d times", c.Status, len(c.All("x")))
				}
			})
		})
	}
}

// TestStandingEditsOfOwnAnswers: answers that others make have them too.
func TestStandingEditsOfOwnAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{}, fakeOptions{})
		p.LeaveEdits(host.StandingEdits{Edits: []abi.FieldEdit{{Name: "x", Value: "1"}}})
		refuses := newPlugin("q", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Reply(host.Reply{Status: 403, Details: "no"})
			return abi.Pause
		}}, fakeOptions{})
		s := open(t, plugintest.Request{}, p, refuses)
		s.Finish()
		if c := s.Client(); c.Status != 403 || len(c.All("x")) != 1 {
			t.Errorf("got %d, x %q", c.Status, c.All("x"))
		}
	})
}

// A slowClient takes a head when it is let, and counts what comes.
type slowClient struct {
	let         chan struct{}
	heads, data int
}

func (c *slowClient) Head(*exchange.Response, bool) error { c.heads++; <-c.let; return nil }
func (c *slowClient) Data([]byte, bool) error             { c.data++; return nil }
func (c *slowClient) Trailer(*exchange.Fields) error      { return nil }

// TestStandingEditsClose: a filter that only makes edits is not closed, and used again, while
// the goroutine of another plugin pushes an answer through it.
func TestStandingEditsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edits := newPlugin("edits", script{}, fakeOptions{})
		edits.LeaveEdits(host.StandingEdits{Edits: []abi.FieldEdit{{Name: "a", Value: "b"}}})
		holds := newPlugin("holds", script{
			onRespHeaders: func(*call, int, bool) abi.Action { return abi.Pause },
			onRespBody:    func(*call, int, bool) abi.Action { return abi.Continue },
		}, fakeOptions{hold: true})
		x := newExchange(t)
		x.SetRequestRun()
		client := &slowClient{let: make(chan struct{})}
		var to exchange.Sink[*exchange.Response] = client
		var filters []filter.Filter
		for _, p := range []*plugin{edits, holds} {
			f, err := p.New(x)
			if err != nil {
				t.Fatal(err)
			}
			filters, to = append(filters, f), f.Response(to)
		}
		if err := to.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
			t.Fatal(err)
		}
		holds.vm.Lock()
		holds.open[0].Resume(abi.StreamResponse)
		holds.vm.Unlock()
		closed := false
		go func() { // ends with the push
			for _, f := range filters {
				f.Close(nil)
				closed = true
			}
		}()
		synctest.Wait()
		if client.heads != 1 || closed {
			t.Errorf("%d heads; closed in the middle of it: %t", client.heads, closed)
		}
		close(client.let)
		synctest.Wait()
		if client.data != 1 || !closed {
			t.Errorf("%d calls with data; closed: %t", client.data, closed)
		}
	})
}

// TestStandingEditsVerdict: a plugin is in the log if the host has made its edits, or the answer had
// no room for them, and not if there was no answer for it.
func TestStandingEditsVerdict(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script script
		size   int // of the answer; -1: there is none
		want   int
	}{
		{"edited", script{}, 0, 1},
		{"too large", script{}, wasmfilter.MaxHeadBytes, 1},
		{"none", script{}, -1, 0},
		{"with an end", script{onLog: func(*call) {}}, 0, 1},
	} {
		edits := newPlugin("edits", tt.script, fakeOptions{})
		edits.LeaveEdits(host.StandingEdits{Edits: []abi.FieldEdit{{Name: "a", Value: "b"}}})
		for range 2 { // a filter is used again
			x := newExchange(t)
			x.SetRequestRun()
			f, err := edits.New(x)
			if err != nil {
				t.Fatal(err)
			}
			to := f.Response(&collector[*exchange.Response]{t: t})
			if tt.size >= 0 {
				h := &exchange.Response{Status: 200}
				h.Fields.Add("x", strings.Repeat("x", tt.size))
				x.Response = h
				_ = to.Head(h, true) // what becomes of it is not asked here
			}
			f.Close(nil)
			if len(x.Verdicts) != tt.want {
				t.Errorf("%s: the log has %+v, want %d", tt.name, x.Verdicts, tt.want)
			}
		}
	}
}
