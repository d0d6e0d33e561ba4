package wasmfilter_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

var errTrap = errors.New("fake trap")

// A script is a guest written in Go: one function per callback, nil for those
// that it does not export. c is the stream; what it calls on c.Stream is a host call.
type script struct {
	onReqHeaders   func(c *call, n int, end bool) abi.Action
	onReqBody      func(c *call, n int, end bool) abi.Action
	onReqTrailers  func(c *call, n int) abi.Action
	onRespHeaders  func(c *call, n int, end bool) abi.Action
	onRespBody     func(c *call, n int, end bool) abi.Action
	onRespTrailers func(c *call, n int) abi.Action
	onForeign      func(c *call, id uint32, args []byte)
	onLog          func(c *call)
	putOff         bool // on_done returns false
}

// plugin runs a script behind the lock of one VM.
type plugin struct {
	*wasmfilter.Factory
	script script

	vm    sync.Mutex // the VM lock
	calls []string   // callbacks made
	open  []*call    // streams
	late  host.Stream

	warnings []string // what the host would log; looked at when the exchange is over
}

// call is one stream of a plugin.
type call struct {
	host.Stream
	p    *plugin
	trap bool // set by a script: the callback ends in a trap
	dead bool
}

type fakeOptions struct {
	wasmfilter.Options
	hold bool
}

func newPlugin(name string, s script, o fakeOptions) *plugin {
	p := &plugin{script: s}
	calls := host.Callbacks{
		RequestHeaders: s.onReqHeaders != nil, RequestBody: s.onReqBody != nil, RequestTrailers: s.onReqTrailers != nil,
		ResponseHeaders: s.onRespHeaders != nil, ResponseBody: s.onRespBody != nil, ResponseTrailers: s.onRespTrailers != nil,
		End: s.onLog != nil,
	}
	p.Factory = wasmfilter.NewFake(name, calls, o.hold, o.Options, p.warn, func(s host.Stream) (wasmfilter.Guest, error) {
		c := &call{Stream: s, p: p}
		p.vm.Lock()
		defer p.vm.Unlock()
		p.open = append(p.open, c)
		return c, nil
	})
	return p
}

func (p *plugin) warn(message string) {
	p.vm.Lock()
	p.warnings = append(p.warnings, message)
	p.vm.Unlock()
}

// run makes a callback under the VM's lock.
func (c *call) run(name string, f func() abi.Action) (abi.Action, error) {
	if f == nil {
		return abi.Continue, nil
	}
	c.p.vm.Lock()
	defer c.p.vm.Unlock()
	if c.dead {
		return 0, errTrap
	}
	c.p.calls = append(c.p.calls, name)
	act := f()
	if c.trap {
		c.dead = true
		return 0, errTrap
	}
	return act, nil
}

func headers(c *call, name string, f func(*call, int, bool) abi.Action, n int, end bool) (abi.Action, error) {
	if f == nil {
		return abi.Continue, nil
	}
	return c.run(name, func() abi.Action { return f(c, n, end) })
}

func (c *call) RequestHeaders(n int, end bool) (abi.Action, error) {
	return headers(c, "request_headers", c.p.script.onReqHeaders, n, end)
}

func (c *call) RequestBody(n int, end bool) (abi.Action, error) {
	return headers(c, "request_body", c.p.script.onReqBody, n, end)
}

func (c *call) RequestTrailers(n int) (abi.Action, error) {
	if c.p.script.onReqTrailers == nil {
		return abi.Continue, nil
	}
	return c.run("request_trailers", func() abi.Action { return c.p.script.onReqTrailers(c, n) })
}

func (c *call) ResponseHeaders(n int, end bool) (abi.Action, error) {
	return headers(c, "response_headers", c.p.script.onRespHeaders, n, end)
}

func (c *call) ResponseBody(n int, end bool) (abi.Action, error) {
	return headers(c, "response_body", c.p.script.onRespBody, n, end)
}

func (c *call) ResponseTrailers(n int) (abi.Action, error) {
	if c.p.script.onRespTrailers == nil {
		return abi.Continue, nil
	}
	return c.run("response_trailers", func() abi.Action { return c.p.script.onRespTrailers(c, n) })
}

func (c *call) ForeignFunction(id uint32, args []byte) error {
	if c.p.script.onForeign == nil {
		return nil
	}
	_, err := c.run("foreign_function", func() abi.Action {
		c.p.script.onForeign(c, id, args)
		return abi.Continue
	})
	return err
}

func (c *call) Finish(keep func() host.Stream) error {
	c.p.vm.Lock()
	defer c.p.vm.Unlock()
	if c.p.script.onLog != nil && !c.dead {
		c.p.script.onLog(c)
	}
	if c.p.script.putOff {
		c.p.late = keep()
	}
	c.p.calls = append(c.p.calls, "log")
	c.p.open = slices.DeleteFunc(c.p.open, func(o *call) bool { return o == c })
	return nil
}

func (c *call) GuestCost() (time.Duration, int64) { return time.Microsecond, 6000 }

// tick runs f for each open stream, as on_tick with an effective context does.
func (p *plugin) tick(f func(c *call)) {
	p.vm.Lock()
	for _, c := range p.open {
		f(c)
	}
	p.vm.Unlock()
	synctest.Wait()
}

// log returns the callbacks made so far.
func (p *plugin) log() string {
	p.vm.Lock()
	defer p.vm.Unlock()
	return strings.Join(p.calls, " ")
}

// open begins an exchange through ps, with a route timeout of a minute.
func open(t *testing.T, req plugintest.Request, ps ...*plugin) *plugintest.Stream {
	t.Helper()
	factories := make([]filter.Factory, len(ps))
	for i, p := range ps {
		factories[i] = p
	}
	return plugintest.OpenFilters(t, factories, &filter.Route{Name: "r"}, time.Minute, req)
}

func body(c *call, kind abi.BufferType) string {
	b := c.Buffer(kind)
	if b == nil {
		return "<none>"
	}
	return string(b.Append(nil)) // ticks look at it too
}

func pause(*call, int, bool) abi.Action      { return abi.Pause }
func cont(*call, int, bool) abi.Action       { return abi.Continue }
func contTrailers(*call, int) abi.Action     { return abi.Continue }
func resume(side abi.StreamType) func(*call) { return func(c *call) { c.Resume(side) } }
