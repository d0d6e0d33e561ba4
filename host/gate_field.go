package host

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"wproxy/abi"
)

// A gateField is a line of an answer.
type gateField struct {
	name  string
	fixed string         // the value, if it is always the same
	parts []abi.GatePart // else what it is made of
	uses  uint32         // kinds of these

	// texts are what it was lately, by numbers: requests of many keys have mostly some that
	// others had a moment ago.
	texts [gateTexts]atomic.Pointer[gateText]
}

// A gateText is the value of a field for some numbers. It is immutable.
type gateText struct {
	gateNumbers // that it is of

	text string
	room [gateTextRoom]byte // of text, if it fits
}

// gateNumbers are those of an Admission that a field tells; 0 in place of others.
type gateNumbers struct{ remaining, full, retry int64 }

const (
	// gateTexts are kept of a field, of some 100 bytes each.
	gateTexts = 32

	// gateTextRoom holds two numbers and what a field of limits has around them.
	gateTextRoom = 64
)

// newGateFields returns the lines of an answer; false if one of them can be none.
func newGateFields(list []abi.GateField) ([]gateField, bool) {
	fields := make([]gateField, len(list))
	for i, f := range list {
		if HopByHop(f.Name) || f.Name == "content-length" || f.Name == "trailer" || !fields[i].set(f) {
			return nil, false
		}
	}
	return fields, true
}

// set makes g the field f; false if it can be none. Numbers are digits, so if it is clean with
// some it is with any.
func (g *gateField) set(f abi.GateField) bool {
	value := string(appendGateValue(nil, f.Value, gateNumbers{}))
	g.name = strings.Clone(f.Name)
	if slices.ContainsFunc(f.Value, func(p abi.GatePart) bool { return p.Kind != abi.GateText }) {
		g.parts = f.Value
	} else {
		g.fixed = value
	}
	for _, p := range f.Value {
		g.uses |= 1 << p.Kind
	}
	return isClean(f.Name, value)
}

func appendGateValue(dst []byte, parts []abi.GatePart, n gateNumbers) []byte {
	for i := range parts {
		switch p := &parts[i]; p.Kind {
		case abi.GateRemaining:
			dst = strconv.AppendInt(dst, n.remaining, 10)
		case abi.GateFull:
			dst = strconv.AppendInt(dst, n.full, 10)
		case abi.GateRetry:
			dst = strconv.AppendInt(dst, max(n.retry, int64(p.Bits)), 10)
		default:
			dst = append(dst, p.Text...)
		}
	}
	return dst
}

// value returns the value for a request.
func (g *gateField) value(a Admission) string {
	if g.parts == nil {
		return g.fixed
	}
	var n gateNumbers
	if g.uses&(1<<abi.GateRemaining) != 0 {
		n.remaining = a.Remaining
	}
	if g.uses&(1<<abi.GateFull) != 0 {
		n.full = a.Full
	}
	if g.uses&(1<<abi.GateRetry) != 0 {
		n.retry = a.Retry
	}
	at := &g.texts[(uint64(n.remaining)+8*uint64(n.full)+uint64(n.retry))%gateTexts] // one falls as the other rises
	t := at.Load()
	if t == nil || t.gateNumbers != n {
		t = &gateText{gateNumbers: n}
		t.text = borrow(appendGateValue(t.room[:0], g.parts, n))
		at.Store(t)
	}
	return t.text
}
