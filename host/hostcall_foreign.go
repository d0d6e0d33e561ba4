package host

import (
	"encoding/binary"
	"slices"
	"strings"

	"wproxy/abi"
)

// A foreignFunc is a function that guests call by name. args are borrowed from guest
// memory. The result is not guest memory; it is handed over if the status is OK.
type foreignFunc func(v *vm, args string) (result []byte, status abi.Status)

// foreignFuncs has those of Envoy that plugins use, and of Higress what asks for no
// network. Each answers a malformed argument with BadArgument, which no SDK panics on.
var foreignFuncs = map[string]foreignFunc{
	"clear_route_cache":      foreignClearRouteCache,
	"compress":               foreignCompress,
	"declare_property":       foreignDeclareProperty,
	"get_log_level":          foreignGetLogLevel,
	"set_envoy_filter_state": foreignSetFilterState,
	"sign":                   foreignSign,
	"uncompress":             foreignUncompress,
	"verify_signature":       foreignVerifySignature,
}

// recordFuncs has the extensions of this host. args are a view of guest memory that the
// function may write to; there is no result beside that.
var recordFuncs = map[string]recordFunc{
	abi.ForeignAcquireCounter: acquireCounter,
	abi.ForeignAddCounter:     addCounter,
	abi.ForeignChargeCounter:  chargeCounter,
	abi.ForeignEditFields:     editFields,
	abi.ForeignGate:           setGate,
	abi.ForeignLeaseCounter:   leaseCounter,
	abi.ForeignObjectStanding: standingLookup,
	abi.ForeignReadValues:     readValues,
	abi.ForeignResumeAfter:    resumeAfter,
	abi.ForeignSelectUpstream: selectUpstream,
	abi.ForeignSkipCallbacks:  skipCallbacks,
	abi.ForeignStandingEdits:  standingEdits,
	abi.ForeignStandingList:   standingList,
	abi.ForeignTakeCounter:    takeCounter,
	abi.ForeignWatch:          setWatch,
}

// hostCallForeignFunction is proxy_call_foreign_function(name, args, *ptr, *len).
func hostCallForeignFunction(v *vm, a []uint64) abi.Status {
	name, ok1 := v.text(a[0], a[1])
	args, ok2 := v.text(a[2], a[3])
	if !ok1 || !ok2 || !v.writable32(a[4]) || !v.writable32(a[5]) {
		return abi.StatusInvalidMemoryAccess
	}
	if f := v.records.find(a[0], name); f != nil && len(args) <= maxForeignArgs {
		return v.record(f, a)
	}
	if len(name) > maxNameBytes || slices.Contains(v.p.h.o.Without, name) {
		return abi.StatusNotFound
	}
	if v.foreignDenied(name) {
		return abi.StatusInternalFailure
	}
	if len(args) > maxForeignArgs && (recordFuncs[name] != nil || foreignFuncs[name] != nil) {
		v.warn("a foreign function was called with too large an argument")
		return abi.StatusBadArgument
	}
	if f := recordFuncs[name]; f != nil {
		v.records.keep(a[0], name, f)
		return v.record(f, a)
	}
	if call, ok := objectFuncs[name]; ok {
		return objectFunc(v, call, a)
	}
	f := foreignFuncs[name]
	if f == nil {
		return abi.StatusNotFound
	}
	v.charge(int64(len(args)) * parseUnits)
	result, status := f(v, args)
	if status != abi.StatusOK {
		return status
	}
	return v.give(result, a[4], a[5])
}

// A recordFunc is one of recordFuncs.
type recordFunc func(v *vm, args []byte) abi.Status

// record calls an extension of this host.
func (v *vm) record(f recordFunc, a []uint64) abi.Status {
	args, _ := v.mem.Read(uint32(a[2]), uint32(a[3])) // it is inside, and has been charged
	if status := f(v, args); status != abi.StatusOK {
		return status
	}
	return v.give(nil, a[4], a[5])
}

// A recordCache has the extensions that a guest has called, which it is granted: their names are
// looked up once. A guest has its constants at the same addresses all the time: these say where a
// name is looked for first.
type recordCache [16]struct {
	name string // "": free, and so are those behind it
	call recordFunc
}

// find returns the extension called name, which is borrowed; nil if it is not there.
func (c *recordCache) find(ptr uint64, name string) recordFunc {
	at := recordPlace(ptr)
	for i := range uint32(len(c)) {
		switch e := &c[(at+i)%uint32(len(c))]; e.name {
		case name:
			return e.call
		case "":
			return nil
		}
	}
	return nil
}

