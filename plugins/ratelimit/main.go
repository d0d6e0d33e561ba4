//go:build wasip1

package main

import (
	"unsafe"

	"wproxy/abi"
	"wproxy/plugins/internal/hostcall"
	"wproxy/plugins/internal/ipaddr"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

// Properties, encoded.
const (
	routeProperty   = "route_name"
	clientProperty  = "source\x00address"
	verdictProperty = "wproxy\x00verdict"
)

// seedChecks is the number of decisions after which a VM looks at the shared seed again.
// That keeps it among the recently used entries, which a host evicts last, and heals
// a table that lost it.
const seedChecks = 4096

func main() { proxywasm.SetVMContext(&vm{}) }

// vm is the VM context.
type vm struct {
	types.DefaultVMContext
	store  sharedData
	seed   seed
	loaded bool
	checks int
}

func (v *vm) NewPluginContext(uint32) types.PluginContext { return &plugin{vm: v} }

// loadSeed reads the seed again when it is time.
func (v *vm) loadSeed() bool {
	if v.checks++; v.loaded && v.checks < seedChecks {
		return true
	}
	v.checks = 0
	s, ok := loadSeed(&v.store, v.makeSeed)
	if ok {
		v.seed, v.loaded = s, true
	}
	return v.loaded
}

// makeSeed returns the seed to store where there is none: the one in use, so that the
// table stays where it is, or a random one.
func (v *vm) makeSeed() seed {
	var b [16]byte
	if !v.loaded && hostcall.Random(b[:]) {
		v.seed = *(*seed)(unsafe.Pointer(&b))
	}
	return v.seed
}

// plugin is the context of one set of settings.
type plugin struct {
	types.DefaultPluginContext
	vm        *vm
	checker   checker
	decisions [outcomes]hostcall.Counter
	evicted   hostcall.Counter
	request   currentRequest
	number    [24]byte // room for the cost that a response names
	scratch   []byte   // for field values
	encoded   []byte   // the fields of refused
	refused   refusal  // the last one
	free      []*httpContext
}

// counters are the host's.
func (*plugin) counters() *hostCounters { return &hostCounters{} }

type hostCounters struct{}

func (*hostCounters) take(record []byte) bool {
	return hostcall.Foreign(abi.ForeignTakeCounter, record) == hostcall.OK
}

func (*hostCounters) charge(record []byte) bool {
	return hostcall.Foreign(abi.ForeignChargeCounter, record) == hostcall.OK
}

func (*hostCounters) add(record []byte) bool {
	return hostcall.Foreign(abi.ForeignAddCounter, record) == hostcall.OK
}

func (*hostCounters) acquire(record []byte) bool {
	return hostcall.Foreign(abi.ForeignAcquireCounter, record) == hostcall.OK
}

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	var data []byte
	if size > 0 {
		var err error
		if data, err = proxywasm.GetPluginConfiguration(); err != nil {
			proxywasm.LogError("ratelimit: cannot read the settings: " + err.Error())
			return types.OnPluginStartStatusFailed
		}
	}
	c, err := parseConfig(data)
	if err != nil {
		proxywasm.LogError("ratelimit: " + err.Error())
		return types.OnPluginStartStatusFailed
	}
	p.checker = newChecker(c, newLimiter(c.limit, &p.vm.store, hostcall.Now), &p.vm.seed)
	p.request = newCurrentRequest(c)
	if probe := abi.NewAcquireRecord(0); p.counters().acquire(probe) { // of no places: asks, and takes none
		p.checker.counters = p.counters()
	} else if setting := needsCounters(c); setting != "" {
		proxywasm.LogError("ratelimit: setting " + setting + ": needs a host with wproxy's counters (" + abi.ForeignAcquireCounter + `), which grants "counters"`)
		return types.OnPluginStartStatusFailed
	} else if !p.vm.loadSeed() {
		proxywasm.LogError("ratelimit: the host has neither counters nor shared data for the buckets to live in")
		return types.OnPluginStartStatusFailed
	}
	for o := range outcomes {
		p.decisions[o] = hostcall.NewCounter("wproxy_limit_total;decision=" + o.String())
	}
	p.evicted = hostcall.NewCounter("wproxy_limit_evicted_total")
	p.offerGate(c)
	return types.OnPluginStartStatusOK
}

