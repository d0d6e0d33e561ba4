package host

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"wproxy/abi"
	"wproxy/host/meter"
)

// A callbackSpec is what the ABI says about a callback (abi.md 1.3). All
// parameters and results are i32.
type callbackSpec struct {
	name    string
	other   string // under which some SDKs export it
	params  int
	short   bool   // may lack its last parameter (ABI 0.1.0)
	result  bool   // may have a result
	missing uint32 // what a missing callback, or result, means
}

var callbackSpecs = [callbacks]callbackSpec{
	CallContextCreate:               {name: abi.ExportOnContextCreate, params: 2},
	CallVMStart:                     {name: abi.ExportOnVMStart, params: 2, result: true, missing: 1},
	CallConfigure:                   {name: abi.ExportOnConfigure, params: 2, result: true, missing: 1},
	CallTick:                        {name: abi.ExportOnTick, params: 1},
	CallQueueReady:                  {name: abi.ExportOnQueueReady, params: 2},
	CallForeignFunction:             {name: abi.ExportOnForeignFunction, params: 3},
	CallRequestHeaders:              {name: abi.ExportOnRequestHeaders, params: 3, short: true, result: true},
	CallRequestBody:                 {name: abi.ExportOnRequestBody, params: 3, result: true},
	CallRequestTrailers:             {name: abi.ExportOnRequestTrailers, params: 2, result: true},
	CallResponseHeaders:             {name: abi.ExportOnResponseHeaders, params: 3, short: true, result: true},
	CallResponseBody:                {name: abi.ExportOnResponseBody, params: 3, result: true},
	CallResponseTrailers:            {name: abi.ExportOnResponseTrailers, params: 2, result: true},
	CallNewConnection:               {name: abi.ExportOnNewConnection, params: 1, result: true},
	CallDownstreamData:              {name: abi.ExportOnDownstreamData, params: 3, result: true},
	CallUpstreamData:                {name: abi.ExportOnUpstreamData, params: 3, result: true},
	CallDownstreamClose:             {name: abi.ExportOnDownstreamConnectionClose, params: 2},
	CallUpstreamClose:               {name: abi.ExportOnUpstreamConnectionClose, params: 2},
	CallHTTPCallResponse:            {name: abi.ExportOnHTTPCallResponse, params: 5},
	CallGRPCReceiveInitialMetadata:  {name: abi.ExportOnGRPCReceiveInitialMetadata, params: 3},
	CallGRPCReceive:                 {name: abi.ExportOnGRPCReceive, params: 3},
	CallGRPCReceiveTrailingMetadata: {name: abi.ExportOnGRPCReceiveTrailingMetadata, other: abi.ExportOnGRPCTrailingMetadata, params: 3},
	CallGRPCClose:                   {name: abi.ExportOnGRPCClose, params: 3},
	CallDone:                        {name: abi.ExportOnDone, params: 1, result: true, missing: 1},
	CallLog:                         {name: abi.ExportOnLog, params: 1},
	CallDelete:                      {name: abi.ExportOnDelete, params: 1},
}

// A guestExport is a callback as the guest declares it.
type guestExport struct {
	present bool
	name    string
	params  int
	results int
}

// A startFunc is one of the functions that run when an instance is made.
type startFunc struct {
	name   string
	params int
}

