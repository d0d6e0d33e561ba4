//go:build wasip1

package main

import (
	"strconv"
	"unsafe"

	"wproxy/abi"
	"wproxy/plugins/internal/hostcall"
	"wproxy/plugins/internal/settings"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

// Properties, encoded.
const (
	routeProperty    = "route_name"
	clusterProperty  = "cluster_name"
	failureProperty  = "upstream\x00failure"
	attemptsProperty = "upstream\x00attempts"
	stateProperty    = "breaker\x00state"
	verdictProperty  = "wproxy\x00verdict"
)

func main() { proxywasm.SetVMContext(&vm{}) }

// vm is the VM context.
type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

// What becomes of a request, as the label `decision` of the metric wproxy_breaker_total.
const (
	passed = iota
	probed
	refused
	replaced

	decisions
)

// plugin is the context of one set of settings.
type plugin struct {
	types.DefaultPluginContext
	breaker   breaker
	circuits  []*circuit
	gauges    []hostcall.Gauge // of circuits
	shown     []state          // what they say
	decisions [decisions]hostcall.Counter
	place     hostcall.Values // the route's name, and its upstream's
	answer    hostcall.Values // attempts, failure and status
	watched   [160]byte       // room for the circuit of a request that the host has let through
	encoded   []byte          // for the fields of a reply
	digits    []byte
	names     []abi.Pair
	free      []*httpContext
}

// maxFree is how many contexts are kept for later exchanges, and maxCircuits how many
// circuits of one set of settings are remembered: they are the routes that use it.
const (
	maxFree     = 256
	maxCircuits = 1024
)

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	var data []byte
	if size > 0 {
		var err error
		if data, err = proxywasm.GetPluginConfiguration(); err != nil {
			proxywasm.LogError("breaker: cannot read the settings: " + err.Error())
			return types.OnPluginStartStatusFailed
		}
	}
	c, err := parseConfig(data)
	if err != nil {
		proxywasm.LogError("breaker: " + err.Error())
		return types.OnPluginStartStatusFailed
	}
	if problem := hostProblem(); problem != "" {
		proxywasm.LogError("breaker: " + problem)
		return types.OnPluginStartStatusFailed
	}
	p.breaker = breaker{config: c, store: &sharedData{}, counters: &hostCounters{}, now: hostcall.Now, changed: p.changed}
	for i, name := range [decisions]string{"passed", "probe", "refused", "fallback"} {
		p.decisions[i] = hostcall.NewCounter("wproxy_breaker_total;decision=" + name)
	}
	p.place = hostcall.NewValues(128, property(routeProperty), property(clusterProperty))
	p.answer = hostcall.NewValues(32, property(attemptsProperty), property(failureProperty),
		abi.ReadValue{Kind: abi.MapResponseHeaders, Name: ":status"})
	p.offerWatch(c)
	return types.OnPluginStartStatusOK
}

func property(path string) abi.ReadValue {
	return abi.ReadValue{Kind: abi.ReadProperty, Name: path}
}

// offerWatch has the host let requests through and count those that go well, if it can and the
// settings are such that nothing else is to be done with them. The rest stays the plugin's.
func (p *plugin) offerWatch(c *config) {
	metric, ok := p.decisions[passed].ID()
	if !ok {
		return
	}
	if w, ok := newWatch(c, metric); ok {
		// A host that does not want it asks for each request.
		p.breaker.watched = hostcall.Foreign(abi.ForeignWatch, abi.AppendWatch(nil, w)) == hostcall.OK
	}
}

// hostProblem says what the host lacks: without counters that all VMs share there would be
// more probes than asked for, and each VM would open by itself.
func hostProblem() string {
	probe := abi.NewLeaseRecord(0, 1) // of no places: asks, and takes none
	switch hostcall.Foreign(abi.ForeignLeaseCounter, probe) {
	case hostcall.OK:
		return ""
	case hostcall.NotFound:
		return "the host does not have the function " + abi.ForeignLeaseCounter + ", which this plugin counts its probes with; it works on wproxy"
	}
	return "the host does not grant " + settings.Quote("counters") + ", which this plugin counts with"
}

// circuit returns the circuit of the current request, by its index.
func (p *plugin) circuit() int {
	p.place.Read()
	name, _ := p.place.Get(0)
	upstream, _ := p.place.Get(1)
	for i, c := range p.circuits {
		if c.route == string(name) && c.upstream == string(upstream) {
			return i
		}
	}
	return p.newCircuit(string(name), string(upstream))
}

// newCircuit adds a circuit.
func (p *plugin) newCircuit(name, upstream string) int {
	if len(p.circuits) >= maxCircuits {
		p.circuits, p.gauges, p.shown = nil, nil, nil // routes that a reload has left behind
	}
	c := newCircuit(p.breaker.config, name, upstream)
	p.circuits = append(p.circuits, c)
	// The label is there for a split, too, and empty: all series of a name have the same labels.
	p.gauges = append(p.gauges, hostcall.NewGauge("wproxy_breaker_state;upstream="+c.upstream))
	p.shown = append(p.shown, states)
	return len(p.circuits) - 1
}

// show has the metric say what is known of a circuit.
func (p *plugin) show(i int, s state) {
	if p.shown[i] != s {
		p.shown[i] = s
		p.gauges[i].Set(uint64(s))
	}
}

// changed tells of a change that this VM has made.
func (p *plugin) changed(c *circuit, from, to record, why string) {
	line := "breaker: route " + settings.Quote(c.route) + ", upstream " + settings.Quote(c.upstream) + ": " +
		from.state.String() + " -> " + to.state.String() + ": " + why
	if to.state == open {
		line += "; open for " + seconds(to.openFor)
		proxywasm.LogWarn(line)
	} else {
		proxywasm.LogInfo(line)
	}
	for i := range p.circuits {
		if p.circuits[i] == c {
			p.shown[i] = states // others have told of other changes
			p.show(i, to.state)
		}
	}
}

