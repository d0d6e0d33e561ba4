package wasmfilter

import (
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/gaterule"
)

// GateHead is how a gate sees the head of a request.
func GateHead(r *exchange.Request) gaterule.Head { return (*gateHead)(r) }

// Limits that tests go up to.
const (
	MaxHeadBytes  = maxHeadBytes
	MaxHeadFields = maxHeadFields
	MaxModels     = maxModels
	MaxModelHead  = maxModelHead
)

// Guest is what a fake guest implements.
type Guest = guest

// LeaveEdits has x make edits as if its guest had asked for them ahead.
func (x *Factory) LeaveEdits(list ...host.StandingEdits) {
	x.standingRequests, x.standing = standingOf(list)
}

// NewFake returns a factory whose guests are made by open instead of by a host, and
// which tells warn what it would have the host log.
func NewFake(
	name string, calls host.Callbacks, hold bool, o Options, warn func(string), open func(s host.Stream) (Guest, error),
) *Factory {
	x := newFactory(name, calls, o)
	x.hold = hold
	x.warn = warn
	x.open = func(f *Filter) error {
		g, err := open(&f.stream)
		if err == nil {
			f.guest = g
		}
		return err
	}
	return x
}

// NewPass returns what is kept of a pass that order's guest has said about an answer with status
// 200 and without fields.
func NewPass(order *host.StandingLookup, since int64, edits ...abi.FieldEdit) objects.Note {
	like := likeness{status: 200, same: []string{"x-none"}, edits: edits, bytes: 100}
	return &pass{since: since, seconds: 10, order: order.ID, likeness: like, size: 1}
}

// SetNow has x tell the time by now.
func (x *Factory) SetNow(now func() time.Time) { x.now = now }

// ParseDate is parseDate.
func ParseDate(s string) (seconds int64, ok bool) { return parseDate(s) }

// ParseAge is parseAge.
func ParseAge(s string) int64 { return parseAge(s) }

// MakePass returns what is kept of a pass that a guest says about h; nil if it is refused.
func MakePass(a *abi.ObjectPass, h *exchange.Response) objects.Note {
	f := &Filter{factory: &Factory{}, x: &filter.Exchange{}}
	f.resp.head, f.resp.stage, f.resp.inside = h, stageHere, true
	if p := f.newPass(a); p != nil {
		return p
	}
	return nil
}

// MakeVariant returns what is noted of where variants are.
func MakeVariant(a *abi.ObjectVariant) objects.Note { return newVariant(a).note }

// MaxGather is how much of a body is gathered.
const MaxGather = maxGather

// StoreIn has x store messages in s.
func (x *Factory) StoreIn(s *objects.Space) { x.space = s }

// Fits reports whether an answer to the request of f, which has gone by as nothing was stored, is like one
// that a model was said about; nothing else becomes of it if it is not.
func (x *Factory) Fits(f filter.Filter, r *exchange.Response) bool {
	g, _ := f.(*Filter)
	_, ok := g.passAnswer(r, false)
	return ok
}

// Left returns what an exchange that is closed has left in its filter, which reset takes away.
func Left(f filter.Filter) (left, none any) {
	g, _ := f.(*Filter)
	state := func() any {
		r := &g.reading
		return []any{g.req.flow, g.resp.flow, g.req.next, g.resp.next, g.marks, g.stored, g.fill, g.gathering, r.f, r.object, r.reader, r.left, r.end, g.ownReader, g.miss, g.single, g.told.Load(), g.kept}
	}
	left = state()
	g.reset()
	return left, state()
}

// Order gives x a standing order, under which messages are in s.
func (x *Factory) Order(l *host.StandingLookup, s *objects.Space) {
	x.lookup, x.space, x.seen = l, s, newSeen()
}

// MaxRepeats and MaxRepeatLines are how many answers are repeated for one key, and how many lines are compared.
const (
	MaxRepeats     = maxRepeats
	MaxRepeatLines = maxRepeatLines
	MaxRepeatEdits = maxRepeatEdits
	MaxRepeatHead  = maxRepeatHead
)

// Repeats returns how many answers are repeated for the key of a record.
func Repeats(r *objects.Record) int {
	n, ok := r.Note.(*repeats)
	if !ok {
		return 0
	}
	return len(n.list)
}

// MakeRepeats returns what is kept of n answers that differ in hash alone.
func MakeRepeats(n int, v *abi.ObjectServe, request *exchange.Request, names ...string) objects.Note {
	f := &Filter{factory: &Factory{lookup: &host.StandingLookup{}, seen: newSeen()}, x: &filter.Exchange{Request: request}}
	var list *repeats
	mask := uint64(0)
	for _, name := range names {
		mask |= host.NameMark(name)
	}
	for i := range n {
		q, _ := f.ask(names, mask, 1)
		q.hash += uint64(i)
		list = list.with(f.newRepeat(&serving{ObjectServe: *v, record: &objects.Record{}}, &q, ""), names, mask)
	}
	return list
}
