package host

import (
	"math"
	"strings"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// A Gate is the standing order of a root's guest (abi.ForeignGate): which requests the host
// lets through without asking it, and which it refuses. Its methods are safe for concurrent use, and touch no VM.
type Gate struct {
	// Immutable.
	root   *Root
	args   string // that it was made from
	exempt gaterule.Exempt
	key    gaterule.Key
	shared *gaterule.Key // of requests that lack a part of their key; nil: the guest's
	metric *metric       // nil: none
	fields []gateField

	refusals [abi.GateKeyless + 1]*Refusal // by why; nil: the guest's

	exemptMetric *metric // nil: none

	// What is taken from: a bucket, or a window if shape is one, or neither if cost is 0; and places.
	limit   counterLimit
	reserve int64
	shape   windowShape
	most    int64 // that the sum of a window may become
	cost    int64

	places    int64  // 0: none are taken
	placesKey string // before the key, of them

	// The limit's table, or the shape's, as it was used last; nil: ask for it.
	table   atomic.Pointer[counterTable]
	windows atomic.Pointer[windowTable]
}

const (
	// gateKeyRoom holds a key without an allocation: its text at most, addresses and a route;
	// gateValueRoom what is read from the head, too.
	gateKeyRoom   = 512
	gateValueRoom = gateKeyRoom + abi.MaxGateValues + 4*abi.MaxGateReads
)

// An Admission is what a request is told of its bucket or window, and the place that it has.
type Admission struct {
	Exempt    bool  // nothing was taken, and nothing is added to the answer
	Remaining int64 // tokens left, without the reserve
	Full      int64 // seconds until the bucket is full, rounded up; 0 with a window
	Retry     int64 // seconds until the tokens are there, rounded up; 0: they are, or it is about something else

	place   uint64 // tag of the place that the request has
	held    bool   // it has one
	refusal *Refusal
}

// Refusal returns what becomes of a request that was not let through, or was all the same; nil: it was, or
// the guest has to be asked.
func (a *Admission) Refusal() *Refusal { return a.refusal }

// setGate is abi.ForeignGate.
func setGate(v *vm, args []byte) abi.Status {
	v.charge(int64(len(args)) * (parseUnits + heapUnits))
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil || !v.p.exports[CallRequestHeaders].present || c.root.watch.Load() != nil {
		return abi.StatusBadArgument
	}
	if old := c.root.gate.Load(); old != nil && old.args == string(args) {
		return abi.StatusOK // from another VM, as a rule; what it has learnt stays
	}
	r, err := abi.ParseGate(string(args))
	if err != nil {
		return abi.StatusBadArgument
	}
	g := &Gate{root: c.root, args: string(args), limit: counterLimit{r.Interval, r.Burst}, cost: r.Cost, reserve: r.Reserve}
	g.places, g.placesKey = r.Places, strings.Clone(r.PlacesKey)
	if !g.setLimit(r) || !g.setRules(r) {
		return abi.StatusBadArgument
	}
	var ok1, ok2 bool
	g.metric, ok1 = v.ownCounter(r.Metric)
	g.exemptMetric, ok2 = v.ownCounter(r.ExemptMetric)
	if !ok1 || !ok2 || !g.setLines(r.Fields) || !g.setRefusals(v, r.Refusals) {
		return abi.StatusBadArgument
	}
	c.root.gate.Store(g)
	return abi.StatusOK
}

// setLimit sets what is taken from; false if a number is out of its range.
func (g *Gate) setLimit(r *abi.GateRecord) bool {
	switch {
	case r.Places < 0:
		return false
	case r.Places > 0 && r.Slots == 0 && r.Interval == 0 && r.Burst == 0 && r.Cost == 0:
		return r.Reserve == 0
	}
	if r.Cost < 1 || r.Cost > r.Burst || r.Reserve < 0 || r.Reserve > r.Burst-r.Cost {
		return false
	}
	if r.Slots == 0 {
		return g.limit.valid()
	}
	g.shape, g.most = windowShape{r.Slots, r.Interval}, r.Burst
	return g.shape.valid() && r.Cost <= math.MaxUint32 && r.Reserve == 0
}

// setRules sets what is read of a request.
func (g *Gate) setRules(r *abi.GateRecord) (ok bool) {
	if g.key, ok = gaterule.NewKey(r.Key); !ok {
		return false
	}
	if g.exempt, ok = gaterule.NewExempt(r.Exempt); !ok {
		return false
	}
	if len(r.Missing) > 0 {
		k, ok := gaterule.NewKey(r.Missing)
		if g.shared = &k; !ok {
			return false
		}
	}
	return g.key.Reads()+g.exempt.Reads() <= abi.MaxGateReads
}

// setLines sets the lines of the answer to requests that are let through.
func (g *Gate) setLines(list []abi.GateField) (ok bool) {
	for i := range list {
		for _, p := range list[i].Value {
			if p.Kind == abi.GateRemaining && g.cost == 0 || p.Kind == abi.GateFull && (g.cost == 0 || g.shape.slots > 0) {
				return false // of nothing; and a window is empty when what was just added has left it, as everybody knows
			}
		}
	}
	g.fields, ok = newGateFields(list)
	return ok
}

// ownCounter returns the counter that is called id, nil for 0; false: there is none.
func (v *vm) ownCounter(id uint32) (*metric, bool) {
	if id == 0 {
		return nil, true
	}
	m := v.p.metrics.at(id)
	return m, v.p.grants.has(GrantMetrics) && m != nil && m.kind == abi.MetricCounter
}

// Gate returns the gate of r; nil if there is none, and every request is the guest's to
// decide on.
func (r *Root) Gate() *Gate { return r.gate.Load() }

// serving reports whether r has a VM that a stream could be opened in, or could have had a
// moment ago.
func (r *Root) serving() bool {
	vms := r.p.vms.Load()
	return vms != nil && len(*vms) > 0 && r.refs.Load() >= handle
}

// Admit takes a request's tokens and its place, unless it is exempt. If it is false the request is not let
// through: a has a Refusal, or the guest has to be asked, and nothing was taken. That is so if the guest has not
// said ahead what becomes of such requests, what the key is made of is not known, the bucket or window is not where
// a take would simply find it, or the plugin has no VM alive, so that whoever opens a stream finds out about that and
// what is to be done about it. If it is true, or there is a refusal, Leave has to be called.
func (g *Gate) Admit(r gaterule.Request) (a Admission, ok bool) {
	if !g.root.serving() {
		return a, false
	}
	if g.exempt.Has(&r) {
		g.exemptMetric.passed(r.Route)
		return Admission{Exempt: true}, true
	}
	tag, place, found := g.tags(&r)
	switch {
	case found == gaterule.Missing:
		return g.refuse(a, abi.GateKeyless, r.Route)
	case found != gaterule.Known:
		return a, false
	case g.places > 0 && !g.acquire(place):
		return g.refuse(a, abi.GateCrowded, r.Route)
	}
	switch {
	case g.cost == 0:
		ok = true
	case g.shape.slots > 0:
		a, ok = g.add(tag)
	default:
		a, ok = g.take(tag)
	}
	a.place, a.held = place, g.places > 0
	switch {
	case ok:
		g.metric.passed(r.Route)
		return a, true
	case a.Retry > 0 && g.refusals[abi.GateLimited] != nil:
		return g.refuse(a, abi.GateLimited, r.Route)
	}
	g.Leave(a)
	return Admission{}, false
}

// acquire takes a place.
func (g *Gate) acquire(tag uint64) bool {
	got, _ := g.root.p.shared.places.take(placeAsk{tag: tag, most: g.places}, g.root.p.h.counterClock())
	return got
}

// Leave gives back what a request has only for as long as its exchange lasts. It is called once for
// each that was let through, or is refused.
func (g *Gate) Leave(a Admission) {
	if a.held {
		g.root.p.shared.places.release(a.place)
	}
}

// tags returns what the key of a request, and that of its place, are known by, if it is found.
func (g *Gate) tags(r *gaterule.Request) (tag, place uint64, found gaterule.Found) {
	if g.key.Reads() > 0 {
		tag, place, found = g.longTags(r)
	} else {
		tag, place, found = g.shortTags(&g.key, r)
	}
	if found == gaterule.Missing && g.shared != nil {
		tag, place, found = g.shortTags(g.shared, r)
	}
	return tag, place, found
}

func (g *Gate) shortTags(k *gaterule.Key, r *gaterule.Request) (tag, place uint64, found gaterule.Found) {
	var room [gateKeyRoom]byte
	key, found := k.Append(append(room[:0], g.placesKey...), r)
	tag, place = g.sums(key)
	return tag, place, found
}

// longTags has room for what is read from the head.
func (g *Gate) longTags(r *gaterule.Request) (tag, place uint64, found gaterule.Found) {
	var room [gateValueRoom]byte
	key, found := g.key.Append(append(room[:0], g.placesKey...), r)
	tag, place = g.sums(key)
	return tag, place, found
}

// sums hashes a key with placesKey in front.
func (g *Gate) sums(key []byte) (tag, place uint64) {
	h := g.root.p.shared.counters.key
	if g.cost > 0 {
		tag = h.sum(key[len(g.placesKey):])
	}
	if g.places > 0 {
		place = h.sum(key)
	}
	return tag, place
}

// passed counts a request that was let through; m may be nil.
func (m *metric) passed(route string) {
	if m == nil {
		return
	}
	m.value.Add(1)
	if m.out != nil {
		m.out.Add(1, route)
	}
}

// take takes from the bucket of a tag; false if the tokens are not there, of which Retry tells, or if it takes
// more than to write a time.
func (g *Gate) take(tag uint64) (Admission, bool) {
	for range 2 {
		t := g.table.Load()
		if t == nil {
			if t = g.root.p.shared.counters.find(g.limit); t == nil {
				return Admission{}, false // the guest's take makes it, and pays for it
			}
			g.table.Store(t)
		}
		d, gone := t.admit(tag, g.cost, g.reserve, g.root.p.h)
		if !gone {
			return Admission{Remaining: max(d.remaining-g.reserve, 0), Full: upToSeconds(d.full), Retry: upToSeconds(d.retry)}, d.admitted
		}
		g.table.CompareAndSwap(t, nil)
	}
	return Admission{}, false
}

// upToSeconds rounds nanoseconds up to seconds.
func upToSeconds(ns int64) int64 { return (ns + 1e9 - 1) / 1e9 }

// add adds to the window of a tag, likewise; Remaining is how much more could be added.
func (g *Gate) add(tag uint64) (Admission, bool) {
	for range 2 {
		t := g.windows.Load()
		if t == nil {
			if t = g.root.p.shared.windows.find(g.shape); t == nil {
				return Admission{}, false
			}
			g.windows.Store(t)
		}
		d, gone := t.admit(tag, uint32(g.cost), g.most, g.root.p.h)
		if !gone {
			return Admission{Remaining: d.remaining, Retry: upToSeconds(d.retry)}, d.admitted
		}
		g.windows.CompareAndSwap(t, nil)
	}
	return Admission{}, false
}

// Fields returns how many lines are added to the answer to a request that was let through.
func (g *Gate) Fields(a Admission) int {
	if a.Exempt || a.refusal != nil {
		return 0
	}
	return len(g.fields)
}

// Field returns line i of them: clean in the sense of FieldMap.
func (g *Gate) Field(i int, a Admission) (name, value string) {
	f := &g.fields[i]
	return f.name, f.value(a)
}
