package host

import (
	"bytes"
	"encoding/binary"
	"maps"
	"strings"
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
	// of them, in a metric say. places has what is remembered of routes whose key is known. The
	// maps are not changed, but replaced under mu.
	known  atomic.Pointer[map[uint64]struct{}]
	places atomic.Pointer[map[watchName]*watchPlace]
	mu     sync.Mutex

	table atomic.Pointer[windowTable] // of windows, as it was used last; nil: ask for it
}

// A watchName is a route with its upstream.
type watchName struct{ route, upstream string }

// A watchPlace is what a Watch has found out about a route, so that a request looks nothing up
// but this.
type watchPlace struct {
	watchName
	key    []byte
	cell   atomic.Pointer[sharedCell]  // of the circuit; nil, or empty: ask for it
	window atomic.Pointer[watchWindow] // of the generation that was seen last
}

// A watchWindow is the window of a generation of a circuit. It is immutable.
type watchWindow struct {
	of         *watchPlace
	generation uint64
	tag        uint64
}

// watchKeyRoom holds a key with its generation without an allocation, if the names are not
// too long; maxWatchKnown is how many keys a Watch knows: they are routes, and more are those that
// reloads have left behind.
const (
	watchKeyRoom  = 512
	maxWatchKnown = 1024
)

// A Watched is what is remembered of a request that was let through.
type Watched struct{ window *watchWindow }

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
	at := w.place(watchName{route, upstream})
	if at == nil {
		return p, false
	}
	s := w.root.p.shared
	circuit := at.circuit(s)
	if circuit == nil || circuit[0] != 0 {
		return p, false
	}
	w.metric.passed(route)
	return Watched{at.windowOf(circuit[1], s.counters.key)}, true
}

// place returns what is remembered of a route; nil if the guest has to be asked about it first.
func (w *Watch) place(name watchName) *watchPlace {
	if m := w.places.Load(); m != nil {
		if at := (*m)[name]; at != nil {
			return at
		}
	}
	var room [watchKeyRoom]byte
	key := w.appendKey(room[:0], name.route, name.upstream)
	if len(key)+8 > maxCounterKey || !w.isKnown(w.root.p.shared.counters.key.sum(key)) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	more := map[watchName]*watchPlace{}
	if m := w.places.Load(); m != nil {
		if at := (*m)[name]; at != nil {
			return at
		}
		if len(*m) < maxWatchKnown {
			more = maps.Clone(*m)
		}
	}
	name = watchName{strings.Clone(name.route), strings.Clone(name.upstream)} // it outlives the configuration they are of
	at := &watchPlace{watchName: name, key: bytes.Clone(key)}
	more[name] = at
	w.places.Store(&more)
	return at
}

// circuit returns state and generation; nil if there are none.
func (p *watchPlace) circuit(s *sharedSpace) *[2]uint64 {
	if c := p.cell.Load(); c != nil {
		if n := c.read(); n != nil {
			return n
		}
	}
	c := s.cell(p.key)
	if c == nil {
		return nil
	}
	p.cell.Store(c)
	return c.read()
}

// windowOf returns the window of a generation.
func (p *watchPlace) windowOf(generation uint64, k tagKey) *watchWindow {
	if v := p.window.Load(); v != nil && v.generation == generation {
		return v
	}
	var room [watchKeyRoom]byte
	key := binary.LittleEndian.AppendUint64(append(room[:0], p.key...), generation)
	v := &watchWindow{of: p, generation: generation, tag: k.sum(key)}
	p.window.Store(v)
	return v
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
	for range 2 {
		t := w.table.Load()
		if t == nil {
			if t = w.root.p.shared.windows.find(w.shape); t == nil {
				return false // the guest's add makes it, and pays for it
			}
			w.table.Store(t)
		}
		if t.addWell(p.window.tag, w.root.p.h) {
			return true
		}
		if !t.gone.Load() {
			return false
		}
		w.table.CompareAndSwap(t, nil)
	}
	return false
}

// AppendProperty appends what abi.PropertyWatched says of a request that was let through.
func (w *Watch) AppendProperty(dst []byte, p *Watched) []byte {
	return append(abi.AppendUint(dst, p.window.generation), p.window.of.key...)
}
