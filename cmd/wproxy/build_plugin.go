package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
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

// A wasmModule is a .wasm file, or one that ships with wproxy.
type wasmModule struct {
	sum  [sha256.Size]byte // of its bytes
	read func() ([]byte, error)
}

// moduleOf returns p's module. One that is embedded does not change, so it is read and
// hashed once and not with every reload, which costs more than the rest of it. A file
// is read each time: its size and its time of change do not tell it from another. The
// error is a config.Problem.
func (b *builder) moduleOf(p *config.Plugin) (wasmModule, error) {
	if sum, ok := b.sums[p.Builtin]; ok {
		return wasmModule{sum, func() ([]byte, error) { return readModule(b.file, p) }}, nil
	}
	wasm, err := readModule(b.file, p)
	if err != nil {
		return wasmModule{}, err
	}
	m := wasmModule{sha256.Sum256(wasm), func() ([]byte, error) { return wasm, nil }}
	if p.Builtin != "" {
		b.sums[p.Builtin] = m.sum
	}
	return m, nil
}

// loadModule compiles p's module. The error is a config.Problem, or ctx's.
func (b *builder) loadModule(ctx context.Context, p *config.Plugin, m wasmModule, o host.PluginOptions) (*loadedModule, error) {
	wasm, err := m.read()
	if err != nil {
		return nil, err
	}
	plugin, err := b.host.Load(ctx, wasm, o)
	if err != nil {
		return nil, pluginProblem(ctx, b.file, p, "", err)
	}
	says, err := readManifest(b.file, p, wasm)
	if err != nil {
		plugin.Close()
		return nil, err
	}
	return &loadedModule{plugin, says, m.sum}, nil
}

