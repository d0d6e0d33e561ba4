package main

import (
	"testing"

	"wproxy/core/pool"
	"wproxy/core/proxy"
)

// TestCalloutBetweenGenerations: the old generation may be over before the new one is
// the one that is called.
func TestCalloutBetweenGenerations(t *testing.T) {
	t.Parallel()
	c := &callouts{
		pools:     newShared[poolKey](func(*pool.Pool) {}),
		upstreams: newShared[upstreamKey](func(*proxy.Upstream) {}),
	}
	old := upstreamKey{name: "api", pool: poolKey{upstream: "api"}}
	next := old
	next.hash[0] = 1
	take := func(k upstreamKey) (release func()) {
		_, letPoolGo, _ := c.pools.get(k.pool, func() (*pool.Pool, error) { return nil, nil })
		_, letGo, _ := c.upstreams.get(k, func() (*proxy.Upstream, error) { return &proxy.Upstream{}, nil })
		return func() { letGo(); letPoolGo() }
	}
	releaseOld := take(old)
	c.serve(map[string]upstreamKey{"api": old})
	c.prepare(map[string]upstreamKey{"api": next})
	releaseNext := take(next)
	releaseOld() // the server has swapped, and no exchange was left
	_, _, letGo, ok := c.hold("api")
	if !ok {
		t.Fatal("there is no upstream, though the new generation has one")
	}
	letGo()
	releaseNext()
	if _, _, _, ok := c.hold("api"); ok {
		t.Error("there is an upstream that nobody holds")
	}
	if _, _, _, ok := c.hold("other"); ok {
		t.Error("there is an upstream that nobody has named")
	}
}
