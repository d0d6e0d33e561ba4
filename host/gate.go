package host

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// A Gate is the standing order of a root's guest (abi.ForeignGate): which requests the host
// lets through without asking it. Its methods are safe for concurrent use, and touch no VM.
type Gate struct {
	// Immutable.
	root   *Root
	args   string // that it was made from
	exempt gaterule.Exempt
	key    gaterule.Key
	shared *gaterule.Key // of requests that lack a part of their key; nil: the guest's
	metric *metric       // nil: none
	fields []gateField

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

// A gateField is a line of an answer.
type gateField struct {
	name  string
	fixed string         // the value, if it is always the same
	parts []abi.GatePart // else what it is made of

	// texts are what it was lately, by numbers: requests of many keys have mostly some that
	// others had a moment ago.
	texts [gateTexts]atomic.Pointer[gateText]
}

// A gateText is the value of a field for some numbers. It is immutable.
type gateText struct {
	remaining, full int64 // that it is of
	text            string
	room            [gateTextRoom]byte // of text, if it fits
}

const (
	// gateTexts are kept of a field, of some 100 bytes each.
	gateTexts = 32

	// gateTextRoom holds two numbers and what a field of limits has around them.
	gateTextRoom = 64

	// gateKeyRoom holds a key without an allocation: its text at most, addresses and a route;
	// gateValueRoom what is read from the head, too.
	gateKeyRoom   = 512
	gateValueRoom = gateKeyRoom + abi.MaxGateValues + 4*abi.MaxGateReads
)

// An Admission is what a request that was let through is told of its bucket or window, and the place
// that it has.
type Admission struct {
	Exempt    bool  // nothing was taken, and nothing is added to the answer
	Remaining int64 // tokens left, without the reserve
	Full      int64 // seconds until the bucket is full, rounded up; 0 with a window

	place uint64 // tag of the place that the request has
	held  bool   // it has one
}

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
	if !ok1 || !ok2 || !g.setFields(r.Fields) {
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

// setFields sets the lines of the answer.
func (g *Gate) setFields(list []abi.GateField) bool {
	g.fields = make([]gateField, len(list))
	for i, f := range list {
		for _, p := range f.Value {
			if p.Kind == abi.GateRemaining && g.cost == 0 || p.Kind == abi.GateFull && (g.cost == 0 || g.shape.slots > 0) {
				return false // of nothing; and a window is empty when what was just added has left it, as everybody knows
			}
		}
		if HopByHop(f.Name) || f.Name == "content-length" || f.Name == "trailer" || !g.fields[i].set(f) {
			return false
		}
	}
	return true
}

// ownCounter returns the counter that is called id, nil for 0; false: there is none.
func (v *vm) ownCounter(id uint32) (*metric, bool) {
	if id == 0 {
		return nil, true
	}
	m := v.p.metrics.at(id)
	return m, v.p.grants.has(GrantMetrics) && m != nil && m.kind == abi.MetricCounter
}

// set makes g the field f; false if it can be none. Numbers are digits, so if it is clean with
// some it is with any.
func (g *gateField) set(f abi.GateField) bool {
	value := string(appendGateValue(nil, f.Value, Admission{}))
	g.name = strings.Clone(f.Name)
	if slices.ContainsFunc(f.Value, func(p abi.GatePart) bool { return p.Kind != abi.GateText }) {
		g.parts = f.Value
	} else {
		g.fixed = value
	}
	return isClean(f.Name, value)
}

func appendGateValue(dst []byte, parts []abi.GatePart, a Admission) []byte {
	for i := range parts {
		switch p := &parts[i]; p.Kind {
		case abi.GateRemaining:
			dst = strconv.AppendInt(dst, a.Remaining, 10)
		case abi.GateFull:
			dst = strconv.AppendInt(dst, a.Full, 10)
		default:
			dst = append(dst, p.Text...)
		}
	}
	return dst
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

// Admit takes a request's tokens and its place, unless it is exempt. If it is false nothing was taken,
// and the guest has to be asked: they are not there, what the key is made of is not known, the bucket or
// window is not where a take would simply find it, or the plugin has no VM alive, so that whoever opens a
// stream finds out about that and what is to be done about it. If it is true Leave has to be called.
func (g *Gate) Admit(r gaterule.Request) (a Admission, ok bool) {
	if !g.root.serving() {
		return a, false
	}
	if g.exempt.Has(&r) {
		g.exemptMetric.passed(r.Route)
		return Admission{Exempt: true}, true
	}
	tag, place, ok := g.tags(&r)
	if !ok || g.places > 0 && !g.acquire(place) {
		return a, false
	}
	switch {
	case g.cost == 0:
	case g.shape.slots > 0:
		a.Remaining, ok = g.add(tag)
	default:
		a, ok = g.take(tag)
	}
	if a.place, a.held = place, g.places > 0; !ok {
		g.Leave(a)
		return Admission{}, false
	}
	g.metric.passed(r.Route)
	return a, true
}

// acquire takes a place.
func (g *Gate) acquire(tag uint64) bool {
	got, _ := g.root.p.shared.places.take(placeAsk{tag: tag, most: g.places}, g.root.p.h.counterClock())
	return got
}

// Leave gives back what a request has only for as long as its exchange lasts. It is called once for
// each that was let through.
func (g *Gate) Leave(a Admission) {
	if a.held {
		g.root.p.shared.places.release(a.place)
	}
}

// tags returns what the key of a request, and that of its place, are known by; false if that is the
// guest's to find out.
func (g *Gate) tags(r *gaterule.Request) (tag, place uint64, ok bool) {
	var found gaterule.Found
	if g.key.Reads() > 0 {
		tag, place, found = g.longTags(r)
	} else {
		tag, place, found = g.shortTags(&g.key, r)
	}
	if found == gaterule.Missing && g.shared != nil {
		tag, place, found = g.shortTags(g.shared, r)
	}
	return tag, place, found == gaterule.Known
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

// take takes from the bucket of a tag; false if that takes more than to write a time.
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
			return Admission{Remaining: d.remaining - g.reserve, Full: (d.full + 1e9 - 1) / 1e9}, d.admitted
		}
		g.table.CompareAndSwap(t, nil)
	}
	return Admission{}, false
}

// add adds to the window of a tag, likewise; left is how much more could be added.
func (g *Gate) add(tag uint64) (left int64, ok bool) {
	for range 2 {
		t := g.windows.Load()
		if t == nil {
			if t = g.root.p.shared.windows.find(g.shape); t == nil {
				return 0, false
			}
			g.windows.Store(t)
		}
		left, ok, gone := t.admit(tag, uint32(g.cost), g.most, g.root.p.h)
		if !gone {
			return left, ok
		}
		g.windows.CompareAndSwap(t, nil)
	}
	return 0, false
}

// Fields returns how many lines are added to the answer.
func (g *Gate) Fields() int { return len(g.fields) }

// Field returns line i of the answer to a request that was let through: clean in the sense of
// FieldMap.
func (g *Gate) Field(i int, a Admission) (name, value string) {
	f := &g.fields[i]
	if f.parts == nil {
		return f.name, f.fixed
	}
	at := &f.texts[(uint64(a.Remaining)+8*uint64(a.Full))%gateTexts] // one falls as the other rises
	t := at.Load()
	if t == nil || t.remaining != a.Remaining || t.full != a.Full {
		t = &gateText{remaining: a.Remaining, full: a.Full}
		t.text = borrow(appendGateValue(t.room[:0], f.parts, a))
		at.Store(t)
	}
	return f.name, t.text
}
