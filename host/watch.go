package host

import (
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"

	"wproxy/abi"
)

// A Watch is the standing order of a root's guest (abi.ForeignWatch): which requests the host
// lets through, and whose ends it counts, without asking the guest. Its methods are safe for
// concurrent use, and touch no VM.
type Watch struct {
	// Immutable.
	root     *Root
	args     string // that it was made from
	key      []abi.GatePart
	shape    windowShape
	statuses abi.StatusSet
	metric   *metric // nil: none

	// known has the keys, as tags, that the guest was asked about once: it may have to tell
	// of them, in a metric say. The map is not changed, but replaced under mu.
	known atomic.Pointer[map[uint64]struct{}]
	mu    sync.Mutex
}

// watchKeyRoom holds a key with its generation without an allocation, if the names are not
// too long; maxWatchKnown is how many keys a Watch knows: they are routes, and more are those that
// reloads have left behind.
const (
	watchKeyRoom  = 512
	maxWatchKnown = 1024
)

// A Watched is what is remembered of a request that was let through.
type Watched struct {
	route, upstream string
	generation      uint64
	window          uint64 // tag of its window
}

// setWatch is abi.ForeignWatch.
func setWatch(v *vm, args []byte) abi.Status {
	v.charge(int64(len(args)) * (parseUnits + heapUnits))
	if !v.p.grants.has(GrantSharedData) {
		v.notGranted(abi.ForeignWatch, GrantSharedData)
		return abi.StatusInternalFailure
	}
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil || c.root.gate.Load() != nil ||
		!v.p.exports[CallRequestHeaders].present || !v.p.exports[CallResponseHeaders].present {
		return abi.StatusBadArgument
	}
	if old := c.root.watch.Load(); old != nil && old.args == string(args) {
		return abi.StatusOK // from another VM, as a rule
	}
	r, err := abi.ParseWatch(string(args))
	if err != nil {
		return abi.StatusBadArgument
	}
	w := &Watch{root: c.root, args: string(args), key: r.Key, shape: windowShape{r.Slots, r.Width}, statuses: r.Statuses}
	var ok bool
	if w.metric, ok = v.ownCounter(r.Metric); !ok || !w.shape.valid() {
		return abi.StatusBadArgument
	}
	c.root.watch.Store(w)
	return abi.StatusOK
}

// Watch returns the watch of r; nil if there is none.
func (r *Root) Watch() *Watch { return r.watch.Load() }

// Admit lets a request through whose circuit is closed. If it is false the guest has to be
// asked: the circuit is not closed, or not known, to this Watch or at all, or the plugin has no VM
// alive, as with Gate.Admit. upstream is that of the route, "" if there are several.
func (w *Watch) Admit(route, upstream string) (p Watched, ok bool) {
	if !w.root.serving() {
		return p, false
	}
	var room [watchKeyRoom]byte
	key := w.appendKey(room[:0], route, upstream)
	s := w.root.p.shared
	if len(key)+8 > maxCounterKey || !w.isKnown(s.counters.key.sum(key)) {
		return p, false
	}
	state, generation, ok := s.numbers(key)
	if !ok || state != 0 {
		return p, false
	}
	w.metric.passed(route)
	key = binary.LittleEndian.AppendUint64(key, generation)
	return Watched{route, upstream, generation, s.counters.key.sum(key)}, true
}

// isKnown reports whether the guest was asked about a key before; if not, it is asked now.
func (w *Watch) isKnown(tag uint64) bool {
	if m := w.known.Load(); m != nil {
		if _, ok := (*m)[tag]; ok {
			return true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	more := map[uint64]struct{}{}
	if m := w.known.Load(); m != nil && len(*m) < maxWatchKnown {
		more = maps.Clone(*m)
	}
	more[tag] = struct{}{}
	w.known.Store(&more)
	return false
}

func (w *Watch) appendKey(dst []byte, route, upstream string) []byte {
	for i := range w.key {
		switch p := &w.key[i]; p.Kind {
		case abi.WatchRoute:
			dst = append(dst, route...)
		case abi.WatchUpstream:
			dst = append(dst, upstream...)
		default:
			dst = append(dst, p.Text...)
		}
	}
	return dst
}

// Count counts an answer, which a server has made or could not make, to a request that was let
// through. If it is false nothing was counted, and it is the guest's to do: it is a failure, or one
// was counted lately, or the window is not there. failure is that of the upstream, as the
// property upstream.failure has it.
func (w *Watch) Count(p *Watched, failure string, status int) bool {
	if failure != "" && failure != "none" || w.statuses.Has(status) {
		return false
	}
	return w.root.p.shared.windows.addWell(w.shape, p.window, w.root.p.h)
}

// AppendProperty appends what abi.PropertyWatched says of a request that was let through.
func (w *Watch) AppendProperty(dst []byte, p *Watched) []byte {
	return w.appendKey(abi.AppendUint(dst, p.generation), p.route, p.upstream)
}
