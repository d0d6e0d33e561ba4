package host

import (
	"strings"

	"wproxy/abi"
)

// A StandingEdits is edits of heads that a guest has asked for once and for all
// (abi.ForeignStandingEdits, abi.ForeignStandingList). Names and values are clean, those
// with a nonce for each mark too, and none is content-length, a pseudo field or, in a request, host.
type StandingEdits = abi.StandingEdits

// StandingEdits returns what the host does with the heads of every exchange for r, in order.
// It is not to be changed.
func (r *Root) StandingEdits() []StandingEdits {
	if p := r.standing.Load(); p != nil {
		return *p
	}
	return nil
}

// editSums are what the calls of a root's guest have come to.
type editSums struct {
	edits, types, marks int
	args                int // bytes of the arguments that all that is a part of
}

// add adds one argument and what it says; false if that is more than a root may say, whatever the
// argument's length.
func (s *editSums) add(args int, list []StandingEdits) bool {
	s.args += args
	for i := range list {
		l := &list[i]
		s.edits += len(l.Edits)
		s.types += len(l.Types) + len(l.Except)
		for j := range l.Edits {
			if e := &l.Edits[j]; l.Mark != "" && e.Op != abi.FieldRemove {
				s.marks += strings.Count(e.Value, l.Mark)
			}
		}
	}
	return s.edits <= abi.MaxStandingEdits && s.types <= abi.MaxStandingTypes && s.marks <= abi.MaxStandingMarks
}

// standingEdits is abi.ForeignStandingEdits. They are those of the root once it has
// accepted its configuration: in each VM it says them anew.
func standingEdits(v *vm, args []byte) abi.Status {
	return v.standing(args, func(args string) (list []StandingEdits, err error) {
		when, edits, err := abi.ParseStandingEdits(args)
		if len(edits) > 0 { // calls that say nothing are as many as a guest likes
			list = []StandingEdits{{When: when, Edits: edits}}
		}
		return list, err
	})
}

// standingList is abi.ForeignStandingList.
func standingList(v *vm, args []byte) abi.Status { return v.standing(args, abi.ParseStandingList) }

// standing takes what a guest says with args.
func (v *vm) standing(args []byte, parse func(args string) ([]StandingEdits, error)) abi.Status {
	v.charge(int64(len(args)) * (parseUnits + heapUnits))
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil {
		return abi.StatusBadArgument
	}
	sums := c.base.editSums
	fits := len(args) <= abi.MaxStandingEditBytes-sums.args
	var list []StandingEdits
	if fits {
		var err error
		if list, err = parse(string(args)); err != nil {
			return abi.StatusBadArgument
		}
		if len(list) == 0 {
			return abi.StatusOK
		}
		fits = sums.add(len(args), list)
	}
	if !fits {
		v.warn("standing edits were not taken: there are too many, or they are too long")
		return abi.StatusBadArgument
	}
	for i := range list {
		if !cleanStanding(&list[i]) {
			return abi.StatusBadArgument
		}
	}
	c.base.edits, c.base.editSums = append(c.base.edits, list...), sums
	return abi.StatusOK
}

// cleanStanding puts the names of fields in lower case; false if an edit would break a message,
// or a media type is none.
func cleanStanding(s *StandingEdits) bool {
	for _, types := range [...][]string{s.Types, s.Except} {
		for _, t := range types {
			if !isMediaRange(t) {
				return false
			}
		}
	}
	for i := range s.Edits {
		e := &s.Edits[i]
		e.Name = strings.ToLower(e.Name)
		value := e.Value
		if e.Op == abi.FieldRemove { // it is not looked at
			value = ""
		}
		if !isClean(e.Name, value) || e.Name == "content-length" || s.Request && e.Name == "host" {
			return false
		}
	}
	return true
}

// isMediaRange reports whether s is a media type in lower case, or "type/*" (RFC 9110 8.3.1, 12.5.1).
func isMediaRange(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	return ok && kind != "" && kind != "*" && sub != "" && all(kind, inLower) && all(sub, inLower)
}
