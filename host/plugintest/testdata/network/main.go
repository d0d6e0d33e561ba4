// Network is a plugin of kind "tcp" for plugintest's tests: it uses everything that the Go SDK
// has for connections, as that SDK's own example does.
package main

import (
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

func main() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	counter proxywasm.MetricCounter
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	p.counter = proxywasm.DefineCounterMetric("connections")
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewTcpContext(uint32) types.TcpContext { return &connection{plugin: p} } //nolint:revive // the SDK's name

type connection struct {
	types.DefaultTcpContext
	plugin *plugin
}

func (c *connection) OnNewConnection() types.Action {
	proxywasm.LogInfo("new connection")
	return types.ActionContinue
}

// A line is passed on when it is whole; "secret" in it is covered up, "close" closes.
func (c *connection) OnDownstreamData(size int, end bool) types.Action {
	data, err := proxywasm.GetDownstreamData(0, size)
	if err != nil && size > 0 {
		proxywasm.LogCriticalf("downstream data: %v", err)
		return types.ActionContinue
	}
	text := string(data)
	switch {
	case !end && (size == 0 || text[size-1] != '\n'):
		return types.ActionPause
	case text == "close\n":
		if err := proxywasm.CloseDownstream(); err != nil {
			proxywasm.LogCriticalf("close: %v", err)
		}
		return types.ActionPause
	case text == "secret\n":
		if err := proxywasm.ReplaceDownstreamData([]byte("******\n")); err != nil {
			proxywasm.LogCriticalf("replace: %v", err)
		}
	}
	return types.ActionContinue
}

func (c *connection) OnUpstreamData(size int, end bool) types.Action {
	address, err := proxywasm.GetProperty([]string{"upstream", "address"})
	if err != nil {
		proxywasm.LogCriticalf("upstream.address: %v", err)
	}
	if end {
		return types.ActionContinue
	}
	data, err := proxywasm.GetUpstreamData(0, size)
	proxywasm.LogInfof("%s: %q %v", address, data, err)
	if err := proxywasm.PrependUpstreamData([]byte("> ")); err != nil {
		proxywasm.LogCriticalf("prepend: %v", err)
	}
	return types.ActionContinue
}

func (c *connection) OnDownstreamClose(by types.PeerType) {
	proxywasm.LogInfof("downstream closed by %d", by)
}

func (c *connection) OnUpstreamClose(by types.PeerType) {
	proxywasm.LogInfof("upstream closed by %d", by)
}

func (c *connection) OnStreamDone() {
	c.plugin.counter.Increment(1)
	proxywasm.LogInfo("done")
}
