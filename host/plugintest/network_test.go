package plugintest_test

import (
	"slices"
	"testing"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

// A plugin for connections that is written with the Go SDK, from its source to its end.
func TestGoNetworkPlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	wasm := plugintest.BuildGo(t, "testdata/network")
	plugintest.Run(t, wasm, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Connect(plugintest.Connection{ServerName: "db.example.com"})
		s.Send("hel", false)
		wantSide(t, "the upstream", s.Upstream(), "", false)
		s.Send("lo\n", false)
		s.Send("secret\n", false)
		wantSide(t, "the upstream", s.Upstream(), "hello\n******\n", false)
		s.Respond("hi", false)
		s.Respond("", true)
		wantSide(t, "the client", s.Client(), "> hi", true)
		s.Leave()

		q := p.Connect(plugintest.Connection{})
		q.Send("close\n", false)
		if reason, _ := q.Closed(); reason != "closed_by_plugin:plugin" {
			t.Errorf("closed because of %q", reason)
		}
		q.Finish()
		if n, _ := p.Metric("connections"); n != 2 {
			t.Errorf("%d connections counted", n)
		}
		var got []string
		for _, e := range p.Logs() {
			if e.Level >= abi.LogInfo {
				got = append(got, e.Message)
			}
		}
		want := []string{
			"new connection", `203.0.113.1:9000: "hi" <nil>`, "upstream closed by 2", "downstream closed by 2", "done",
			"new connection", "downstream closed by 1", "upstream closed by 1", "done",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}
