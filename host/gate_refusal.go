package host

import (
	"slices"
	"strings"
	"unicode/utf8"

	"wproxy/abi"
)

// A Refusal is what a gate does with requests that it does not let through, for one of the reasons that
// there are (abi.GateRefusal). It is immutable. Its methods are safe for concurrent use.
type Refusal struct {
	status  int
	metric  *metric // nil: none
	details string
	verdict string
	body    []byte
	fields  []gateField
}

// setRefusals sets what becomes of requests that are not let through; false if one of these orders can be none.
func (g *Gate) setRefusals(v *vm, list []abi.GateRefusal) bool {
	for i := range list {
		r := &list[i]
		m, ok := v.ownCounter(r.Metric)
		if !ok || !g.setRefusal(r, m) {
			return false
		}
	}
	return true
}

func (g *Gate) setRefusal(r *abi.GateRefusal, m *metric) bool {
	numbers := uint32(0) // kinds of parts that a field may have beside texts
	switch r.Why {
	case abi.GateLimited:
		if g.cost == 0 {
			return false
		}
		if numbers = 1<<abi.GateRemaining | 1<<abi.GateRetry; g.shape.slots == 0 {
			numbers |= 1 << abi.GateFull
		}
	case abi.GateCrowded:
		if g.places == 0 {
			return false
		}
	case abi.GateKeyless:
		if g.shared != nil {
			return false
		}
	default:
		return false
	}
	for i := range r.Fields {
		for _, p := range r.Fields[i].Value {
			if p.Kind != abi.GateText && numbers&(1<<p.Kind) == 0 {
				return false
			}
		}
	}
	answers := r.Status >= 200 && r.Status <= 599
	if !answers && (r.Status != 0 || r.Details != "" || r.Body != "" || len(r.Fields) > 0) {
		return false
	}
	fields, ok := newGateFields(r.Fields)
	if !ok || !utf8.ValidString(r.Details) || strings.ContainsFunc(r.Details, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return false
	}
	g.refusals[r.Why] = &Refusal{
		status: int(r.Status), metric: m, details: strings.Clone(r.Details), verdict: strings.Clone(r.Verdict), body: []byte(r.Body), fields: fields,
	}
	return true
}

// refuse returns what becomes of a request that is not let through. If it goes on all the same it has been
// counted; else Count is for when it is refused.
func (g *Gate) refuse(a Admission, why abi.GateReason, route string) (Admission, bool) {
	a.refusal = g.refusals[why]
	goesOn := a.refusal != nil && a.refusal.status == 0
	if goesOn {
		a.refusal.Count(route)
	}
	return a, goesOn
}

// Verdict returns what the access log has for the plugin; "": nothing.
func (r *Refusal) Verdict() string { return r.verdict }

// Count counts a request that is refused.
func (r *Refusal) Count(route string) { r.metric.passed(route) }

// Reply makes to the answer to a request, in the memory of its fields. The body is not to be written to.
func (r *Refusal) Reply(to *Reply, a Admission) {
	list := slices.Grow(to.Fields[:0], len(r.fields))
	for i := range r.fields {
		f := &r.fields[i]
		list = append(list, abi.Pair{Name: f.name, Value: f.value(a)})
	}
	*to = Reply{Status: r.status, Details: r.details, Body: r.body, Fields: list, GRPCStatus: -1}
}
