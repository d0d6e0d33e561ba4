package main

import (
	"slices"
	"sync"
	"time"

	"wproxy/core/access"
	"wproxy/core/health"
	"wproxy/core/metrics"
	"wproxy/host"
)

// A view is what the page shows that is not at hand when it is asked for: what has
// happened, and how far the counters were some time ago. It lives as long as the process,
// and its memory is bounded.
type view struct {
	// Immutable.
	timeline *metrics.Timeline
	recorder *access.Recorder
	secrets  *guestSecrets
	// changed is called when something has happened that somebody may wait for, with locks
	// held; nil: nobody does. It is set before anything happens.
	changed func()

	mu sync.Mutex
	// Guarded by mu.
	traps    map[string]*TrapStatus       // the last one by plugin
	circuits map[circuitKey]circuitStatus // at most shownCircuits

	liveMu sync.Mutex
	// Guarded by liveMu.
	samples   []*sample   // oldest first, sampleTime apart
	forgets   *time.Timer // drops them; nil: live was not called yet
	lastMark  uint64      // that a call for what is new has returned
	lastEntry uint64
}

func newView(m *metrics.Metrics, secrets *guestSecrets) *view {
	return &view{timeline: m.Timeline(), recorder: access.NewRecorder(), secrets: secrets, traps: map[string]*TrapStatus{}, circuits: map[circuitKey]circuitStatus{}}
}

// A TrapStatus is how an instance of a plugin died.
type TrapStatus struct {
	Time      time.Time `json:"time"`
	Callback  string    `json:"callback"`
	Cause     string    `json:"cause"`
	Detail    string    `json:"detail"`
	Stack     []string  `json:"stack,omitempty"` // of the guest, innermost function first
	Log       []string  `json:"log,omitempty"`   // its last lines
	Route     string    `json:"route,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
}

// trapped notes a trap. It is called while a VM is locked.
func (v *view) trapped(t *host.TrapError) {
	v.recorder.Trap(t.RequestID)
	st := &TrapStatus{
		Time: time.Now(), Callback: t.Callback.String(), Cause: string(t.Cause), Detail: t.Detail,
		Stack: t.Stack, Route: t.Route, RequestID: t.RequestID,
	}
	for _, l := range t.Log {
		st.Log = append(st.Log, v.secrets.redact(t.Plugin, l))
	}
	v.mu.Lock()
	v.traps[t.Plugin] = st
	v.mu.Unlock()
	if v.changed != nil {
		v.changed()
	}
}

// lastTrap returns how an instance of a plugin died last; nil: none has.
func (v *view) lastTrap(plugin string) *TrapStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.traps[plugin]
}

// forget drops what is known of plugins and routes that are none any more.
func (v *view) forget(g *generation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.traps {
		if g.plugins[name] == nil {
			delete(v.traps, name)
		}
	}
	for k := range v.circuits {
		if g.plugins[k.plugin] == nil || g.file.Routes[k.route] == nil {
			delete(v.circuits, k)
		}
	}
}

// mark puts something on the time line, and has it shown soon.
func (v *view) mark(kind, text string) {
	v.timeline.Mark(kind, text)
	if v.changed != nil {
		v.changed()
	}
}

// markHealth puts a change of a server on the time line.
func (v *view) markHealth(e health.Event) {
	text := e.Upstream
	if e.Server != "" {
		text += "/" + e.Server
	}
	switch e.Kind {
	case health.Panic:
		text += ": too few servers are up, all are tried"
	case health.PanicOver:
		text += ": enough servers are up again"
	default:
		text += ": " + string(e.Kind)
	}
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	v.mark(string(e.Kind), text)
}

// markReload puts a reload on the time line.
func (v *view) markReload(changes []string, err error) {
	if err != nil {
		v.mark("refused", "reload refused: "+firstLine(err.Error()))
		return
	}
	kind, text := "reload", "reload: nothing changed"
	changes = slices.DeleteFunc(slices.Clone(changes), isDetail)
	for i, c := range changes {
		if i == 0 {
			text = "reload: " + c
		} else if i < 4 {
			text += "; " + c
		}
		if isPluginChange(c) {
			kind = "plugin"
		}
	}
	v.mark(kind, text)
}
