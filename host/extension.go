package host

import (
	"slices"
	"strings"

	"wproxy/abi"
)

// Extensions: foreign functions of this host, described in package abi and in
// docs/host-extensions.md.

// editFields is abi.ForeignEditFields.
func editFields(v *vm, args []byte) abi.Status {
	l := v.edits.find(args)
	if l == nil {
		v.charge(int64(len(args)) * (parseUnits + heapUnits))
		l = v.edits.parse(args)
	}
	if l == nil || !l.kind.Known() {
		return abi.StatusBadArgument
	}
	status := v.makeEdits(l)
	v.edits.once = editList{} // it may be large
	return status
}

// makeEdits makes the edits of a list. Each is charged for when its turn has come: they may be many,
// and so may the lines.
func (v *vm) makeEdits(l *editList) abi.Status {
	kind := l.kind
	m := v.header(kind)
	if m == nil {
		return v.noMap()
	}
	f, fast := m.(FieldMap)
	fast = fast && l.clean
	status := abi.StatusOK
	for i := range l.edits {
		e := &l.edits[i]
		v.chargeEdit(m, uint64(kind))
		if !fast {
			v.charge(int64(len(e.Name)+len(e.Value)) * parseUnits)
		}
		done := true
		switch {
		case e.Op == abi.FieldRemove:
			if !m.Remove(e.Name) {
				v.warn("a pseudo header, or a header that the proxy needs, was not removed")
			}
		case len(e.Name) > abi.MaxPairBytes || len(e.Value) > abi.MaxPairBytes:
			done = v.overflow(m) == abi.StatusOK
		case e.Op == abi.FieldAddIfMissing:
			if _, there := m.Get(e.Name); !there {
				done = m.Add(e.Name, e.Value)
			}
		case e.Op == abi.FieldAdd && fast:
			done = f.AddClean(e.Name, e.Value)
		case e.Op == abi.FieldAdd:
			done = m.Add(e.Name, e.Value)
		case fast:
			done = f.SetClean(e.Name, e.Value)
		default:
			done = m.Set(e.Name, e.Value)
		}
		if !done {
			status = v.refused()
		}
	}
	return status
}

// An editCache has lists of edits that a guest has sent lately, decoded and as strings of
// the host: most guests send the same for every exchange.
type editCache struct {
	lists [cachedEdits]editList
	next  uint8 // whose turn it is to go
	once  editList
}

type editList struct {
	args  string // what was sent; "": nothing
	kind  abi.MapType
	edits []abi.FieldEdit // parts of args, but for names that were not in lower case
	clean bool            // CleanField would change none
}

// find returns what is kept of args, or nil.
func (c *editCache) find(args []byte) *editList {
	for i := range c.lists {
		if l := &c.lists[i]; l.args == string(args) && l.args != "" {
			return l
		}
	}
	return nil
}

// parse decodes args, which are borrowed; nil if they are malformed. The strings belong to
// the host.
func (c *editCache) parse(args []byte) *editList {
	l := &c.once
	if len(args) <= cachedEditBytes {
		l = &c.lists[c.next]
		c.next = (c.next + 1) % cachedEdits
	}
	*l = editList{args: string(args), edits: l.edits[:0], clean: true}
	var err error
	if l.kind, l.edits, err = abi.ParseFieldEdits(l.edits, l.args); err != nil {
		*l = editList{}
		return nil
	}
	for i := range l.edits {
		e := &l.edits[i]
		e.Name = strings.ToLower(e.Name)
		l.clean = l.clean && (e.Op == abi.FieldRemove || isClean(e.Name, e.Value))
	}
	return l
}

// skipCallbacks is abi.ForeignSkipCallbacks.
func skipCallbacks(v *vm, args []byte) abi.Status {
	v.charge(int64(len(args)) * 4 * parseUnits)
	c := v.current()
	if v.callback != CallConfigure || c.stream != nil {
		return abi.StatusBadArgument
	}
	var mask uint64
	for name := range strings.SplitSeq(string(args), "\x00") {
		cb := Callback(slices.IndexFunc(callbackSpecs[:], func(s callbackSpec) bool { return s.name == name }))
		if !skippable.has(cb) {
			return abi.StatusBadArgument
		}
		mask |= 1 << cb
	}
	c.root.skips.Store(mask)
	return abi.StatusOK
}

// A callbackSet is a set of callbacks.
type callbackSet uint64

func (s callbackSet) has(cb Callback) bool { return cb < callbacks && s&(1<<cb) != 0 }

// skippable are the callbacks of messages. The others tell a guest what becomes of its
// own contexts.
const skippable callbackSet = 1<<CallRequestHeaders | 1<<CallRequestBody | 1<<CallRequestTrailers |
	1<<CallResponseHeaders | 1<<CallResponseBody | 1<<CallResponseTrailers
