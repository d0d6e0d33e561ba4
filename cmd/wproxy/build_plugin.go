package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/wasmfilter"
	"wproxy/plugins"
)

// maxModule is the most bytes of a .wasm file. Modules of 20 MiB exist (whole
// language runtimes); what is larger is likely the wrong file.
const maxModule = 64 << 20

// A moduleKey names a loaded plugin: its name, and a hash of its bytes and of
// what cannot change while its VMs live. Settings for the guest are not in it:
// they make another root in the same VMs.
type moduleKey struct {
	name string
	hash [sha256.Size]byte
}

// A rootKey names a plugin with one configuration.
type rootKey struct {
	module moduleKey
	config [sha256.Size]byte
}

// readModule returns the bytes of p's module. The error is a config.Problem.
func readModule(f *config.File, p *config.Plugin) ([]byte, error) {
	problem := func(format string, args ...any) error {
		args = append([]any{p.Name, p.Wasm}, args...)
		return f.Problemf("plugins."+p.Name+".wasm", "plugin %q (%s): "+format, args...)
	}
	if p.Builtin != "" {
		b, err := plugins.Builtin(p.Builtin)
		if err != nil {
			return nil, problem("%v", err)
		}
		return b, nil
	}
	fi, err := os.Stat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, problem("there is no file %s", p.Path)
	case err != nil:
		return nil, problem("%v", err)
	case !fi.Mode().IsRegular():
		return nil, problem("is not a file")
	case fi.Size() > maxModule:
		return nil, problem("has %d bytes; the most is %d", fi.Size(), maxModule)
	}
	b, err := os.ReadFile(p.Path)
	if err != nil {
		return nil, problem("%v", err)
	}
	return b, nil
}

// pluginOptions converts how p is run. The error is a config.Problem.
func pluginOptions(f *config.File, p *config.Plugin) (host.PluginOptions, error) {
	o := host.PluginOptions{
		Name:       p.Name,
		VMID:       p.VMID,
		RootID:     p.RootID,
		Memory:     int64(p.Sandbox.Memory),
		CPU:        p.Sandbox.CPU,
		Start:      p.Sandbox.Start,
		Stack:      int64(p.Sandbox.Stack),
		Instances:  p.Sandbox.Instances,
		RestartMin: p.Sandbox.Restart.Min,
		RestartMax: p.Sandbox.Restart.Max,
	}
	switch p.Sandbox.HeadersPause {
	case "stop-all":
		o.HeadersPause = host.HeadersPauseStopAll
	case "hold":
		o.HeadersPause = host.HeadersPauseHold
	}
	if o.Instances == 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	if len(p.Env) > 0 {
		o.Env = make(map[string]string, len(p.Env))
		for k, v := range p.Env {
			o.Env[k] = v.Reveal()
		}
	}
	var err error
	if o.VMConfig, err = config.Raw(p.VMConfig); err != nil {
		return o, f.Problemf("plugins."+p.Name+".vm_config", "plugin %q: %v", p.Name, err)
	}
	if err := o.Validate(); err != nil {
		return o, f.Problemf("plugins."+p.Name, "%v", err)
	}
	return o, nil
}

// keyOf returns the key of a module that is run with o.
func keyOf(wasm []byte, o host.PluginOptions) moduleKey {
	o.OnCall, o.OnFuel = nil, nil // not settings
	h := sha256.New()
	fmt.Fprintf(h, "%x %+v", sha256.Sum256(wasm), o) // fmt prints maps in order
	return moduleKey{o.Name, [sha256.Size]byte(h.Sum(nil))}
}

// filterOptions converts how p takes part in exchanges.
func filterOptions(p *config.Plugin) wasmfilter.Options {
	o := wasmfilter.Options{BodyBuffer: int(p.Sandbox.BodyBuffer), Pause: p.Sandbox.Pause}
	if p.Sandbox.OnError == "open" {
		o.OnError = wasmfilter.OnErrorOpen
	}
	return o
}

// failedFactory stands for a plugin that did not start: its routes answer 503
// and say why in the log.
type failedFactory struct {
	name string
	err  *exchange.Error
}

func newFailedFactory(name string, cause error) *failedFactory {
	return &failedFactory{name, &exchange.Error{
		Op: "start plugin", Side: exchange.Internal, Status: 503, Reason: "plugin_failed:" + name, Err: cause,
	}}
}

// Name implements filter.Factory.
func (f *failedFactory) Name() string { return f.name }

// New implements filter.Factory; it always fails.
func (f *failedFactory) New(*filter.Exchange) (filter.Filter, error) { return nil, f.err }

// pluginProblem turns the error of loading or starting a plugin into a problem
// at the place that names it.
func pluginProblem(ctx context.Context, f *config.File, p *config.Plugin, route string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	key, used := "plugins."+p.Name, ""
	if route != "" {
		used = fmt.Sprintf(" as route %q uses it", route)
		if r := f.Routes[route]; r != nil && r.With[p.Name] != nil {
			key = "routes." + route + ".with." + p.Name
		}
	}
	text := strings.TrimPrefix(err.Error(), "plugin "+p.Name+": ")
	// The guest's log lines are in it, and they may repeat its settings. One VM
	// serves all routes that use the plugin.
	settings := []any{p.Config, p.VMConfig, p.Env}
	for _, r := range f.Routes {
		settings = append(settings, r.With[p.Name])
	}
	text = config.Redact(text, settings...)
	return f.Problemf(key, "plugin %q (%s)%s: %s", p.Name, p.Wasm, used, text)
}
