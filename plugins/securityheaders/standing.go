package main

import (
	"strings"

	"wproxy/abi"
)

// standing returns what becomes of each exchange, for a host that does it by itself.
func (p *policy) standing() (list []abi.StandingEdits) {
	if p.anyNonce() {
		list = append(list, abi.StandingEdits{
			Request: true, Mark: nonceMark, Edits: []abi.FieldEdit{{Op: abi.FieldSet, Name: nonceHeader, Value: nonceMark}},
		})
	}
	names := make([]string, 0, len(p.types))
	for _, t := range p.types {
		names = append(names, t.name)
	}
	list = p.appendStanding(list, nil, names)
	for _, t := range p.types {
		var except []string // the type itself goes before all below "type/*"
		for _, name := range names {
			if below(name, t.name) {
				except = append(except, name)
			}
		}
		list = t.policy.appendStanding(list, []string{t.name}, except)
	}
	return list
}

// below reports whether name is another media type, and group all of its kind.
func below(name, group string) bool {
	kind, ok := strings.CutSuffix(group, "*")
	return ok && strings.HasSuffix(kind, "/") && name != group && strings.HasPrefix(name, kind)
}

// appendStanding appends what apply does with answers of types but for except, in the same order.
func (p *policy) appendStanding(list []abi.StandingEdits, types, except []string) []abi.StandingEdits {
	first := len(list)
	add := func(when abi.EditsWhen, mark string, e abi.FieldEdit) {
		if n := len(list); n == first || list[n-1].When != when || list[n-1].Mark != mark {
			list = append(list, abi.StandingEdits{When: when, Types: types, Except: except, Mark: mark})
		}
		last := &list[len(list)-1]
		last.Edits = append(last.Edits, e)
	}
	for _, name := range p.remove {
		add(abi.EditsAlways, "", abi.FieldEdit{Op: abi.FieldRemove, Name: name})
	}
	op := abi.FieldSet
	if p.addIfMissing {
		op = abi.FieldAddIfMissing
	}
	for i := range p.headers {
		h := &p.headers[i]
		when, mark := abi.EditsAlways, ""
		if h.tlsOnly {
			when = abi.EditsTLS
		}
		if h.parts != nil {
			mark = nonceMark
		}
		add(when, mark, abi.FieldEdit{Op: op, Name: h.name, Value: h.value})
	}
	return list
}
