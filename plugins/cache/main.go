//go:build wasip1

package main

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"wproxy/abi"
	"wproxy/plugins/internal/hostcall"
	"wproxy/plugins/internal/ipaddr"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

const (
	routeProperty = "route_name"
	logProperty   = "wproxy\x00log\x00cache"
)

func main() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

// plugin is the context of one set of settings.
type plugin struct {
	types.DefaultPluginContext
	config  *config
	counted map[string]*counters // by route

	lastRoute string // that was counted last
	last      *counters
}

// counters are what a route counts, by result.
type counters struct{ requests, refreshes [results]hostcall.Counter }

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	var data []byte
	if size > 0 {
		var err error
		if data, err = proxywasm.GetPluginConfiguration(); err != nil {
			proxywasm.LogError("cache: cannot read the settings: " + err.Error())
			return types.OnPluginStartStatusFailed
		}
	}
	c, err := parseConfig(data)
	if err != nil {
		proxywasm.LogError("cache: " + err.Error())
		return types.OnPluginStartStatusFailed
	}
	// Outside of an exchange that is a bad argument, to a host that has objects.
	if s := hostcall.Foreign(abi.ForeignObjectLookup, nil); s != hostcall.BadArgument {
		why := "the host does not store objects"
		if s != hostcall.NotFound {
			why = `it takes "objects" in the plugin's grant`
		}
		proxywasm.LogError("cache: nothing can be cached here: " + why)
		return types.OnPluginStartStatusFailed
	}
	if o, ok := c.standing(); ok { // a host without calls for each request
		status := hostcall.Foreign(abi.ForeignObjectStanding, o.Append(nil))
		for n := 0; status == hostcall.BadArgument && lesser(&o, n); n++ {
			status = hostcall.Foreign(abi.ForeignObjectStanding, o.Append(nil))
		}
		c.repeats = status == hostcall.OK && len(o.Repeats) > 0
	}
	p.config, p.counted = c, map[string]*counters{}
	return types.OnPluginStartStatusOK
}

// count counts a result of a request, or of a refresh, on a route.
func (p *plugin) count(route string, refresh bool, r result) {
	c := p.last
	if c == nil || p.lastRoute != route {
		c = p.countersOf(strings.Clone(route))
	}
	if refresh {
		c.refreshes[r].Inc()
		return
	}
	c.requests[r].Inc()
}

// countersOf returns the counters of a route, which are the next ones to be used as well.
func (p *plugin) countersOf(route string) *counters {
	c := p.counted[route]
	if c == nil {
		c = &counters{}
		for i := range failed {
			c.requests[i] = hostcall.NewCounter("wproxy_cache_requests_total;route=" + route + ";result=" + i.String())
		}
		for _, i := range [...]result{bypass, revalidated, miss, failed} {
			c.refreshes[i] = hostcall.NewCounter("wproxy_cache_refreshes_total;route=" + route + ";result=" + i.String())
		}
		p.counted[route] = c
	}
	p.lastRoute, p.last = route, c
	return c
}

// contexts are those of exchanges, by the slots of their ids: with streams in slots, as the adapter
// has them from a host that knows of them, an exchange that begins is the only one in its slot.
var contexts []*httpContext

// slotted is the adapter's (see there).
//
//go:linkname slotted wproxy_adapter.slotted
var slotted bool

func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	if !slotted {
		c := &httpContext{}
		c.begin(p, id)
		return c
	}
	i := int(id & slots)
	if i >= len(contexts) {
		contexts = append(contexts, make([]*httpContext, i+1-len(contexts))...)
	}
	c := contexts[i]
	if c == nil {
		c = &httpContext{}
		contexts[i] = c
	}
	c.begin(p, id)
	return c
}

// begin makes c the context of an exchange.
func (c *httpContext) begin(p *plugin, id uint32) {
	if c.plugin != p {
		c.plugin, c.host, c.told, c.room = p, &wasmHost, c, &common
	}
	c.exchange.c = p.config
	c.id, c.cleaned, c.asked, c.awaits = id, false, false, false
}

// httpContext is the context of one exchange.
type httpContext struct {
	types.DefaultHttpContext
	plugin   *plugin
	id       uint32
	cleaned  bool // tell was called
	asked    bool // the request was shown, or was taken up
	awaits   bool // there is more to do than what was done for the request
	exchange      // the last in its slot, unless awaits
}