// check reads what the module exports and imports into p, and returns what is
// wrong with it.
func (p *Plugin) check(info *meter.Info) (problems []string) {
	add := func(format string, args ...any) {
		if len(problems) < maxProblems {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	defs := p.code.ExportedFunctions()
	for _, name := range info.Exports {
		if v, ok := abi.MarkerVersion(name); ok {
			p.version = v
			break
		}
	}
	if p.version == 0 {
		p.noMarker(info.Exports, add)
	}
	if !info.Memory {
		add("it has no memory of its own")
	}
	p.checkAllocator(defs, add)
	for cb, spec := range callbackSpecs {
		e := guestExport{name: spec.name}
		def := defs[spec.name]
		if def == nil && spec.other != "" {
			e.name, def = spec.other, defs[spec.other]
		}
		if e.name == "" || def == nil {
			continue
		}
		ok := e.match(spec, def)
		if !ok {
			add("its %s has type %s, want %s", e.name, typeText(signature(def)), typeText(spec.signature()))
		}
		p.exports[cb] = e
	}
	p.checkStart(defs, add)
	p.checkSlots(defs, add)
	p.checkImports(info, add)
	return problems
}

// noMarker tells a plugin of an ABI version that is not known from a module that is no
// plugin at all.
func (p *Plugin) noMarker(exports []string, add func(string, ...any)) {
	known := strings.Join([]string{abi.Marker010, abi.Marker020, abi.Marker021, abi.MarkerHigress}, ", ")
	for _, name := range exports {
		if strings.HasPrefix(name, abi.MarkerPrefix) {
			add("its ABI marker %s is of no version known here, which are %s", shownName(name), known)
			return
		}
	}
	add("it exports no ABI marker (one of %s): not a Proxy-Wasm plugin", known)
}

func (p *Plugin) checkAllocator(defs map[string]api.FunctionDefinition, add func(string, ...any)) {
	for _, name := range []string{abi.ExportMemoryAllocate, abi.ExportMalloc} {
		if def := defs[name]; def != nil {
			if s := signature(def); s != "i>i" {
				add("its allocator %s has type %s, want %s", name, typeText(s), typeText("i>i"))
			}
			p.allocator = name
			return
		}
	}
	add("it exports no allocator (%s or %s)", abi.ExportMemoryAllocate, abi.ExportMalloc)
}

// checkStart picks the start functions: _initialize and, only with it, main; else
// _start; none is fine.
func (p *Plugin) checkStart(defs map[string]api.FunctionDefinition, add func(string, ...any)) {
	pick := func(name string, most int) bool {
		def := defs[name]
		if def == nil {
			return false
		}
		params := len(def.ParamTypes())
		if params > most || !allI32(def.ParamTypes()) || len(def.ResultTypes()) > 1 {
			add("its start function %s has type %s", name, typeText(signature(def)))
		}
		p.start = append(p.start, startFunc{name: name, params: params})
		return true
	}
	if pick(abi.ExportInitialize, 0) {
		if !pick(abi.ExportMain, 2) {
			pick(abi.ExportMainVoid, 0)
		}
		return
	}
	pick(abi.ExportStart, 0)
}

// checkSlots looks for the extension by which streams need fewer calls.
func (p *Plugin) checkSlots(defs map[string]api.FunctionDefinition, add func(string, ...any)) {
	def := defs[abi.ExportStreamSlots]
	if def == nil {
		return
	}
	if s := signature(def); s != "()" {
		add("its %s has type %s, want ()", abi.ExportStreamSlots, typeText(s))
	}
	p.slots = true
	p.start = append(p.start, startFunc{name: abi.ExportStreamSlots})
}

// match notes the type of a callback, and reports whether it can be called with it.
func (e *guestExport) match(spec callbackSpec, def api.FunctionDefinition) bool {
	params, results := len(def.ParamTypes()), len(def.ResultTypes())
	e.present, e.params, e.results = true, params, results
	ok := params == spec.params || spec.short && params == spec.params-1
	ok = ok && (results == 0 || spec.result && results == 1)
	return ok && allI32(def.ParamTypes()) && allI32(def.ResultTypes())
}

func (s callbackSpec) signature() string {
	const is = "iiiiiiii"
	sig := is[:s.params]
	if s.result {
		sig += ">i"
	}
	return sig
}

func allI32(types []api.ValueType) bool {
	for _, t := range types {
		if t != api.ValueTypeI32 {
			return false
		}
	}
	return true
}
