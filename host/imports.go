package host

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"wproxy/abi"
	"wproxy/host/meter"
)

// A hostFunc is a host function of module env. sigs are the types under which
// guests import it, as signature writes them; the first is the specification's.
// early ones may be called where there is no context to act on: while an instance
// starts, and inside of the guest's allocator.
type hostFunc struct {
	sigs  []string
	early bool
	call  func(v *vm, a []uint64) abi.Status
}

// hostFuncs has every function of abi.md 1.2, for guests of every version: real
// guests mix them (the AssemblyScript SDK says 0.2.1 and imports functions that
// only 0.1.0 has).
var hostFuncs = map[string]hostFunc{
	abi.ImportLog:         {[]string{"iii>i"}, true, hostLog},
	abi.ImportGetLogLevel: {[]string{"i>i"}, false, hostGetLogLevel},

	abi.ImportGetCurrentTime:   {[]string{"i>i"}, false, hostGetCurrentTime},
	abi.ImportSetTickPeriod:    {[]string{"i>i"}, false, hostSetTickPeriod},
	abi.ImportGetConfiguration: {[]string{"ii>i"}, false, hostGetConfiguration},

	abi.ImportSetEffectiveContext: {[]string{"i>i"}, false, hostSetEffectiveContext},
	abi.ImportDone:                {[]string{">i"}, false, hostDone},

	abi.ImportGetBufferBytes:  {[]string{"iiiii>i"}, false, hostGetBufferBytes},
	abi.ImportSetBufferBytes:  {[]string{"iiiii>i"}, false, hostSetBufferBytes},
	abi.ImportGetBufferStatus: {[]string{"iii>i"}, false, hostGetBufferStatus},

	abi.ImportGetHeaderMapSize:      {[]string{"ii>i"}, false, hostGetHeaderMapSize},
	abi.ImportGetHeaderMapPairs:     {[]string{"iii>i"}, false, hostGetHeaderMapPairs},
	abi.ImportSetHeaderMapPairs:     {[]string{"iii>i"}, false, hostSetHeaderMapPairs},
	abi.ImportGetHeaderMapValue:     {[]string{"iiiii>i"}, false, hostGetHeaderMapValue},
	abi.ImportAddHeaderMapValue:     {[]string{"iiiii>i"}, false, hostAddHeaderMapValue},
	abi.ImportReplaceHeaderMapValue: {[]string{"iiiii>i"}, false, hostReplaceHeaderMapValue},
	abi.ImportRemoveHeaderMapValue:  {[]string{"iii>i"}, false, hostRemoveHeaderMapValue},

	abi.ImportContinueStream:    {[]string{"i>i"}, false, hostContinueStream},
	abi.ImportCloseStream:       {[]string{"i>i"}, false, hostCloseStream},
	abi.ImportContinueRequest:   {[]string{"()", ">i"}, false, hostContinueRequest},
	abi.ImportContinueResponse:  {[]string{"()", ">i"}, false, hostContinueResponse},
	abi.ImportClearRouteCache:   {[]string{"()", ">i"}, false, hostClearRouteCache},
	abi.ImportSendLocalResponse: {[]string{"iiiiiiii>i"}, false, hostSendLocalResponse},

	abi.ImportGetSharedData: {[]string{"iiiii>i"}, false, hostGetSharedData},
	abi.ImportSetSharedData: {[]string{"iiiii>i"}, false, hostSetSharedData},

	abi.ImportRegisterSharedQueue: {[]string{"iii>i"}, false, hostRegisterSharedQueue},
	abi.ImportResolveSharedQueue:  {[]string{"iiiii>i"}, false, hostResolveSharedQueue},
	abi.ImportEnqueueSharedQueue:  {[]string{"iii>i"}, false, hostEnqueueSharedQueue},
	abi.ImportDequeueSharedQueue:  {[]string{"iii>i"}, false, hostDequeueSharedQueue},

	abi.ImportDefineMetric:    {[]string{"iiii>i"}, false, hostDefineMetric},
	abi.ImportIncrementMetric: {[]string{"iI>i"}, false, hostIncrementMetric},
	abi.ImportRecordMetric:    {[]string{"iI>i"}, false, hostRecordMetric},
	abi.ImportGetMetric:       {[]string{"ii>i"}, false, hostGetMetric},

	abi.ImportGetProperty:         {[]string{"iiii>i"}, false, hostGetProperty},
	abi.ImportSetProperty:         {[]string{"iiii>i"}, false, hostSetProperty},
	abi.ImportCallForeignFunction: {[]string{"iiiiii>i"}, false, hostCallForeignFunction},

	abi.ImportHTTPCall:  {[]string{"iiiiiiiiii>i"}, false, hostHTTPCall},
	abi.ImportGetStatus: {[]string{"iii>i"}, false, hostGetStatus},

	// The shorter types are those of early C++ and AssemblyScript SDKs, without initial
	// metadata.
	abi.ImportGRPCCall:   {[]string{"iiiiiiiiiiii>i", "iiiiiiiiii>i"}, false, hostGRPCCall},
	abi.ImportGRPCStream: {[]string{"iiiiiiiii>i", "iiiiiii>i"}, false, hostGRPCStream},
	abi.ImportGRPCSend:   {[]string{"iiii>i"}, false, hostGRPCSend},
	abi.ImportGRPCCancel: {[]string{"i>i"}, false, hostGRPCCancel},
	abi.ImportGRPCClose:  {[]string{"i>i"}, false, hostGRPCClose},
}

// A guestFault is a panic by which a host function ends the guest's call on
// purpose. It is the guest's fault, as opposed to any other panic.
type guestFault string

