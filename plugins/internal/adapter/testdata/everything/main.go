// Everything is a plugin for the adapter's tests: it calls every host function of the SDK,
// and knows nothing of the adapter. It calls SetVMContext in main.
package main

import (
	"strconv"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {
	proxywasm.LogInfo("main runs")
	proxywasm.SetVMContext(&vm{})
}

type vm struct{ types.DefaultVMContext }

func (*vm) OnVMStart(size int) types.OnVMStartStatus {
	c, err := proxywasm.GetVMConfiguration()
	proxywasm.LogInfof("vm %d %q %v", size, c, err)
	return types.OnVMStartStatusOK
}

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{kept: map[string]string{}} }

type plugin struct {
	types.DefaultPluginContext
	counter proxywasm.MetricCounter
	gauge   proxywasm.MetricGauge
	histo   proxywasm.MetricHistogram
	queue   uint32
	ticks   int
	kept    map[string]string // values of the host's, kept for ever
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	c, err := proxywasm.GetPluginConfiguration()
	proxywasm.LogInfof("plugin %q %v", c, err)
	p.counter = proxywasm.DefineCounterMetric("counter")
	p.gauge = proxywasm.DefineGaugeMetric("gauge")
	p.histo = proxywasm.DefineHistogramMetric("histogram")
	p.queue, err = proxywasm.RegisterSharedQueue("queue")
	proxywasm.LogInfof("queue %v", err)
	if err := proxywasm.SetTickPeriodMilliSeconds(100); err != nil {
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	p.ticks++
	if p.ticks == 1 {
		proxywasm.LogInfo("tick")
	}
}

func (p *plugin) OnQueueReady(id uint32) {
	b, err := proxywasm.DequeueSharedQueue(id)
	proxywasm.LogInfof("dequeued %q %v", b, err)
}

func (p *plugin) OnPluginDone() bool {
	proxywasm.LogInfo("plugin done")
	return true
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{plugin: p, id: id} }

type stream struct {
	types.DefaultHttpContext
	plugin *plugin
	id     uint32
}

func (s *stream) OnHttpRequestHeaders(n int, end bool) types.Action {
	p := s.plugin
	if v, err := proxywasm.GetHttpRequestHeader("x-keep"); err == nil {
		p.kept[v] = v + "!" // the key is the host's memory, not copied
		for k, w := range p.kept {
			if k+"!" != w {
				proxywasm.LogCriticalf("a kept value has changed: %q, %q", k, w)
			}
		}
		return types.ActionContinue
	}
	if v, err := proxywasm.GetHttpRequestHeader("x-reply"); err == nil {
		proxywasm.SendHttpResponse(418, [][2]string{{"x-a", "b"}}, []byte(v), -1)
		return types.ActionPause
	}
	hs, err := proxywasm.GetHttpRequestHeaders()
	proxywasm.LogInfof("headers %t %v", len(hs) == n, err)
	_, err = proxywasm.GetHttpRequestHeader("missing")
	proxywasm.LogInfof("missing: %v", err)
	proxywasm.AddHttpRequestHeader("x-added", "1")
	proxywasm.ReplaceHttpRequestHeader("x-replaced", "new")
	proxywasm.RemoveHttpRequestHeader("x-removed")
	proxywasm.RemoveHttpRequestHeader("content-length")

	proxywasm.SetSharedData("k", []byte("one"), 0)
	b, cas, err := proxywasm.GetSharedData("k")
	proxywasm.LogInfof("shared %q %t %v", b, cas != 0, err)
	proxywasm.LogInfof("cas: %v", proxywasm.SetSharedData("k", []byte("two"), cas+1))
	_, _, err = proxywasm.GetSharedData("none")
	proxywasm.LogInfof("no shared: %v", err)

	b, err = proxywasm.GetProperty([]string{"request", "method"})
	proxywasm.LogInfof("property %q %v", b, err)
	proxywasm.SetProperty([]string{"own"}, []byte("value"))
	b, err = proxywasm.GetProperty([]string{"own"})
	proxywasm.LogInfof("own property %q %v", b, err)

	p.counter.Increment(3)
	p.gauge.Add(-5)
	p.histo.Record(7)
	proxywasm.LogInfof("metrics %d %d", p.counter.Value(), p.gauge.Value())

	q, err := proxywasm.ResolveSharedQueue("", "queue")
	proxywasm.LogInfof("resolved %t %v", q == p.queue, err)
	proxywasm.EnqueueSharedQueue(q, []byte("item"))

	// No such upstream. That the SDK's function is named at all has the SDK keep the streams.
	proxywasm.DispatchHttpCall("none", nil, nil, nil, 1000, func(int, int, int) {})
	_, err = proxywasm.CallForeignFunction("none", []byte("x"))
	proxywasm.LogInfof("foreign: %v", err)
	proxywasm.LogInfof("effective context: %v", proxywasm.SetEffectiveContext(s.id))
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(size int, end bool) types.Action {
	if !end {
		return types.ActionPause
	}
	b, err := proxywasm.GetHttpRequestBody(0, size)
	proxywasm.LogInfof("body %q %v", b, err)
	proxywasm.ReplaceHttpRequestBody([]byte("replaced"))
	proxywasm.AppendHttpRequestBody([]byte(" end"))
	proxywasm.PrependHttpRequestBody([]byte("start "))
	return types.ActionContinue
}

func (s *stream) OnHttpRequestTrailers(n int) types.Action {
	v, err := proxywasm.GetHttpRequestTrailer("t")
	proxywasm.LogInfof("trailers %d %q %v", n, v, err)
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(n int, end bool) types.Action {
	hs, err := proxywasm.GetHttpResponseHeaders()
	if err == nil {
		proxywasm.ReplaceHttpResponseHeaders(append(hs, [2]string{"x-count", strconv.Itoa(n)}))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpStreamDone() { proxywasm.LogInfo("stream done") }
