package health_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/health"
)

// TestEjectedAndGone: the end of an ejection of a server that is none any more, but has
// requests in flight, is told of to nobody: its gauge would come back for good.
func TestEjectedAndGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		s := health.Settings{Outlier: &health.Outlier{Errors: 1, On: []string{"reset"}, Base: time.Minute, Longest: time.Minute, Share: 1}}
		w.serve(s)
		all := w.cluster.Endpoints
		all[0].Observer.Failed("reset")
		if all[0].Available() {
			t.Fatal("it is not ejected")
		}
		w.use(all[1])
		w.serve(s)
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, ok := w.up[name(0)]; ok {
			t.Error("there is a gauge for a server that has gone")
		}
		if !all[0].Available() {
			t.Error("the ejection has not ended")
		}
		w.monitor.Detach(all[0])
	})
}

// TestDrainedAndLost: a server that was found, and drained, is drained still when it is
// found again: a name server that does not list it for a moment is no operator.
func TestDrainedAndLost(t *testing.T) {
	t.Parallel()
	for _, found := range []bool{true, false} {
		w := newWorld(t, 2)
		s := health.Settings{Found: found}
		w.serve(s)
		if _, err := w.monitor.Drain(name(0)); err != nil {
			t.Fatal(err)
		}
		all := w.cluster.Endpoints
		w.use(all[1])
		w.serve(s)
		w.monitor.Detach(all[0])
		again := w.endpoint(0, 1)
		w.use(again, all[1])
		w.serve(s)
		if drained := !again.Available(); drained != found {
			t.Errorf("found %v: drained %v after it was away", found, drained)
		}
		if !found {
			continue
		}
		if changed, err := w.monitor.Ready(name(0)); err != nil || !changed || !again.Available() {
			t.Errorf("ready: %v, %v", changed, err)
		}
		// And that is forgotten, too.
		w.use(all[1])
		w.serve(s)
		w.monitor.Detach(again)
		third := w.endpoint(0, 1)
		w.use(third, all[1])
		w.serve(s)
		if !third.Available() {
			t.Error("drained although it was made ready")
		}
	}
}