// NewHttpContext returns a context that an earlier exchange has done with, if there is one.
func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	n := len(p.free)
	if n == 0 {
		return &httpContext{plugin: p, inUse: true}
	}
	c := p.free[n-1]
	p.free = p.free[:n-1]
	*c = httpContext{plugin: p, inUse: true}
	return c
}

// httpContext is the context of one exchange.
type httpContext struct {
	types.DefaultHttpContext
	plugin  *plugin
	inUse   bool     // not in plugin.free
	asked   bool     // about the request
	circuit *circuit // nil: what comes of the request does not count
	pass    pass
	began   int64 // with slow calls
}

func (c *httpContext) OnHttpRequestHeaders(int, bool) types.Action {
	p := c.plugin
	c.asked = true
	i := p.circuit()
	v := p.breaker.enter(p.circuits[i])
	p.show(i, v.state)
	if v.state != closed {
		hostcall.SetProperty(stateProperty, v.state.String())
	}
	if v.admitted {
		c.circuit, c.pass = p.circuits[i], v
		if p.breaker.slowCall > 0 {
			c.began = hostcall.Now()
		}
		if v.probe {
			hostcall.SetProperty(verdictProperty, "probe")
			p.decisions[probed].Inc()
		} else {
			p.decisions[passed].Inc()
		}
		return types.ActionContinue
	}
	if to := p.breaker.fallbackUpstream; to != "" {
		if hostcall.ForeignText(abi.ForeignSelectUpstream, to) == hostcall.OK {
			hostcall.SetProperty(verdictProperty, "fallback")
			p.decisions[replaced].Inc()
			return types.ActionContinue
		}
		proxywasm.LogError("breaker: the request cannot be sent to fallback_upstream: the plugin needs the grant " + settings.Quote("upstream:"+to))
	}
	hostcall.SetProperty(verdictProperty, "open")
	p.decisions[refused].Inc()
	p.refuse(v)
	return types.ActionPause
}

// refuse answers the request.
func (p *plugin) refuse(v pass) {
	r := &p.breaker.reply
	p.names = p.names[:0]
	for i, name := range r.names {
		p.names = append(p.names, abi.Pair{Name: name, Value: r.values[i]})
	}
	if r.retryAfter {
		p.digits = strconv.AppendInt(p.digits[:0], max(1, (v.retry+1e9-1)/1e9), 10)
		p.names = append(p.names, abi.Pair{Name: "retry-after", Value: unsafe.String(unsafe.SliceData(p.digits), len(p.digits))})
	}
	p.encoded = abi.AppendPairs(p.encoded[:0], p.names)
	hostcall.Reply(r.status, "breaker_open", r.body, p.encoded)
}

// OnHttpResponseHeaders learns what came of the request. It is the last callback that uses
// the context. (An exchange that ends without an answer leaves its context to the
// collector, and its place among the probes to the host.)
func (c *httpContext) OnHttpResponseHeaders(int, bool) types.Action {
	p := c.plugin
	if !c.asked && p.breaker.watched {
		c.takeOver()
	}
	if c.circuit != nil {
		p.breaker.leave(c.circuit, c.pass, c.result())
		c.circuit = nil
	}
	if c.inUse && len(p.free) < maxFree {
		c.inUse = false
		p.free = append(p.free, c)
	}
	return types.ActionContinue
}

// takeOver has c count the answer to a request that the host has let through.
func (c *httpContext) takeOver() {
	p := c.plugin
	text, ok := hostcall.Property(p.watched[:], abi.PropertyWatched)
	if !ok {
		return
	}
	route, upstream, v, ok := parseWatched(text)
	if !ok {
		return
	}
	c.pass = v
	for _, known := range p.circuits {
		if known.route == route && known.upstream == upstream {
			c.circuit = known
			return
		}
	}
	c.circuit = p.circuits[p.newCircuit(route, upstream)]
}

// result returns what came of the current exchange.
func (c *httpContext) result() result {
	p := c.plugin
	p.answer.Read()
	tries, ok := p.answer.Get(0)
	if !ok || len(tries) == 0 || tries[0] == 0 && string(tries) == "\x00\x00\x00\x00\x00\x00\x00\x00" {
		return result{} // somebody else has answered
	}
	text, _ := p.answer.Get(1)
	failure := unsafe.String(unsafe.SliceData(text), len(text))
	status := 0
	if failure == "" || failure == "none" {
		digits, _ := p.answer.Get(2)
		for _, c := range digits {
			status = 10*status + int(c-'0')
		}
	}
	r := p.breaker.judge(failure, status)
	if r.counts && p.breaker.slowCall > 0 {
		r.slow = hostcall.Now()-c.began >= p.breaker.slowCall
	}
	return r
}

// sharedData is the host's store.
type sharedData struct{ room [recordSize]byte }

func (s *sharedData) Get(key []byte) ([]byte, uint32, bool) {
	v, cas, status := hostcall.SharedData(s.room[:], key)
	return v, cas, status == hostcall.OK
}

func (*sharedData) Set(key, value []byte, cas uint32) bool {
	return hostcall.SetSharedData(key, value, cas) == hostcall.OK
}

// hostCounters are the host's.
type hostCounters struct{}

func (*hostCounters) Add(record []byte) bool {
	return hostcall.Foreign(abi.ForeignAddCounter, record) == hostcall.OK
}

func (*hostCounters) Lease(record []byte) bool {
	return hostcall.Foreign(abi.ForeignLeaseCounter, record) == hostcall.OK
}
