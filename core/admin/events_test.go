package admin

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestHub: what is sent is computed once a second for all who watch, and not at all for
// nobody.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		h := newHub(func(bool) any { calls.Add(1); return 1 })
		time.Sleep(10 * time.Second)
		if n := calls.Load(); n != 0 {
			t.Errorf("nobody watches, and it was computed %d times", n)
		}
		var all []*watcher
		for range maxWatchers {
			all = append(all, h.join())
		}
		if h.join() != nil {
			t.Errorf("more than %d may watch", maxWatchers)
		}
		for range 3 {
			time.Sleep(eventTime)
			synctest.Wait()
			for i, w := range all {
				select {
				case e := <-w.events:
					if string(e) != "event: tick\ndata: 1\n\n" {
						t.Fatalf("watcher %d got %q", i, e)
					}
				default:
					t.Fatalf("watcher %d got nothing in a second", i)
				}
			}
		}
		if n := calls.Load(); n != 3 {
			t.Errorf("for %d that watch it was computed %d times in 3 s", maxWatchers, n)
		}
		for _, w := range all {
			h.leave(w)
			h.leave(w) // has no effect
		}
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if n := calls.Load(); n != 3 {
			t.Errorf("everybody has left, and it was computed %d times more", n-3)
		}
		again := h.join()
		time.Sleep(eventTime)
		synctest.Wait()
		if len(again.events) != 1 {
			t.Error("who comes later is told nothing")
		}
		h.close()
		if h.join() != nil {
			t.Error("one may join after the end")
		}
	})
}

// TestHubSoon: a change is told at once, many at a time with one event.
func TestHubSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(func(bool) any { return 1 })
		h.changed() // nobody watches: no matter
		w := h.join()
		time.Sleep(soonTime)
		synctest.Wait()
		<-w.events
		for range 8 { // for two seconds
			for range 1000 {
				h.changed()
			}
			time.Sleep(soonTime)
			synctest.Wait()
			select {
			case <-w.events:
			default:
				t.Fatal("a change was not told in time")
			}
			if len(w.events) != 0 {
				t.Fatal("changes at the same time are told more than once")
			}
		}
		h.close()
	})
}

// TestHubSlow: one that does not read is dropped, and the others are not kept waiting.
func TestHubSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(func(bool) any { return "x" })
		slow, quick := h.join(), h.join()
		got := 0
		for range 2 * eventQueue {
			time.Sleep(eventTime)
			synctest.Wait()
			<-quick.events
			got++
		}
		for range eventQueue {
			<-slow.events
		}
		if _, ok := <-slow.events; ok {
			t.Error("one that does not read is told more and more")
		}
		if got != 2*eventQueue {
			t.Errorf("the other one got %d of %d", got, 2*eventQueue)
		}
		h.close()
	})
}

// stuckWriter takes the head and no more, as a client that does not read.
type stuckWriter struct {
	httptest.ResponseRecorder
	deadline time.Time
	written  bytes.Buffer
}

func (s *stuckWriter) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *stuckWriter) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "event: tick") {
		time.Sleep(time.Until(s.deadline))
		return 0, context.DeadlineExceeded
	}
	return s.written.Write(b)
}

func (s *stuckWriter) Flush() {}

// TestServeStuck: a write that does not get through ends the connection in time.
func TestServeStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(func(all bool) any { return all })
		w := &stuckWriter{ResponseRecorder: *httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", http.NoBody)
		begin := time.Now()
		h.serve(w, r)
		if took := time.Since(begin); took != eventTime+eventWrite {
			t.Errorf("it took %v, want %v", took, eventTime+eventWrite)
		}
		if got := w.written.String(); got != "retry: 1000\n\nevent: all\ndata: true\n\n" {
			t.Errorf("got %q", got)
		}
		if len(h.watchers) != 0 || h.stop != nil {
			t.Error("it still counts as one that watches")
		}
	})
}
