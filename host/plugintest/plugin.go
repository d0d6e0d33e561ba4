package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// Options say how the plugin is run. The zero value works.
type Options struct {
	Name string // "": plugin

	// Config is the plugin's configuration: a string or []byte as it is,
	// anything else as JSON. nil: none.
	Config any

	Route    string         // name of the route; "": test
	Metadata map[string]any // of the route
	Timeout  time.Duration  // of the route; 0: 60s, negative: none

	VMID, RootID string
	VMConfig     []byte
	Env          map[string]string

	// Grants is what the plugin may use, as the key grant has it; nil: log, metrics
	// and shared-data. "call:NAME" makes an upstream of that name; see Callouts.
	Grants []string

	// Objects is the most bytes of the messages that plugins store; 0: 64 MiB. It is that of
	// the plugin that a test is run with.
	Objects int64

	// NoStanding is host.HostOptions.NoStanding: that of the plugin that a test is run with.
	NoStanding bool

	Memory    int64         // bytes; 0: the host's default
	Instances int           // VMs; 0: one
	CPU       time.Duration // work of one callback; 0: the host's default
	LogLevel  abi.LogLevel

	OnError      wasmfilter.OnError
	HeadersPause host.HeadersPause
	BodyBuffer   int           // bytes; 0: the default
	Pause        time.Duration // longest pause; 0: Timeout
}

// A Plugin is a running plugin.
type Plugin struct {
	t       *testing.T
	o       Options
	host    *host.Host
	sink    *sink
	plugin  *host.Plugin
	root    *host.Root
	factory *wasmfilter.Factory
}

// Run starts the plugin and calls f in a testing/synctest bubble. What is wrong
// with the module or its configuration fails the test. When f has returned,
// streams that are still open are finished and the plugin is closed.
func Run(t *testing.T, wasm []byte, o Options, f func(t *testing.T, p *Plugin)) {
	t.Helper()
	if err := Try(t, wasm, o, f); err != nil {
		t.Fatal(err)
	}
}

// Start starts the plugin with its configuration, stops it again, and returns
// why it did not start: a *host.LoadError or *host.StartError, with the plugin's
// last log lines. For tests of what a plugin refuses.
func Start(t *testing.T, wasm []byte, o Options) error {
	t.Helper()
	return Try(t, wasm, o, func(*testing.T, *Plugin) {})
}

func load(t *testing.T, h *host.Host, s *sink, wasm []byte, o Options) (*Plugin, error) {
	t.Helper()
	o = o.withDefaults()
	s.calls.know(o.Grants)
	hp, err := h.Load(t.Context(), wasm, host.PluginOptions{
		Name: o.Name, VMID: o.VMID, RootID: o.RootID, VMConfig: o.VMConfig, Env: o.Env,
		Grants: o.Grants, LogLevel: o.LogLevel, Memory: o.Memory, CPU: o.CPU, Instances: o.Instances, HeadersPause: o.HeadersPause,
	})
	if err != nil {
		return nil, err
	}
	p := &Plugin{t: t, o: o, host: h, sink: s, plugin: hp}
	if err := p.configure(); err != nil {
		hp.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plugin) configure() error {
	config, err := configBytes(p.o.Config)
	if err != nil {
		return err
	}
	p.root, err = p.plugin.NewRoot(context.Background(), config)
	if err != nil {
		return err
	}
	p.factory = wasmfilter.New(p.root, wasmfilter.Options{
		OnError: p.o.OnError, BodyBuffer: p.o.BodyBuffer, Pause: p.o.Pause, Objects: p.sink.objects,
	})
	return nil
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "plugin"
	}
	if o.Route == "" {
		o.Route = "test"
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Instances == 0 {
		o.Instances = 1
	}
	return o
}

func configBytes(config any) ([]byte, error) {
	switch c := config.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(c), nil
	case []byte:
		return c, nil
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("plugintest: Options.Config: %w", err)
	}
	return b, nil
}

// With starts the same plugin with another configuration, in the same VMs, as
// two routes with their own settings would. Exchanges of the two share what the
// plugin keeps in shared data. It ends with p.
func (p *Plugin) With(route string, config any) *Plugin {
	p.t.Helper()
	q := &Plugin{t: p.t, o: p.o, host: p.host, sink: p.sink, plugin: p.plugin}
	q.o.Route, q.o.Config = route, config
	if err := q.configure(); err != nil {
		p.t.Fatal(err)
	}
	p.sink.addCloser(q.root.Close)
	return q
}

// Load starts another plugin beside p, for a Chain. Logs and metrics of the two are
// kept together. It ends with p.
func (p *Plugin) Load(wasm []byte, o Options) *Plugin {
	p.t.Helper()
	q, err := load(p.t, p.host, p.sink, wasm, o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.sink.addCloser(func() {
		q.root.Close()
		q.plugin.Close()
	})
	return q
}

// close ends all streams and the plugin.
func (p *Plugin) close() {
	p.sink.closeAll()
	p.root.Close()
	p.plugin.Close()
}

// Advance moves the clock by d: ticks that come due are made, pauses that have
// lasted too long end, and the guest's clock goes on.
func (p *Plugin) Advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Now returns the time of the fake clock.
func (p *Plugin) Now() time.Time { return time.Now() }

// Stats returns the host's counters for the plugin.
func (p *Plugin) Stats() host.Stats { return p.plugin.Stats() }

// Logs returns what the plugin, and the host about the plugin, has logged so far.
func (p *Plugin) Logs() []host.LogEntry {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	return append([]host.LogEntry(nil), p.sink.logs...)
}

// Logged reports whether a log line contains text.
func (p *Plugin) Logged(text string) bool {
	for _, e := range p.Logs() {
		if strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

// Metric returns the value of the metric that the guest calls name (labels
// included, as in "name;key=value"): the sum of a counter, the last value of a
// gauge, the number of samples of a histogram.
func (p *Plugin) Metric(name string) (value int64, ok bool) {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	m, ok := p.sink.metrics[name]
	if !ok {
		return 0, false
	}
	return m.value, true
}

// sink takes what the host tells about a plugin, and knows what has to be ended.
type sink struct {
	calls callSink

	mu      sync.Mutex
	logs    []host.LogEntry
	metrics map[string]*metric
	closers []func()

	objects   *objects.Store
	refreshes []*Stream // that nobody has asked for
}

func (s *sink) log(e host.LogEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(s.logs, e)
}

func (s *sink) addCloser(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// closeAll runs the closers, last first.
func (s *sink) closeAll() {
	s.mu.Lock()
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
}

// Metric implements host.MetricSink.
func (s *sink) Metric(_, name string, _ abi.MetricKind) host.Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &metric{sink: s}
	s.metrics[name] = m
	return m
}

// metric is one metric; guarded by its sink's lock.
type metric struct {
	sink  *sink
	value int64
}

func (m *metric) Add(delta int64, _ string) {
	m.sink.mu.Lock()
	defer m.sink.mu.Unlock()
	m.value += delta
}

func (m *metric) Set(value int64, _ string) {
	m.sink.mu.Lock()
	defer m.sink.mu.Unlock()
	m.value = value
}

func (m *metric) Sample(int64, string) { m.Add(1, "") }

// CacheDir is where compiled modules are kept between runs, so that a plugin is
// compiled once and not in every test; "" if there is no place.
func CacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir = filepath.Join(dir, "wproxy", "plugintest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	return dir
}
