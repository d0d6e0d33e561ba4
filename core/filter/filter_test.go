package filter_test

import (
	"testing"
	"testing/synctest"

	"wproxy/core/filter"
)

type waker struct{ woken int }

func (w *waker) Wake() { w.woken++ }

func TestPark(t *testing.T) {
	var x filter.Exchange
	var a, b, late waker
	if !x.Park(&a) || !x.Park(&b) {
		t.Fatal("nothing has ended yet")
	}
	x.Unpark(&a)
	x.AnswerEnded()
	x.AnswerEnded()
	if a.woken != 0 || b.woken != 2 {
		t.Errorf("woken: %d and %d times, want 0 and 2", a.woken, b.woken)
	}
	if x.Park(&late) {
		t.Error("parked after the end of the answer")
	}
	if !x.Over() {
		t.Error("not over")
	}
	x.Reset()
	if x.Over() || !x.Park(&late) || late.woken != 0 {
		t.Error("not ready for the next exchange")
	}
}

// Quiesce waits for what has been started, and nothing is started after it.
func TestQuiesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x filter.Exchange
		start := func() bool {
			x.Mu.Lock()
			defer x.Mu.Unlock()
			return x.StartLocked()
		}
		if !start() {
			t.Fatal("could not start")
		}
		done := false
		go func() {
			x.Quiesce()
			done = true
		}()
		synctest.Wait()
		if done {
			t.Error("did not wait for the goroutine")
		}
		if start() {
			t.Error("started one while closing")
		}
		x.Pushed()
		synctest.Wait()
		if !done {
			t.Error("still waits")
		}
	})
}