// keep remembers an extension if there is room.
func (c *recordCache) keep(ptr uint64, name string, f recordFunc) {
	at := recordPlace(ptr)
	for i := range uint32(len(c)) {
		if e := &c[(at+i)%uint32(len(c))]; e.name == "" {
			e.name, e.call = strings.Clone(name), f
			return
		}
	}
}

// recordPlace returns the place of the name at that address.
func recordPlace(ptr uint64) uint32 { return uint32(ptr) * 0x9e3779b1 >> 28 }

func foreignClearRouteCache(v *vm, _ string) ([]byte, abi.Status) {
	return nil, hostClearRouteCache(v, nil)
}

// foreignGetLogLevel is Higress's get_log_level, which came before the host call.
func foreignGetLogLevel(v *vm, _ string) ([]byte, abi.Status) {
	return binary.LittleEndian.AppendUint32(nil, uint32(v.p.logLevel())), abi.StatusOK
}

// A declared property is what a plugin has said of one that it is going to set.
type declared struct{ readOnly bool }

// foreignDeclareProperty is declare_property {1 name, 2 readonly, 3 type, 4 schema, 5
// span}. Every property is bytes here and lives as long as its stream, so type, schema
// and span have nothing to decide.
func foreignDeclareProperty(v *vm, args string) ([]byte, abi.Status) {
	var name string
	var d declared
	for f, ok := range abi.ProtoFields(args) {
		switch {
		case !ok:
			return nil, abi.StatusBadArgument
		case f.Number == 1:
			name = f.Bytes
		case f.Number == 2:
			d.readOnly = f.Value != 0
		}
	}
	base := v.current().base
	_, known := base.declared[name]
	switch {
	case known, name == "":
		return nil, abi.StatusBadArgument // as the reference host answers a second declaration
	case len(name) > maxNameBytes || len(base.declared) >= maxRootProperties:
		v.warn("a property was not declared: its name is too long, or there are too many")
		return nil, abi.StatusBadArgument
	}
	if base.declared == nil {
		base.declared = map[string]declared{}
	}
	base.declared[strings.Clone(name)] = d
	return nil, abi.StatusOK
}

// foreignSetFilterState is set_envoy_filter_state {1 path, 2 value, 3 span}: a property
// that is read as filter_state.PATH.
func foreignSetFilterState(v *vm, args string) ([]byte, abi.Status) {
	var path, value string
	for f, ok := range abi.ProtoFields(args) {
		switch {
		case !ok:
			return nil, abi.StatusBadArgument
		case f.Number == 1:
			path = f.Bytes
		case f.Number == 2:
			value = f.Bytes
		}
	}
	if path == "" {
		return nil, abi.StatusBadArgument
	}
	v.setProperty(abi.JoinPath("filter_state", path), []byte(value))
	return nil, abi.StatusOK
}

// ForeignFunction calls on_foreign_function of the stream's context: something that the
// host has for it has happened. id tells which; args are borrowed, and what the guest
// reads from buffer 8.
func (c *Context) ForeignFunction(id uint32, args []byte) error {
	if c.root == nil {
		return &ClosedError{}
	}
	if c.err != nil {
		return c.err
	}
	if !c.root.p.exports[CallForeignFunction].present {
		return nil
	}
	v, err := c.lock()
	if err != nil {
		return err
	}
	if !v.foreignFunction(c, id, args) {
		c.err = v.dead
	}
	v.unlock()
	return c.err
}

// ForeignFunction calls on_foreign_function of the root's context in one VM, see
// [Context.ForeignFunction].
func (r *Root) ForeignFunction(id uint32, args []byte) error {
	if !r.p.exports[CallForeignFunction].present {
		return nil
	}
	if r.refs.Load() < handle {
		return &ClosedError{Plugin: r.p.o.Name}
	}
	v, base, err := r.p.bind(r)
	if err != nil {
		return err
	}
	if !v.foreignFunction(&base.Context, id, args) {
		err = v.dead
	}
	v.unlock()
	return err
}

func (v *vm) foreignFunction(c *Context, id uint32, args []byte) (ok bool) {
	v.callData = args
	_, ok = v.call(c, CallForeignFunction, uint64(c.id), uint64(id), uint64(uint32(len(args))))
	v.callData = nil
	return ok
}
