package main

import (
	"strings"

	"wproxy/abi"
)

// newWatch returns what the host may do without the plugin: let a request through while its
// circuit is closed, count it with metric, and count that it went well while nothing fails. It
// must come to the same as enter and leave, to the bytes of the keys. False if that takes more than
// a watch can do: to know how long a request took.
func newWatch(c *config, metric uint32) (*abi.WatchRecord, bool) {
	if c.slowCall > 0 {
		return nil, false
	}
	w := &abi.WatchRecord{
		Metric: metric, Slots: windowSlots, Width: c.window / windowSlots,
		Key: []abi.GatePart{{Text: keyPrefix}, {Kind: abi.WatchRoute}, {Text: "\x00"}, {Kind: abi.WatchUpstream}},
	}
	for status, failed := range c.statuses {
		if failed {
			w.Statuses.Add(status)
		}
	}
	return w, true
}

// parseWatched reads abi.PropertyWatched: of which circuit a request is that the host has let
// through, and when that was.
func parseWatched(b []byte) (route, upstream string, p pass, ok bool) {
	if len(b) < 8 {
		return "", "", pass{}, false
	}
	generation, _ := abi.ParseUint(b[:8])
	key, ok := strings.CutPrefix(string(b[8:]), keyPrefix)
	if !ok {
		return "", "", pass{}, false
	}
	route, upstream, ok = strings.Cut(key, "\x00")
	return route, upstream, pass{admitted: true, generation: generation}, ok
}
