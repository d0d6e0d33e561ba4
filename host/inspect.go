package host

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/host/meter"
)

// FuelPerMicrosecond is how many units of work (Stats.Fuel) are a microsecond of
// PluginOptions.CPU.
const FuelPerMicrosecond = unitsPerMicro

// A ModuleInfo is what a module declares, read from its bytes without compiling it.
type ModuleInfo struct {
	Version   abi.Version // 0: no marker of a version known here
	Marker    string      // the export that announces it, known or not; "": none
	Imports   []Import    // functions only, in order
	Callbacks []string    // exports that are callbacks of the ABI, in its order
	Exports   []string    // names of all exported functions, in order
	Memory    bool        // it has a linear memory of its own
	MinPages  uint64      // of which it starts with so many pages of 64 KiB
}

// An Import is a function that a module imports.
type Import struct {
	Module, Name string
	Known        bool   // this host has one of that name; a call of one it does not have traps
	Grant        string // that a call of it takes; GrantCall: for some upstream; "": none
}

// Inspect reads what a module declares. It believes nothing, and bounds what it reads as Load does.
// Whether the module would run here, Load tells.
func Inspect(wasm []byte) (*ModuleInfo, error) {
	_, info, err := meter.Rewrite(wasm, meter.Options{})
	if err != nil {
		return nil, err
	}
	m := &ModuleInfo{Exports: info.Exports, Memory: info.Memory, MinPages: info.MinPages}
	for _, name := range info.Exports {
		if !strings.HasPrefix(name, abi.MarkerPrefix) {
			continue
		}
		if v, ok := abi.MarkerVersion(name); ok && m.Version == 0 {
			m.Version, m.Marker = v, name
		} else if m.Marker == "" {
			m.Marker = name
		}
	}
	for _, spec := range callbackSpecs {
		if spec.name != "" && slices.Contains(info.Exports, spec.name) {
			m.Callbacks = append(m.Callbacks, spec.name)
		}
	}
	for _, e := range info.Imports {
		if e.Kind == 0 {
			grant := envNeeds[e.Name]
			if e.Module != abi.ModuleEnv {
				grant = wasiNeeds[e.Name]
			}
			m.Imports = append(m.Imports, Import{e.Module, e.Name, knownImport(e.Module, e.Name), grant})
		}
	}
	return m, nil
}

// knownImport reports whether there is a host function of that name.
func knownImport(module, name string) bool {
	switch module {
	case abi.ModuleEnv:
		_, known := hostFuncs[name]
		_, libc := libcFuncs[name]
		return known || libc
	case abi.ModuleWASI, abi.ModuleWASIUnstable:
		_, known := wasiFuncs[name]
		return known
	}
	return false
}