// offerGate has the host let requests through, and refuse them, by itself, if it can and they are such that all
// that the plugin does with them is in a gate. The rest stays the plugin's.
func (p *plugin) offerGate(c *config) {
	if p.checker.counters == nil {
		return
	}
	var metrics [outcomes]uint32
	for _, o := range [...]outcome{allowed, exempted, limited, crowded, keyless, reported} {
		id, ok := p.decisions[o].ID()
		if !ok {
			return
		}
		metrics[o] = id
	}
	if g, ok := newGate(c, &metrics); ok {
		g.Refusals = newRefusals(c, &metrics)
		if hostcall.Foreign(abi.ForeignGate, abi.AppendGate(nil, g)) == hostcall.BadArgument {
			// One that knows less of gates asks for each refusal, or, if it does not want this either, for each request.
			g.Refusals = nil
			hostcall.Foreign(abi.ForeignGate, abi.AppendGate(nil, g))
		}
	}
}

// needsCounters returns a setting that shared data is not enough for, and "" if there is none.
func needsCounters(c *config) string {
	switch {
	case c.concurrency > 0:
		return `"concurrency"`
	case c.algorithm == slidingWindow, c.algorithm == leakyBucket:
		return `"algorithm"`
	case c.costField != "":
		return `"cost"`
	}
	return ""
}

// NewHttpContext returns a context that an earlier exchange has done with, if there is
// one: in a guest, an allocation costs as much as the whole decision.
func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	n := len(p.free)
	if n == 0 {
		return &httpContext{plugin: p, inUse: true}
	}
	c := p.free[n-1]
	p.free = p.free[:n-1]
	c.inUse = true
	return c
}

// maxFree is how many contexts are kept for later exchanges.
const maxFree = 256

// httpContext is the context of one exchange.
type httpContext struct {
	types.DefaultHttpContext
	plugin   *plugin
	inUse    bool // not in plugin.free
	announce bool // the answer gets the fields of decision
	decision decision
	charge   bool   // the answer names the cost
	record   []byte // what it is charged to
}

func (c *httpContext) OnHttpRequestHeaders(int, bool) types.Action {
	p := c.plugin
	if p.checker.counters == nil {
		p.vm.loadSeed()
	}
	v := p.checker.check(&p.request, p.request.read())
	p.decisions[v.outcome].Inc()
	if v.displaced {
		p.evicted.Inc()
	}
	if c.charge = v.decided && p.checker.costField != ""; c.charge {
		c.record = append(c.record[:0], p.checker.last...)
	}
	switch {
	case v.refuse:
		c.charge = false
		hostcall.SetProperty(verdictProperty, refusedVerdict)
		p.refuse(v)
		return types.ActionPause
	case v.outcome == reported:
		hostcall.SetProperty(verdictProperty, reportedVerdict)
	case v.decided && !p.checker.report:
		c.announce = true
		d := &c.decision // what appendLimitField takes; all of it would be copied by a call
		d.remaining, d.full, d.retry = v.remaining, v.full, v.retry
	}
	if v.delay > 0 && p.resumeAfter(v.delay) {
		hostcall.SetProperty(verdictProperty, "delayed")
		return types.ActionPause
	}
	return types.ActionContinue
}

// resumeAfter has the request go on after so many nanoseconds.
func (p *plugin) resumeAfter(ns int64) bool {
	p.scratch = abi.AppendResumeAfter(p.scratch[:0], abi.StreamRequest, uint32((ns+1e6-1)/1e6))
	if hostcall.Foreign(abi.ForeignResumeAfter, p.scratch) == hostcall.OK {
		return true
	}
	proxywasm.LogError("ratelimit: the host cannot delay a request: it goes on at once")
	return false
}

// refuse answers the request. It is what a flood is met with: it allocates nothing, and says again what it
// has said of the request before if the numbers are the same.
func (p *plugin) refuse(v *verdict) {
	retry, full := max(1, seconds(v.retry)), seconds(max(v.full, v.retry))
	if last := &p.refused; last.outcome != v.outcome || last.decided != v.decided || last.remaining != v.remaining || last.retry != retry || last.full != full {
		last.outcome, last.decided, last.remaining, last.retry, last.full = v.outcome, v.decided, v.remaining, retry, full
		p.encodeRefusal(v)
	}
	hostcall.Reply(p.checker.status, detailsOf(v.outcome), p.checker.body, p.encoded)
}

// A refusal is what the fields of one are made of. That of nobody has no retry.
type refusal struct {
	outcome   outcome
	decided   bool
	remaining int64
	retry     int64 // seconds, as full
	full      int64
}

// encodeRefusal makes the fields of a refusal.
func (p *plugin) encodeRefusal(v *verdict) {
	p.scratch = appendRetryAfter(p.scratch[:0], &v.decision)
	n := len(p.scratch)
	p.scratch = appendLimitField(p.scratch, &v.decision)
	fields := [...]abi.Pair{
		{Name: "content-type", Value: refusalType},
		{Name: retryAfterName, Value: text(p.scratch[:n])},
		{Name: policyName, Value: p.checker.policyField},
		{Name: limitName, Value: text(p.scratch[n:])},
	}
	send := fields[:]
	switch {
	case v.outcome == keyless:
		send = fields[:1] // waiting does not help
	case v.outcome == crowded, !v.decided:
		send = fields[:2]
	}
	p.encoded = abi.AppendPairs(p.encoded[:0], send)
}

