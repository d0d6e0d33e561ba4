package plugintest

import (
	"cmp"
	"testing"
	"testing/synctest"

	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/meter"
)

// rewritten is for all tests of a process: with the race detector, to rewrite a plugin takes longer than most of
// what is done with it.
var rewritten meter.Cache

// Try is Run for callers that deal themselves with a module or a configuration that
// is refused: f is then not called, and the error is a *host.LoadError or
// *host.StartError, with the plugin's last log lines.
func Try(t *testing.T, wasm []byte, o Options, f func(t *testing.T, p *Plugin)) error {
	t.Helper()
	var out error
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		s := &sink{metrics: map[string]*metric{}, objects: objects.New(objects.Options{Bytes: cmp.Or(o.Objects, defaultObjects)})}
		h, err := host.NewHost(host.HostOptions{CacheDir: CacheDir(), Rewritten: &rewritten, Log: s.log, Metrics: s, Caller: s, GRPC: s, Without: o.Without})
		if err != nil {
			out = err
			return
		}
		// Deferred, not a cleanup: it has to happen inside the bubble.
		defer func() {
			if err := h.Close(); err != nil && out == nil {
				out = err
			}
		}()
		p, err := load(t, h, s, wasm, o)
		if err != nil {
			out = err
			return
		}
		defer p.close()
		f(t, p)
	})
	return out
}

// defaultObjects is the most bytes of what plugins store in a test.
const defaultObjects = 64 << 20

// Outside calls f, with a value for Try and what is reached from it, in a program that is
// no test: `wproxy plugin test` is one. A bubble of testing/synctest, which is what
// makes the fake clock, is only to be had with a *testing.T. This one belongs to no
// test, so f must report in its own way: t.Error and the like have nobody to
// tell, and panic. So do the methods of Plugin and Stream that fail the test; for those
// there are Try and TryOpen.
func Outside(f func(t *testing.T)) {
	// synctest starts f's bubble on a goroutine of its own and takes nothing from
	// the *testing.T but its name.
	f(new(testing.T))
}

// TryOpen is Open for callers that deal themselves with a request that no client could
// send.
func (p *Plugin) TryOpen(req Request) (*Stream, error) { return Chain{p}.TryOpen(req) }

// SharedData returns what the plugin keeps under key in its shared data.
func (p *Plugin) SharedData(key string) (value []byte, ok bool) { return p.plugin.SharedData(key) }

// Metrics returns the value of every metric that the plugin has defined, as Metric does.
func (p *Plugin) Metrics() map[string]int64 {
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	values := make(map[string]int64, len(p.sink.metrics))
	for name, m := range p.sink.metrics {
		values[name] = m.value
	}
	return values
}
