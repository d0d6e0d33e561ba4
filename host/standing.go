package host

import (
	"strings"

	"wproxy/abi"
)

// A StandingEdits is edits of the head of an answer that a guest has asked for once and for
// all (abi.ForeignStandingEdits). Names and values are clean, and none is content-length.
type StandingEdits struct {
	When  abi.EditsWhen
	Edits []abi.FieldEdit
}

// StandingEdits returns what the host does with the head of every answer for r, in order.
// It is not to be changed.
func (r *Root) StandingEdits() []StandingEdits {
	if p := r.standing.Load(); p != nil {
		return *p
	}
	return nil
}

// standingEdits is abi.ForeignStandingEdits. They are those of the root once it has
// accepted its configuration: in each VM it says them anew.
func standingEdits(v *vm, args []byte) abi.Status {
	v.charge(int64(len(args)) * (parseUnits + heapUnits))
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil {
		return abi.StatusBadArgument
	}
	when, edits, err := abi.ParseStandingEdits(string(args))
	if err != nil {
		return abi.StatusBadArgument
	}
	n := len(edits)
	for _, s := range c.base.edits {
		n += len(s.Edits)
	}
	if n > abi.MaxStandingEdits || len(args) > abi.MaxStandingEditBytes-c.base.editArgs {
		v.warn("standing edits were not taken: there are too many, or they are too long")
		return abi.StatusBadArgument
	}
	for i := range edits {
		e := &edits[i]
		e.Name = strings.ToLower(e.Name)
		value := e.Value
		if e.Op == abi.FieldRemove { // it is not looked at
			value = ""
		}
		if !isClean(e.Name, value) || e.Name == "content-length" {
			return abi.StatusBadArgument
		}
	}
	if len(edits) > 0 { // calls that say nothing are as many as a guest likes
		c.base.edits = append(c.base.edits, StandingEdits{when, edits})
		c.base.editArgs += len(args)
	}
	return abi.StatusOK
}