// text returns bytes as a string without a copy; they must not change while it is used.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// OnHttpResponseHeaders announces the limit on answers to requests that it let through;
// refusals have the fields already. It is the last callback that uses the context. (An
// exchange that ends without an answer leaves its context to the collector.)
func (c *httpContext) OnHttpResponseHeaders(int, bool) types.Action {
	p := c.plugin
	if c.charge {
		c.charge = false
		cost, _ := hostcall.ResponseHeader(p.number[:], p.checker.costField)
		c.decision = p.checker.charge(c.record, parseCost(cost))
		if c.decision.displaced {
			p.evicted.Inc()
		}
	}
	if c.announce {
		c.announce = false
		p.scratch = appendLimitField(p.scratch[:0], &c.decision)
		// Added, not set: another limit on the way may have put its own, and the
		// fields are lists.
		add(policyName, p.checker.policyField)
		add(limitName, text(p.scratch))
	}
	if c.inUse && len(p.free) < maxFree {
		c.inUse = false
		p.free = append(p.free, c)
	}
	return types.ActionContinue
}

// add adds a response field; the value is copied by the host.
func add(name, value string) {
	if hostcall.AddResponseHeader(name, value) != hostcall.OK {
		proxywasm.LogError("ratelimit: the host refuses to add " + name)
	}
}

// currentRequest reads the request of the current callback.
type currentRequest struct {
	values hostcall.Values // the route's name and the client's address, if they are used, and headers
	route  bool            // the first is the route
	at     int             // the number of the address; -1: it is not looked at
	names  []string        // of headers
	first  int             // the number of the first of them
	client ipaddr.Addr
	known  bool     // client has been looked up
	asText bool     // the host has it as text only
	text   [64]byte // room for it as text; the longest has 53 bytes
}

// valuesRoom is room for what a request is read for, as a rule.
const valuesRoom = 256

// newCurrentRequest returns a request that is read for what the settings look at.
func newCurrentRequest(c *config) currentRequest {
	r := currentRequest{route: !c.scopePlugin, at: -1}
	var asked []abi.ReadValue
	if r.route {
		asked = append(asked, abi.ReadValue{Kind: abi.ReadProperty, Name: routeProperty})
	}
	if c.looksAtClient() {
		r.at = len(asked)
		asked = append(asked, abi.ReadValue{Kind: abi.ReadProperty, Name: abi.PropertyClientAddress})
	}
	r.first = len(asked)
	for _, name := range c.headers() {
		if len(asked) < abi.MaxReadValues && len(name) <= 64 {
			r.names = append(r.names, name)
			asked = append(asked, abi.ReadValue{Kind: abi.MapRequestHeaders, Name: name})
		}
	}
	r.values = hostcall.NewValues(valuesRoom, asked...)
	return r
}

// read reads it, and returns the name of the route.
func (r *currentRequest) read() string {
	r.known = false
	r.values.Read()
	if !r.route {
		return ""
	}
	name, _ := r.values.Get(0)
	return text(name)
}

func (r *currentRequest) Header(name string) (string, bool) {
	for i := range r.names {
		if r.names[i] == name {
			v, ok := r.values.Get(r.first + i)
			return text(v), ok
		}
	}
	return hostcall.RequestHeader(name)
}

func (r *currentRequest) Client() (ipaddr.Addr, bool) {
	if !r.known {
		r.known = true
		r.client = ipaddr.Addr{}
		if !r.asText && r.at >= 0 {
			if b, ok := r.values.Get(r.at); ok {
				r.client, _ = ipaddr.FromBytes(b)
				return r.client, r.client.IsValid()
			}
			r.asText = true
		}
		if b, ok := hostcall.Property(r.text[:], clientProperty); ok {
			r.client, _ = clientAddr(text(b))
		}
	}
	return r.client, r.client.IsValid()
}

// sharedData is the host's store.
type sharedData struct {
	page [pageBuckets * bucketSize]byte // room for a value; the next one overwrites it
}

func (s *sharedData) Get(key []byte) ([]byte, uint32, bool) {
	v, cas, status := hostcall.SharedData(s.page[:], key)
	return v, cas, status == hostcall.OK
}

func (*sharedData) Set(key, value []byte, cas uint32) bool {
	return hostcall.SetSharedData(key, value, cas) == hostcall.OK
}
