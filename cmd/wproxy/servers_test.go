package main

import (
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"wproxy/core/balance"
	"wproxy/core/config"
	"wproxy/core/upstream"
)

// TestLoadOverReload: a reload that changes an upstream meets what is under way, on the
// upstream as on its servers. Else every server that has a tunnel would be beyond
// its share, and no key would go to its own.
func TestLoadOverReload(t *testing.T) {
	a := &app{log: zap.NewNop()}
	var undo cleanup
	if err := a.makeParts(&undo); err != nil {
		t.Fatal(err)
	}
	defer undo.run()
	const base = `
[routes.all]
upstream = "app"
[upstreams.app]
balance = "hash"
hash    = "path"
servers = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
`
	build := func(text string) *generation {
		t.Helper()
		f, err := config.Parse(filepath.Join(t.TempDir(), "wproxy.toml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.parts.build(t.Context(), f, false)
		if err != nil {
			t.Fatal(err)
		}
		a.parts.servers.serve(g)
		return g
	}
	first := build(base)
	was := first.upstreams["app"].Current()
	tunnels := []int64{1000, 950, 900} // within 125 % of the mean
	for i, e := range was.Cluster.Endpoints {
		e.Live.Active.Add(tunnels[i])
		was.Cluster.Live.Active.Add(tunnels[i])
	}
	was.Cluster.Budget.Pay(20)
	second := build(strings.Replace(base, "servers", "panic = \"20%\"\nservers", 1))
	is := second.upstreams["app"].Current()
	if is == was {
		t.Fatal("the upstream has not changed")
	}
	is.Cluster.Live.Active.Add(1)
	moved := 0
	for _, path := range []string{"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"} {
		if is.Picker.Pick(balance.Key(path), nil) != was.Picker.Pick(balance.Key(path), nil) {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d of 8 keys have moved", moved)
	}
	if is.Cluster.Budget != was.Cluster.Budget {
		t.Error("the upstream has another budget of retries")
	}
	is.Cluster.Live.Active.Add(-1)
	for i, e := range was.Cluster.Endpoints {
		e.Live.Active.Add(-tunnels[i])
		was.Cluster.Live.Active.Add(-tunnels[i])
	}
	if n := is.Cluster.Live.Active.Load(); n != 0 {
		t.Errorf("%d exchanges are counted that are over", n)
	}
	first.Release()
	second.Release()
	a.parts.servers.counts.each(func(string, *upstream.Cluster) { t.Error("the counts of the upstream are held by nobody") })
}