func (f guestFault) Error() string { return string(f) }

var importKinds = [...]string{"function", "table", "memory", "global"}

// checkImports matches what the module imports against what there is, and
// remembers the functions for link.
func (p *Plugin) checkImports(info *meter.Info, add func(string, ...any)) {
	for _, e := range info.Imports {
		if e.Kind != 0 {
			add("it imports the %s %s.%s: only functions can be imported", importKinds[e.Kind], shownName(e.Module), shownName(e.Name))
		}
	}
	seen := map[[2]string]string{}
	for _, def := range p.code.ImportedFunctions() {
		module, name, _ := def.Import()
		sig := signature(def)
		shown := shownName(module) + "." + shownName(name)
		full := [2]string{module, name}
		if first, ok := seen[full]; ok {
			if first != sig {
				add("it imports %s twice, with the types %s and %s", shown, typeText(first), typeText(sig))
			}
			continue
		}
		seen[full] = sig
		fn, want := resolve(module, name, sig, len(def.ResultTypes()) > 0)
		switch {
		case want != "":
			add("it imports %s with the type %s, want %s", shown, typeText(sig), want)
		case fn == nil:
			add("it imports %s: there is no module %q here", shown, cutLine(module, maxShownName))
		default:
			if isUnknown(module, name) {
				p.unknown = append(p.unknown, shownName(name))
			}
			if stub := p.deny(module, name, len(def.ResultTypes()) > 0); stub != nil {
				fn = stub
			}
			p.imports = append(p.imports, importedFunc{module, name, def.ParamTypes(), def.ResultTypes(), fn})
		}
	}
}

type importedFunc struct {
	module, name    string
	params, results []api.ValueType
	fn              api.GoModuleFunc
}

// isUnknown reports whether an import that resolve has found something for is one of
// Proxy-Wasm or WASI that is not there, so that it was a stub.
func isUnknown(module, name string) bool {
	switch module {
	case abi.ModuleEnv:
		_, ours := hostFuncs[name]
		return !ours && strings.HasPrefix(name, "proxy_")
	case abi.ModuleWASI, abi.ModuleWASIUnstable:
		_, ours := wasiFuncs[name]
		return !ours
	}
	return false
}

// resolve returns the function that a guest means by an import. want is set when
// there is one, with other types. A name that nobody knows gets a stub: C and C++
// guests linked with --allow-undefined import junk that they never call.
func resolve(module, name, sig string, hasResult bool) (fn api.GoModuleFunc, want string) {
	switch module {
	case abi.ModuleEnv:
		if f, ok := hostFuncs[name]; ok {
			at := slices.Index(f.sigs, sig)
			if at < 0 {
				return nil, typeTexts(f.sigs)
			}
			if at > 0 && (name == abi.ImportGRPCCall || name == abi.ImportGRPCStream) {
				f.call = withoutMetadata(f.call)
			}
			return f.bind(hasResult), ""
		}
		if f, ok := libcFuncs[name]; ok {
			if f.sig != sig {
				return nil, typeText(f.sig)
			}
			return f.call, ""
		}
	case abi.ModuleWASI, abi.ModuleWASIUnstable:
		if f, ok := wasiFuncs[name]; ok {
			if f.sig != sig {
				return nil, typeText(f.sig)
			}
			return f.bind(), ""
		}
	case meter.Module: // a guest cannot name it
		return refill, ""
	default:
		return nil, ""
	}
	fault := guestFault(fmt.Sprintf("it called %s.%s, which this host does not have", shownName(module), shownName(name)))
	return func(context.Context, api.Module, []uint64) { panic(fault) }, ""
}

// bind returns f as wazero calls it.
func (f hostFunc) bind(hasResult bool) api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		v := vmOf(ctx, mod)
		v.charge(hostCallUnits)
		status := abi.StatusInternalFailure
		if f.early || !v.starting && !v.allocating {
			status = f.call(v, stack)
		}
		if status == abi.StatusBadArgument || status == abi.StatusInvalidMemoryAccess {
			v.p.misuse.Add(1)
		}
		if hasResult {
			stack[0] = uint64(status)
		}
	}
}

// A libcFunc is what is left over from a C library in guests of some toolchains.
type libcFunc struct {
	sig  string
	call api.GoModuleFunc
}

var libcFuncs = map[string]libcFunc{
	"emscripten_notify_memory_growth": {"i", func(ctx context.Context, mod api.Module, _ []uint64) {
		vmOf(ctx, mod).charge(hostCallUnits)
	}},
	"pthread_equal": {"ii>i", func(ctx context.Context, mod api.Module, stack []uint64) {
		vmOf(ctx, mod).charge(hostCallUnits)
		equal := uint64(0)
		if uint32(stack[0]) == uint32(stack[1]) {
			equal = 1
		}
		stack[0] = equal
	}},
}

// link makes the host modules that the guest imports from: exactly the functions
// it names, with the types it names them by, since the same name exists with
// different types in the wild.
func (p *Plugin) link(ctx context.Context) error {
	for _, module := range []string{meter.Module, abi.ModuleEnv, abi.ModuleWASI, abi.ModuleWASIUnstable} {
		b := p.rt.NewHostModuleBuilder(module)
		n := 0
		for _, f := range p.imports {
			if f.module == module {
				b.NewFunctionBuilder().WithGoModuleFunction(f.fn, f.params, f.results).WithName(f.name).Export(f.name)
				n++
			}
		}
		if n == 0 {
			continue
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("host: plugin %s: module %s: %s", p.o.Name, module, shownText(err.Error()))
		}
	}
	return nil
}
