package host

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/host/objectkey"
)

// A StandingLookup is a root's standing order for what is stored (abi.ForeignObjectStanding),
// checked. Its methods are safe for concurrent use.
type StandingLookup struct {
	abi.ObjectStanding // immutable; names are in lower case

	Parts objectkey.Parts // those that Key says

	// LogPath is LogField as [Noter] has it; "": there is none.
	LogPath string

	// ID is that of no other order of the process: what was said under another one, by other
	// settings say, is not taken for what this one's guest would say.
	ID uint64

	root *Root
	args string
	mask uint64 // what NameMark makes of the names in Absent
	miss uint64 // likewise of those in MissAlone
	part uint64 // likewise of those in Repeats
	any  uint64 // of all three

	hits, passes, methods routeCounters
}

// lastLookup is the ID that was given last.
var lastLookup atomic.Uint64

// routeCounters are the metrics of a plugin, one for each route, whose names are those of the
// routes between head and tail.
type routeCounters struct {
	p          *Plugin
	head, tail string

	list atomic.Pointer[map[string]*metric] // by route, replaced as a whole; nil: nothing is counted
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
	s := &StandingLookup{root: c.root, args: string(args)}
	if !s.parse() {
		return abi.StatusBadArgument
	}
	s.ID = lastLookup.Add(1)
	c.root.lookup.Store(s)
	return abi.StatusOK
}

// parse reads args; false if there is something in them that cannot be done.
func (s *StandingLookup) parse() bool {
	if s.Parse(s.args) != nil {
		return false
	}
	var ok1, ok2, ok3 bool
	s.mask, ok1 = lowerNames(s.Absent)
	s.miss, ok2 = lowerNames(s.MissAlone)
	s.part, ok3 = lowerNames(s.Repeats)
	_, ok4 := lowerNames(s.UnsafeShown)
	s.any = s.mask | s.miss | s.part
	if !ok1 || !ok2 || !ok3 || !ok4 || slices.ContainsFunc(slices.Concat(s.SafeMethods, s.OwnMethods), func(m string) bool { return !IsToken(m) }) {
		return false
	}
	var ok bool
	if s.Parts, ok = objectkey.New(s.Key, IsToken); !ok {
		return false
	}
	s.AgeField, s.TTLField = strings.ToLower(s.AgeField), strings.ToLower(s.TTLField)
	if s.AgeField != "" && !isClean(s.AgeField, "0") || s.TTLField != "" && !isClean(s.TTLField, s.TTLPrefix+"0") {
		return false
	}
	if s.LogField != "" {
		s.LogPath = "log\x00" + s.LogField
	}
	s.hits.init(s.root.p, s.CounterHead, s.CounterTail)
	if s.PassTail != "" {
		s.passes.init(s.root.p, s.CounterHead, s.PassTail)
	}
	if s.MethodTail != "" {
		s.methods.init(s.root.p, s.CounterHead, s.MethodTail)
	}
	return true
}

// lowerNames has names in lower case, and returns the marks of all; false if one is no name of a field.
func lowerNames(list []string) (mask uint64, ok bool) {
	for i, name := range list {
		if !IsToken(name) {
			return 0, false
		}
		list[i] = strings.ToLower(name)
		mask |= NameMark(list[i])
	}
	return mask, true
}

// NameMark returns a bit for a name, so that one look tells most names from all of a list.
func NameMark(name string) uint64 {
	if name == "" {
		return 1
	}
	return 1 << ((uint(len(name)) + uint(name[0]) + 3*uint(name[len(name)-1])) & 63)
}

// Concerns reports whether a field called name may be one that Excludes, MissesAlone or ForRepeats is true for: most
// fields are none.
func (s *StandingLookup) Concerns(name string) bool { return s.any&NameMark(name) != 0 }

// Excludes reports whether a request with a field called name, in lower case, is not what
// the order is about.
func (s *StandingLookup) Excludes(name string) bool {
	return s.mask&NameMark(name) != 0 && slices.Contains(s.Absent, name)
}

// MissesAlone reports whether a request with a field called name, in lower case, is one that goes by alone where nothing
// is stored, if Misses is set.
func (s *StandingLookup) MissesAlone(name string) bool {
	return s.miss&NameMark(name) != 0 && slices.Contains(s.MissAlone, name)
}

// ForRepeats reports whether a request with a field called name, in lower case, is not answered without the guest but
// by what it has answered before.
func (s *StandingLookup) ForRepeats(name string) bool {
	return s.part&NameMark(name) != 0 && slices.Contains(s.Repeats, name)
}

// ByMethod reports whether requests by a method go by for that, and whether that has what is stored under their URLs
// deleted.
func (s *StandingLookup) ByMethod(method string) (goBy, unsafe bool) {
	if len(s.SafeMethods) == 0 || method == "GET" || method == "HEAD" || slices.Contains(s.OwnMethods, method) {
		return false, false
	}
	return true, !slices.Contains(s.SafeMethods, method)
}

// Now returns the guest's clock in seconds since 1970.
func (s *StandingLookup) Now() int64 { return s.root.p.h.o.Now().Unix() }

// Serving reports whether the plugin has an instance alive, as Gate.Admit wants it.
func (s *StandingLookup) Serving() bool { return s.root.serving() }

// Count counts an answer with what is stored on a route.
func (s *StandingLookup) Count(route string) { s.hits.add(route) }

// CountPass is Count for an answer that goes by.
func (s *StandingLookup) CountPass(route string) { s.passes.add(route) }

// CountByMethod is Count for a request that goes by for its method.
func (s *StandingLookup) CountByMethod(route string) { s.methods.add(route) }

func (c *routeCounters) init(p *Plugin, head, tail string) {
	c.p, c.head, c.tail = p, head, tail
	if head+tail != "" && p.grants.has(GrantMetrics) {
		c.list.Store(&map[string]*metric{})
	}
}

func (c *routeCounters) add(route string) {
	list := c.list.Load()
	if list == nil {
		return
	}
	m := (*list)[route]
	if m == nil {
		if m = c.define(route, list); m == nil {
			return
		}
	}
	m.value.Add(1)
	if m.out != nil {
		m.out.Add(1, route)
	}
}

// define returns the counter of a route that has none yet in old; nil where its name is that of
// a metric of another kind, or there are too many: they count nothing.
func (c *routeCounters) define(route string, old *map[string]*metric) *metric {
	if len(*old) >= maxMetrics {
		return nil
	}
	id, status, _ := c.p.metrics.define(c.p.kinds, abi.MetricCounter, c.head+route+c.tail)
	if status != abi.StatusOK {
		return nil
	}
	m := c.p.metrics.at(id)
	list := maps.Clone(*old)
	list[strings.Clone(route)] = m
	c.list.CompareAndSwap(old, &list) // whoever was first
	return m
}