// Memory that every callback uses anew: nothing of it outlives one.
var (
	pairBytes  = make([]byte, 0, 8<<10)
	pairs      = make([]abi.Pair, 0, 64)
	argument   = make([]byte, 0, 4<<10)
	answer     = make([]byte, 0, 4<<10)
	shortValue [64]byte
	routeValue [64]byte
	urlBytes   = make([]byte, 0, 1<<10)
	response   head
	common     = room{pairs: make([]abi.Pair, 0, 64)}
)

// readHead reads a header map into h; its strings are valid until the next one is read.
func readHead(h *head, kind abi.MapType) {
	h.pairs, h.names, h.code, h.encoded = nil, 0, 0, ""
	b, ok := hostcall.Pairs(pairBytes[:0:cap(pairBytes)], uint32(kind))
	if !ok {
		return
	}
	if cap(b) > cap(pairBytes) && cap(b) <= 64<<10 {
		pairBytes = b[:0]
	}
	list, err := abi.ParsePairs(pairs[:0], text(b))
	if err != nil {
		return
	}
	pairs = list[:0]
	h.pairs, h.encoded = list, text(b)
	h.noteNames()
}

func (c *httpContext) OnHttpRequestHeaders(_ int, end bool) types.Action {
	c.asked = true
	x := &c.exchange
	r := &x.request
	x.reset()
	readHead(r, abi.MapRequestHeaders)
	urlBytes = append(append(urlBytes[:0], r.get(":scheme")...), "://"...)
	urlBytes = append(append(urlBytes, r.get(":authority")...), r.get(":path")...)
	x.url = text(urlBytes)
	urlBytes = keep(urlBytes)
	name, _ := hostcall.Property(routeValue[:], routeProperty)
	x.route = text(name)
	_, x.refresh = hostcall.Property(shortValue[:], abi.PropertyRefresh)
	if x.c.purges() && r.get(":method") == "PURGE" {
		if b, ok := hostcall.Property(shortValue[:], abi.PropertyClientAddress); ok {
			a, _ := ipaddr.FromBytes(b)
			x.client = x.c.mayPurge(a)
		}
	}
	goesOn := x.onRequest(end)
	c.rest()
	if goesOn {
		return types.ActionContinue
	}
	if c.joined {
		c.wait()
	}
	return types.ActionPause
}

// rest is at the end of a callback.
func (c *httpContext) rest() {
	c.awaits = c.mode != modeNone || c.joined // it has made its strings its own
	if c.request.encoded != "" {
		c.request.pairs = nil // they are borrowed
	}
	if !c.awaits {
		c.release()
	}
}

// tell counts and logs what became of the request, once.
func (c *httpContext) tell(r result) {
	if c.cleaned {
		return
	}
	c.cleaned = true
	c.plugin.count(c.route, c.refresh, r)
	if c.refresh { // no client has asked: there is no line in the access log
		proxywasm.LogDebug("cache: route " + c.route + ": refreshed " + c.url + ": " + r.String())
		return
	}
	hostcall.SetProperty(logProperty, r.String())
}

// passed makes the exchange of a request that the host has let go by, because of a pass or as nothing
// was there, to an answer that it has to show.
func (c *httpContext) passed() {
	c.asked = true
	b, ok := hostcall.Property(answer[:0:cap(answer)], abi.PropertyPassed)
	if !ok {
		return
	}
	c.reset()
	c.held = append(c.held, b...)
	at, key, note, err := abi.ParsePassed(text(c.held))
	if err != nil {
		return
	}
	readHead(&c.request, abi.MapRequestHeaders)
	c.goneBy(key, bytesOf(note), at)
	c.rest()
}

func (c *httpContext) OnHttpResponseHeaders(int, bool) types.Action {
	if !c.asked {
		c.passed()
	}
	if !c.awaits || c.mode == modeNone {
		return types.ActionContinue
	}
	readHead(&response, abi.MapResponseHeaders)
	if c.mode == modeInvalidate { // an unsafe request
		c.endUnsafe(&response)
		c.rest()
		return types.ActionContinue
	}
	goesOn := c.onFetched(&response)
	c.rest()
	if goesOn {
		return types.ActionContinue
	}
	return types.ActionPause
}