// readModule returns the bytes of p's module. The error is a config.Problem.
func readModule(f *config.File, p *config.Plugin) ([]byte, error) {
	problem := func(format string, args ...any) error {
		args = append([]any{p.Name, p.Wasm}, args...)
		return f.Problemf("plugins."+p.Name+".wasm", "plugin %q (%s): "+format, args...).WithCode(codeModule)
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

		RecycleRequests: int64(p.Sandbox.Recycle.Requests),
		RecycleMemory:   int64(p.Sandbox.Recycle.Memory),
	}
	switch p.Sandbox.HeadersPause {
	case "stop-all":
		o.HeadersPause = host.HeadersPauseStopAll
	case "hold":
		o.HeadersPause = host.HeadersPauseHold
	}
	if o.Instances == 0 {
		o.Instances = runtime.GOMAXPROCS(0)
		if p.Kind == kindService {
			o.Instances = 1
		}
	}
	o.Grants = grantsOf(p)
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

// kindService is the kind of a plugin that runs by itself.
const kindService = "service"

// grantsOf returns what p may use, sorted. nil: the host's default.
func grantsOf(p *config.Plugin) []string {
	list := p.Grant
	if list == nil && p.Builtin != "" {
		list = plugins.Grants(p.Builtin)
		if len(p.Env) > 0 {
			list = append(list, host.GrantEnv)
		}
	}
	if list == nil {
		return nil
	}
	list = append([]string{}, list...) // an empty list is not nil
	slices.Sort(list)
	return slices.Compact(list)
}

// askedWarning says what p's manifest asks for and p was not granted; "" for nothing.
func askedWarning(p *config.Plugin, asked []string) string {
	granted := p.Grant
	if granted == nil {
		granted = host.DefaultGrants()
		if len(p.Env) > 0 {
			granted = append(granted, host.GrantEnv)
		}
	}
	var missing []string
	for _, g := range asked {
		// Which upstream it calls, the configuration says, not the manifest.
		call := strings.HasPrefix(g, host.GrantCall) &&
			slices.ContainsFunc(granted, func(have string) bool { return strings.HasPrefix(have, host.GrantCall) })
		if !call && !slices.Contains(granted, g) {
			missing = append(missing, strconv.Quote(g))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("plugin %q asks for %s (its manifest), which its grant does not have", p.Name, strings.Join(missing, ", "))
}

// deniedWarning says what p's module asks for in its manifest, or else imports, and was not
// granted; "" for nothing, and
// for a plugin that ships with wproxy: the SDK imports more than it calls, and what that
// one calls is known.
func deniedWarning(p *config.Plugin, asked []string, denied []host.DeniedImport) string {
	if p.Builtin != "" {
		return ""
	}
	if len(asked) > 0 {
		return askedWarning(p, asked)
	}
	byGrant := map[string][]string{}
	for _, d := range denied {
		g := d.Grant
		if g == host.GrantCall {
			g += "UPSTREAM"
		}
		byGrant[g] = append(byGrant[g], d.Name)
	}
	var parts []string
	for _, g := range slices.Sorted(maps.Keys(byGrant)) {
		parts = append(parts, fmt.Sprintf("%q (%s)", g, strings.Join(byGrant[g], ", ")))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("plugin %q imports what it is not granted, which fails if it is called; its grant has no %s", p.Name, strings.Join(parts, ", "))
}

// keyOf returns the key of a module with that hash that is run with o.
func keyOf(sum [sha256.Size]byte, o host.PluginOptions) moduleKey {
	o.OnCall, o.OnFuel, o.OnCallout = nil, nil, nil // not settings
	h := sha256.New()
	fmt.Fprintf(h, "%x %+v", sum, o) // fmt prints maps in order
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

// startRoot starts p with settings, for a route or, with "", as a service. broken is why
// it did not start, where that is tolerated: its schema, or the guest, does not take the
// settings.
func (b *builder) startRoot(
	ctx context.Context, p *loadedPlugin, routeName string, settings []byte,
) (root *host.Root, broken, err error) {
	tolerate := func(problem error) (*host.Root, error, error) {
		if !b.tolerant {
			return nil, nil, problem
		}
		b.gen.broken = append(b.gen.broken, brokenPlugin{p.Name(), routeName, problem})
		return nil, problem, nil
	}
	if problem := checkSettings(b.file, p.manifest.Settings, routeName, p.Name(), settings); problem != nil {
		return tolerate(problem)
	}
	key := rootKey{p.key, sha256.Sum256(settings)}
	root, letGo, err := b.roots.get(key, func() (*host.Root, error) { return p.NewRoot(ctx, settings) })
	if err != nil {
		problem := pluginProblem(ctx, b.file, b.file.Plugins[p.Name()], routeName, err)
		if _, ok := asType[*host.StartError](err); !ok {
			return nil, nil, problem
		}
		return tolerate(problem)
	}
	b.hold(letGo)
	return root, nil, nil
}

// startServices starts the plugins that run by themselves.
func (b *builder) startServices(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(b.gen.plugins)) {
		conf := b.file.Plugins[name]
		if conf.Kind != kindService {
			continue
		}
		settings, err := config.Raw(conf.Config)
		if err != nil {
			err = b.file.Problemf("plugins."+name+".config", "plugin %q: %v", name, err)
		} else {
			_, _, err = b.startRoot(ctx, b.gen.plugins[name], "", settings)
		}
		if err := b.note(err); err != nil {
			return err
		}
	}
	return nil
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

// NewTCP implements filter.TCPFactory; it always fails.
func (f *failedFactory) NewTCP(*filter.Exchange) (filter.TCPFilter, error) { return nil, f.err }

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
	// The guest's log lines are in it, and they may repeat its settings.
	text = config.NewRedactor(guestSettings(p.Name, f)...).Redact(text)
	code := codeModule
	if _, ok := asType[*host.StartError](err); ok {
		code = codeStart
	}
	return f.Problemf(key, "plugin %q (%s)%s: %s", p.Name, p.Wasm, used, text).WithCode(code)
}
