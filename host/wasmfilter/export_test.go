package wasmfilter

import "wproxy/host"

// Limits that tests go up to.
const (
	MaxHeadBytes  = maxHeadBytes
	MaxHeadFields = maxHeadFields
)

// Guest is what a fake guest implements.
type Guest = guest

// LeaveEdits has x make edits as if its guest had asked for them ahead.
func (x *Factory) LeaveEdits(list ...host.StandingEdits) { x.standing = standingOf(list) }

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
