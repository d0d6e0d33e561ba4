package main

import (
	"slices"
	"testing"

	"wproxy/core/config"
)

// TestMadeAsRoot: everything that is opened anew after privileges were dropped is given
// away before.
func TestMadeAsRoot(t *testing.T) {
	t.Parallel()
	f := &config.File{}
	f.Log.To, f.Log.Access.To = "/var/log/wproxy.log", "/var/log/access.log"
	f.Server.PidFile = "/run/wproxy.pid"
	got := madeAsRoot(f, &doorChange{})
	slices.Sort(got)
	if want := []string{"/run/wproxy.pid", "/var/log/access.log", "/var/log/wproxy.log"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	f.Log.To, f.Log.Access.To = "stderr", "none"
	if got := madeAsRoot(f, &doorChange{}); len(got) != 1 {
		t.Errorf("got %q, want the pid file alone", got)
	}
}
