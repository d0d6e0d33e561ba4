package admin

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// A hub sends what the page shows to all who watch, each second, as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). What is sent is
// computed once for all of them, and not at all when nobody watches.
type hub struct {
	live func(all bool) any
	soon chan struct{} // something has changed that people wait for

	mu sync.Mutex
	// Guarded by mu.
	watchers map[*watcher]struct{}
	stop     chan struct{} // ends run; nil: it does not run
	closed   bool
}

// A watcher is one connection.
type watcher struct {
	events chan []byte // closed: it is to leave
}

func newHub(live func(all bool) any) *hub {
	return &hub{live: live, soon: make(chan struct{}, 1), watchers: map[*watcher]struct{}{}}
}

// join adds a watcher; nil: there are too many, or the end has come.
func (h *hub) join() *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.watchers) >= maxWatchers {
		return nil
	}
	w := &watcher{events: make(chan []byte, eventQueue)}
	h.watchers[w] = struct{}{}
	if h.stop == nil {
		h.stop = make(chan struct{})
		go h.run(h.stop) // ended by the last one that leaves, and by close
	}
	return w
}

// leave removes w.
func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(w)
}

func (h *hub) removeLocked(w *watcher) {
	if _, ok := h.watchers[w]; !ok {
		return
	}
	delete(h.watchers, w)
	close(w.events)
	if len(h.watchers) == 0 && h.stop != nil {
		close(h.stop)
		h.stop = nil
	}
}

// close makes all leave, and lets nobody join.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		h.removeLocked(w)
	}
}

// changed has the next event sent soon. It does not block, and may be called with locks held.
func (h *hub) changed() {
	select {
	case h.soon <- struct{}{}:
	default: // it will be told with another
	}
}

// run sends events until stop is closed: each second, and a moment after something has
// changed that people wait for.
func (h *hub) run(stop <-chan struct{}) {
	t := time.NewTicker(eventTime)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		case <-h.soon:
			select { // what else has changed is told with it
			case <-stop:
				return
			case <-time.After(soonTime):
			}
			t.Reset(eventTime)
		}
		e := event("tick", h.live(false))
		h.mu.Lock()
		for w := range h.watchers {
			select {
			case w.events <- e:
			default:
				h.removeLocked(w) // it does not read; when it does, it comes again and is told everything
			}
		}
		h.mu.Unlock()
	}
}

// event encodes one event.
func event(name string, v any) []byte {
	b, err := json.Marshal(v) // has no line breaks
	if err != nil {
		name, b = "problem", []byte(`"cannot encode"`)
	}
	e := make([]byte, 0, len(name)+len(b)+20)
	e = append(e, "event: "+name+"\ndata: "...)
	return append(append(e, b...), "\n\n"...)
}

// serve answers GET /events.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	me := h.join()
	if me == nil {
		text(w, http.StatusServiceUnavailable, "as many watch as may, or this process is ending\n")
		return
	}
	defer h.leave(me)
	head := w.Header()
	protect(head)
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	c := http.NewResponseController(w)
	send := func(e []byte) bool {
		// Whoever does not read is not waited for.
		if c.SetWriteDeadline(time.Now().Add(eventWrite)) != nil {
			return false
		}
		_, err := w.Write(e)
		return err == nil && c.Flush() == nil
	}
	if !send([]byte("retry: 1000\n\n")) || !send(event("all", h.live(true))) {
		return
	}
	for {
		select {
		case e, ok := <-me.events:
			if !ok || !send(e) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
