package host

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"wproxy/abi"
)

// A Gate is the standing order of a root's guest (abi.ForeignGate): which requests the host
// lets through without asking it. Its methods are safe for concurrent use, and touch no VM.
type Gate struct {
	// Immutable.
	root   *Root
	args   string // that it was made from
	key    []abi.GatePart
	limit  counterLimit
	cost   int64
	metric *metric // nil: none
	fields []gateField

	table atomic.Pointer[counterTable] // the limit's, as it was used last; nil: ask for it
}

// A gateField is a line of an answer.
type gateField struct {
	name  string
	fixed string         // the value, if it is always the same
	parts []abi.GatePart // else what it is made of

	// last is what it was last: it mostly is the same again, as a bucket that is taken
	// from rarely is full again by the next request.
	last atomic.Pointer[gateText]
}

// A gateText is the value of a field for some numbers. It is immutable.
type gateText struct {
	of   Admission
	text string
	room [gateTextRoom]byte // of text, if it fits
}

const (
	// gateTextRoom holds two numbers and what a field of limits has around them.
	gateTextRoom = 64

	// gateKeyRoom holds a key without an allocation: its text at most, addresses and a route.
	gateKeyRoom = 512
)

// An Admission is what a request that was let through is told of its bucket.
type Admission struct {
	Remaining int64 // tokens left
	Full      int64 // seconds until the bucket is full, rounded up
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
	g := &Gate{root: c.root, args: string(args), key: r.Key, limit: counterLimit{r.Interval, r.Burst}, cost: r.Cost}
	if !g.limit.valid() || g.cost < 1 || g.cost > g.limit.burst {
		return abi.StatusBadArgument
	}
	var ok bool
	if g.metric, ok = v.ownCounter(r.Metric); !ok {
		return abi.StatusBadArgument
	}
	g.fields = make([]gateField, len(r.Fields))
	for i, f := range r.Fields {
		if HopByHop(f.Name) || f.Name == "content-length" || f.Name == "trailer" || !g.fields[i].set(f) {
			return abi.StatusBadArgument
		}
	}
	c.root.gate.Store(g)
	return abi.StatusOK
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

// Admit takes a request's tokens. If it is false nothing was taken, and the guest has to be
// asked: the tokens are not there, what the key is made of is not known (an invalid client), the
// bucket is not where a take would simply find it, or the plugin has no VM alive, so that whoever
// opens a stream finds out about that and what is to be done about it.
func (g *Gate) Admit(route string, client netip.Addr) (a Admission, ok bool) {
	if !g.root.serving() {
		return a, false
	}
	var room [gateKeyRoom]byte
	key, ok := g.appendKey(room[:0], route, client)
	if !ok {
		return a, false
	}
	t, ok := g.take(g.root.p.shared.counters.key.sum(key))
	if !ok {
		return a, false
	}
	g.metric.passed(route)
	return Admission{Remaining: t.remaining, Full: (t.full + 1e9 - 1) / 1e9}, true
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

// appendKey appends the key of a request; false if a part of it is not known.
func (g *Gate) appendKey(dst []byte, route string, client netip.Addr) ([]byte, bool) {
	for i := range g.key {
		switch p := &g.key[i]; p.Kind {
		case abi.GateRoute:
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(route)))
			dst = append(dst, route...)
		case abi.GateClient:
			switch client = client.Unmap(); {
			case client.Is4():
				b := client.As4()
				dst = append(append(dst, uint8(len(b)), 0, 0, 0), b[:]...)
			case client.Is6():
				b := client.As16()
				keepBits(&b, int(p.Bits))
				dst = append(append(dst, uint8(len(b)), 0, 0, 0), b[:]...)
			default:
				return dst, false
			}
		default:
			dst = append(dst, p.Text...)
		}
	}
	return dst, true
}

// keepBits sets all but the first n bits to zero.
func keepBits(b *[16]byte, n int) {
	for i := n / 8; i < len(b); i++ {
		if i == n/8 {
			b[i] &= ^(byte(0xff) >> (n % 8))
			continue
		}
		b[i] = 0
	}
}

// take takes from the bucket of a tag; false if that takes more than to write a time.
func (g *Gate) take(tag uint64) (taken, bool) {
	for range 2 {
		t := g.table.Load()
		if t == nil {
			if t = g.root.p.shared.counters.find(g.limit); t == nil {
				return taken{}, false // the guest's take makes it, and pays for it
			}
			g.table.Store(t)
		}
		d, gone := t.admit(tag, g.cost, g.root.p.h)
		if !gone {
			return d, d.admitted
		}
		g.table.CompareAndSwap(t, nil)
	}
	return taken{}, false
}

// admit is take where a bucket has the tokens and is at its place, or has one that nobody
// has to leave; otherwise nothing is taken, and the outcome is not admitted. gone: the table is not
// in use any more.
func (t *counterTable) admit(tag uint64, cost int64, h *Host) (d taken, gone bool) {
	p := t.page(tag)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := h.counterClock()
	i, crowded := p.find(tag, now)
	if crowded {
		return taken{}, t.gone.Load()
	}
	full := now
	if i < len(p.buckets) && p.buckets[i].tag == tag {
		full = min(max(p.buckets[i].full, now), now+t.capacity()+t.debt.Load())
	}
	latest, after := now+t.capacity(), full+cost*t.interval
	if after > latest {
		return taken{}, t.gone.Load()
	}
	t.owe(after, now)
	if t.gone.Load() {
		return taken{}, true
	}
	p.put(i, counterBucket{tag, after})
	return taken{admitted: true, remaining: (latest - after) / t.interval, full: after - now}, false
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
	last := f.last.Load()
	if last == nil || last.of != a {
		last = &gateText{of: a}
		last.text = borrow(appendGateValue(last.room[:0], f.parts, a))
		f.last.Store(last)
	}
	return f.name, last.text
}
