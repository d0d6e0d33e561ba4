package host

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"wproxy/abi"
)

// A StandingLookup is a root's standing order for what is stored (abi.ForeignObjectStanding),
// checked. Its methods are safe for concurrent use.
type StandingLookup struct {
	abi.ObjectStanding // immutable; names are in lower case

	// LogPath is LogField as [Noter] has it; "": there is none.
	LogPath string

	p    *Plugin
	args string
	told bool   // something is counted
	mask uint64 // what nameMark makes of the names in Absent

	counters atomic.Pointer[map[string]*metric] // by route; replaced as a whole
}

// StandingLookup returns what the guest has ordered on_configure, or nil.
func (r *Root) StandingLookup() *StandingLookup { return r.lookup.Load() }

// standingLookup is abi.ForeignObjectStanding.
func standingLookup(v *vm, args []byte) abi.Status {
	v.charge(int64(len(args)) * 4 * parseUnits)
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil {
		return abi.StatusBadArgument
	}
	if old := c.root.lookup.Load(); old != nil && old.args == string(args) {
		return abi.StatusOK // as each VM says
	}
	s := &StandingLookup{p: v.p, args: string(args)}
	if !s.parse() {
		return abi.StatusBadArgument
	}
	c.root.lookup.Store(s)
	return abi.StatusOK
}

// parse reads args; false if there is something in them that cannot be done.
func (s *StandingLookup) parse() bool {
	if s.Parse(s.args) != nil {
		return false
	}
	for i, name := range s.Absent {
		if !IsToken(name) {
			return false
		}
		s.Absent[i] = strings.ToLower(name)
		s.mask |= nameMark(s.Absent[i])
	}
	s.AgeField, s.TTLField = strings.ToLower(s.AgeField), strings.ToLower(s.TTLField)
	if s.AgeField != "" && !isClean(s.AgeField, "0") || s.TTLField != "" && !isClean(s.TTLField, s.TTLPrefix+"0") {
		return false
	}
	if s.LogField != "" {
		s.LogPath = "log\x00" + s.LogField
	}
	s.told = s.CounterHead+s.CounterTail != "" && s.p.grants.has(GrantMetrics)
	s.counters.Store(&map[string]*metric{})
	return true
}

// nameMark returns a bit for a name, so that one look tells most names from all of a list.
func nameMark(name string) uint64 {
	if name == "" {
		return 1
	}
	return 1 << ((uint(len(name)) + uint(name[0]) + 3*uint(name[len(name)-1])) & 63)
}

// Excludes reports whether a request with a field called name, in lower case, is not what
// the order is about.
func (s *StandingLookup) Excludes(name string) bool {
	return s.mask&nameMark(name) != 0 && slices.Contains(s.Absent, name)
}

// Now returns the guest's clock in seconds since 1970.
func (s *StandingLookup) Now() int64 { return s.p.h.o.Now().Unix() }

// Count counts an answer on a route.
func (s *StandingLookup) Count(route string) {
	if !s.told {
		return
	}
	m := (*s.counters.Load())[route]
	if m == nil {
		if m = s.define(route); m == nil {
			return
		}
	}
	m.value.Add(1)
	if m.out != nil {
		m.out.Add(1, route)
	}
}

// define returns the counter of a route that has none yet; nil where its name is that of a
// metric of another kind, or there are too many: they count nothing.
func (s *StandingLookup) define(route string) *metric {
	old := s.counters.Load()
	if len(*old) >= maxMetrics {
		return nil
	}
	id, status, _ := s.p.metrics.define(s.p.kinds, abi.MetricCounter, s.CounterHead+route+s.CounterTail)
	if status != abi.StatusOK {
		return nil
	}
	m := s.p.metrics.at(id)
	list := maps.Clone(*old)
	list[strings.Clone(route)] = m
	s.counters.CompareAndSwap(old, &list) // whoever was first
	return m
}
