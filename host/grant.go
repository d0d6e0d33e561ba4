package host

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"wproxy/abi"
)

// Grants: what a plugin may use beyond its own stream (PluginOptions.Grants).
const (
	GrantLog        = "log"         // proxy_log, and what is written to fd 1 and 2
	GrantMetrics    = "metrics"     // metrics of its own
	GrantSharedData = "shared-data" // shared data of its vm_id
	GrantQueue      = "queue"       // shared queues
	GrantEnv        = "env"         // PluginOptions.Env
	GrantCounters   = "counters"    // the counters of its vm_id (abi.ForeignTakeCounter)
	GrantObjects    = "objects"     // messages stored for its vm_id, and exchanges without a client (abi.ForeignObjectStore and so on)

	// GrantCall in front of the name of an upstream: calls to that upstream.
	GrantCall = "call:"

	// GrantUpstream in front of the name of an upstream: requests may be sent there
	// (abi.ForeignSelectUpstream).
	GrantUpstream = "upstream:"
)

// DefaultGrants returns what a plugin may use of which nothing else is said. None of
// it reaches outside of the process.
func DefaultGrants() []string { return []string{GrantLog, GrantMetrics, GrantSharedData} }

// checkGrant says what is wrong with a grant.
func checkGrant(g string) error {
	switch g {
	case GrantLog, GrantMetrics, GrantSharedData, GrantQueue, GrantEnv, GrantCounters, GrantObjects:
		return nil
	}
	for _, prefix := range [...]string{GrantCall, GrantUpstream} {
		if name, ok := strings.CutPrefix(g, prefix); ok && name != "" {
			return nil
		}
	}
	return fmt.Errorf("grant %q: want log, metrics, shared-data, queue, env, counters, objects, or call: or upstream: with the name of an upstream", g)
}

// envNeeds says which grant a function of module env needs; one that is not listed is
// about the plugin itself, its stream or its clock, and needs none. With GrantCall, one
// to any upstream will do: which one is checked with each call.
var envNeeds = map[string]string{
	abi.ImportLog: GrantLog,

	abi.ImportDefineMetric:    GrantMetrics,
	abi.ImportIncrementMetric: GrantMetrics,
	abi.ImportRecordMetric:    GrantMetrics,
	abi.ImportGetMetric:       GrantMetrics,

	abi.ImportGetSharedData: GrantSharedData,
	abi.ImportSetSharedData: GrantSharedData,

	abi.ImportRegisterSharedQueue: GrantQueue,
	abi.ImportResolveSharedQueue:  GrantQueue,
	abi.ImportEnqueueSharedQueue:  GrantQueue,
	abi.ImportDequeueSharedQueue:  GrantQueue,

	abi.ImportHTTPCall:   GrantCall,
	abi.ImportGRPCCall:   GrantCall,
	abi.ImportGRPCStream: GrantCall,
	abi.ImportGRPCSend:   GrantCall,
	abi.ImportGRPCCancel: GrantCall,
	abi.ImportGRPCClose:  GrantCall,
}

// foreignNeeds is envNeeds for foreign functions, by their names.
var foreignNeeds = map[string]string{
	abi.ForeignAcquireCounter: GrantCounters,
	abi.ForeignAddCounter:     GrantCounters,
	abi.ForeignChargeCounter:  GrantCounters,
	abi.ForeignGate:           GrantCounters,
	abi.ForeignLeaseCounter:   GrantCounters,
	abi.ForeignTakeCounter:    GrantCounters,
	abi.ForeignWatch:          GrantCounters,
	abi.ForeignObjectLookup:   GrantObjects,
	abi.ForeignObjectServe:    GrantObjects,
	abi.ForeignObjectStore:    GrantObjects,
	abi.ForeignObjectUpdate:   GrantObjects,
	abi.ForeignObjectDelete:   GrantObjects,
	abi.ForeignObjectJoin:     GrantObjects,
	abi.ForeignObjectStanding: GrantObjects,
	abi.ForeignRefresh:        GrantObjects,
}

// wasiNeeds is envNeeds for functions of WASI. The environment is not in it: without
// the grant it is empty, as guests in Go do not even start when they are told that
// they may not ask for it.
var wasiNeeds = map[string]string{
	"fd_write":  GrantLog,
	"fd_pwrite": GrantLog,
}

// ImportGrant returns the grant that a function takes which guests import; "" if it
// takes none, GrantCall if it takes that of some upstream.
func ImportGrant(module, name string) string {
	if module == abi.ModuleEnv {
		return envNeeds[name]
	}
	return wasiNeeds[name]
}

// A grantSet is what one plugin was granted.
type grantSet map[string]struct{}

// grantSetOf makes the set of o, or of the defaults.
func grantSetOf(o *PluginOptions) grantSet {
	list := o.Grants
	if list == nil {
		list = DefaultGrants()
		if len(o.Env) > 0 {
			list = append(list, GrantEnv)
		}
	}
	set := grantSet{}
	for _, g := range list {
		set[g] = struct{}{}
		if strings.HasPrefix(g, GrantCall) {
			set[GrantCall] = struct{}{} // some upstream
		}
	}
	return set
}

// has reports whether g is granted; "" always is.
func (s grantSet) has(g string) bool {
	_, ok := s[g]
	return ok || g == ""
}

// A DeniedImport is a function that a module imports and must not use.
type DeniedImport struct {
	Module, Name string
	Grant        string // that it takes; GrantCall: for some upstream
}

// Denied returns what the module imports without being granted it. A module may
// import what it never calls; if it does call, the answer is InternalFailure, or
// ENOTCAPABLE from WASI, and the log says so.
func (p *Plugin) Denied() []DeniedImport { return slices.Clone(p.denied) }

// Unknown returns what the module imports of Proxy-Wasm and WASI that this host does not
// have: functions of another version. A call of one is a trap. What else a module
// imports and nobody has is junk of its linker.
func (p *Plugin) Unknown() []string { return slices.Clone(p.unknown) }

// deny returns the stub for an import that is not granted; nil if it may be used.
func (p *Plugin) deny(module, name string, hasResult bool) api.GoModuleFunc {
	grant, status := ImportGrant(module, name), uint64(abi.StatusInternalFailure)
	if module != abi.ModuleEnv {
		status = uint64(errnoNotCapable)
	}
	if p.grants.has(grant) {
		return nil
	}
	p.denied = append(p.denied, DeniedImport{module, name, grant})
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		v := vmOf(ctx, mod)
		v.charge(hostCallUnits)
		v.notGranted(name, grant)
		if hasResult {
			stack[0] = status
		}
	}
}

// foreignDenied reports whether a foreign function is not granted, and says so in the
// log.
func (v *vm) foreignDenied(name string) bool {
	grant := foreignNeeds[name]
	if v.p.grants.has(grant) {
		return false
	}
	v.notGranted(grant, grant) // name is borrowed, and the guest's
	return true
}

// notGranted says in the log that a call was denied. Both strings are the program's
// or the configuration's: there is one line for each in a VM.
func (v *vm) notGranted(name, grant string) {
	if _, done := v.warned[name]; done {
		return
	}
	if grant == GrantCall {
		grant = GrantCall + "UPSTREAM"
	}
	v.warnOnce(name, fmt.Sprintf("%s was called without being granted: it takes %q in the plugin's grant", name, grant))
}
