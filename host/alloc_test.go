//go:build !race

package host_test

import (
	"testing"

	"wproxy/host"
)

// A callback, what it reads and an exchange as a whole allocate nothing on the host's
// side; a header that is set costs the one string that its map owns.
func TestAllocations(t *testing.T) {
	s := start(t, benchGuest(), options{plugin: host.PluginOptions{LogLevel: 5}})
	st := newStream()
	var c host.Context
	open := func() {
		if err := s.root.Open(&c, st); err != nil {
			t.Fatal(err)
		}
	}
	open()
	for _, tt := range []struct {
		name string
		want float64
		run  func() error
	}{
		{"a callback with three reads", 0, func() error { _, err := c.RequestHeaders(1, false); return err }},
		{"a callback with one edit", 1, func() error { _, err := c.RequestBody(1, false); return err }},
		{"all headers: the Map's own iterator", 1, func() error { _, err := c.RequestTrailers(1); return err }},
		{"a callback that is not exported", 0, func() error { _, err := c.ResponseTrailers(1); return err }},
		{"a callback with shared data and a metric", 0, func() error { _, err := c.ResponseHeaders(1, false); return err }},
		{"an exchange", 0, func() error {
			if err := c.Finish(nil); err != nil {
				return err
			}
			open()
			_, err := c.RequestHeaders(1, false)
			return err
		}},
	} {
		var err error
		got := testing.AllocsPerRun(200, func() {
			if e := tt.run(); e != nil {
				err = e
			}
		})
		if err != nil || got > tt.want {
			t.Errorf("%s: %v allocations, want at most %v (%v)", tt.name, got, tt.want, err)
		}
	}
	_ = c.Finish(nil)
}