// waiting are the exchanges that wait for others, by the slots of their ids: one that
// is not told of the end, as its client has left, makes room for the next in its slot.
var waiting []*httpContext

const slots = 1<<abi.StreamSlotBits - 1

// wait notes that c waits.
func (c *httpContext) wait() {
	i := int(c.id & slots)
	if i >= len(waiting) {
		waiting = append(waiting, make([]*httpContext, i+1-len(waiting))...)
	}
	waiting[i] = c
}

//go:wasmexport proxy_on_foreign_function
func onForeignFunction(id, function, size uint32) {
	i := int(id & slots)
	if function != abi.ObjectJoined || size != 4 || i >= len(waiting) || waiting[i] == nil || waiting[i].id != id {
		return
	}
	c := waiting[i]
	b, ok := hostcall.CallData(shortValue[:], 4)
	if !ok || len(b) != 4 {
		return
	}
	outcome := binary.LittleEndian.Uint32(b)
	waiting[i] = nil
	if !c.joined {
		return // another exchange has taken the place of the one that has waited
	}
	c.onJoined(outcome)
	c.rest()
	if c.joined {
		c.wait()
	}
}

// hostBackend is the host. Its receivers are pointers, as the adapter's are.
type hostBackend struct{}

var wasmHost hostBackend

func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// serve is what a hit needs: it goes without the closure that call takes.
func (*hostBackend) serve(s *abi.ObjectServe) bool {
	args := s.Append(argument[:0])
	if cap(args) <= 64<<10 {
		argument = args[:0]
	}
	return hostcall.Foreign(abi.ForeignObjectServe, args) == hostcall.OK
}

func (*hostBackend) lookup(key string) (abi.ObjectInfo, bool) {
	b, s := hostcall.ForeignResult(answer[:0:cap(answer)], abi.ForeignObjectLookup, bytesOf(key))
	if s != hostcall.OK {
		return abi.ObjectInfo{}, false
	}
	info, err := abi.ParseObjectInfo(b)
	return info, err == nil
}

// call calls a function whose argument f appends.
func call(name string, f func([]byte) []byte) bool {
	args := f(argument[:0])
	if cap(args) <= 64<<10 {
		argument = args[:0]
	}
	return hostcall.Foreign(name, args) == hostcall.OK
}

func (*hostBackend) store(s *abi.ObjectStore) bool {
	args := s.Append(argument[:0])
	if cap(args) <= 64<<10 {
		argument = args[:0]
	}
	return hostcall.Foreign(abi.ForeignObjectStore, args) == hostcall.OK
}

func (*hostBackend) update(u *abi.ObjectUpdate) bool { return call(abi.ForeignObjectUpdate, u.Append) }

func (*hostBackend) remove(how abi.ObjectDelete, what string) {
	hostcall.Foreign(abi.ForeignObjectDelete, add(append(argument[:0], byte(how), 0, 0, 0), what))
}

func (*hostBackend) join(key string) (leads, ok bool) {
	args := add(add(argument[:0], "\x00\x00\x00\x00"), key)
	ok = hostcall.Foreign(abi.ForeignObjectJoin, args) == hostcall.OK
	return binary.LittleEndian.Uint32(args) == abi.ObjectLeads, ok
}

func (*hostBackend) refresh() { hostcall.Foreign(abi.ForeignRefresh, nil) }

func (*hostBackend) now() int64 { return hostcall.Now() / 1e9 }

func (h *hostBackend) edit(kind abi.MapType, edits ...abi.FieldEdit) {
	args := abi.AppendFieldEdits(argument[:0], kind, edits)
	if cap(args) <= 64<<10 {
		argument = args[:0]
	}
	h.editAs(args)
}

func (*hostBackend) editAs(args []byte) {
	if hostcall.Foreign(abi.ForeignEditFields, args) != hostcall.OK {
		proxywasm.LogError("cache: the host refuses to change a header")
	}
}

var noFields = []byte{0, 0, 0, 0}

func (*hostBackend) reply(status uint32, details, body string) {
	hostcall.Reply(status, details, body, noFields)
}

func (*hostBackend) resume() { hostcall.ContinueRequest() }
