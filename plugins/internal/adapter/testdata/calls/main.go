// Command calls is a plugin that asks upstreams: several about each request, which
// waits for all of them, and one at every tick.
package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

func main() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	polls int
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{} }

func head(path string) [][2]string {
	return [][2]string{{":method", "POST"}, {":path", path}, {":authority", "auth.test"}, {"x-token", "t"}}
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	_, err := proxywasm.DispatchHttpCall("nowhere", head("/"), nil, nil, 100, p.polled)
	proxywasm.LogInfof("nowhere: %t", errors.Is(err, types.ErrorStatusBadArgument))
	_, err = proxywasm.DispatchHttpCall("auth", head("/")[1:], nil, nil, 100, p.polled)
	proxywasm.LogInfof("no method: %t", errors.Is(err, types.ErrorStatusBadArgument))
	_, err = proxywasm.DispatchHttpCall("auth", head("/"), make([]byte, 2<<20), nil, 100, p.polled)
	proxywasm.LogInfof("too large: %t", errors.Is(err, types.ErrorInternalFailure))
	if err := proxywasm.SetTickPeriodMilliSeconds(1000); err != nil {
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	if _, err := proxywasm.DispatchHttpCall("poll", head("/poll"), nil, nil, 100, p.polled); err != nil {
		panic(err)
	}
}

func (p *plugin) polled(headers, size, _ int) {
	p.polls++
	h, err := proxywasm.GetHttpCallResponseHeaders()
	status := "none"
	if err == nil {
		status = h[0][1]
	}
	proxywasm.LogInfof("poll %d: %d headers, status %s, %d bytes", p.polls, headers, status, size)
}

type stream struct {
	types.DefaultHttpContext
	open int
	said string
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	for i := range 3 {
		_, err := proxywasm.DispatchHttpCall("auth", head("/check/"+strconv.Itoa(i)), []byte("who?"),
			[][2]string{{"x-sum", "1"}}, 5000, func(_, size, trailers int) { s.answered(i, size, trailers) })
		if err != nil {
			panic(err)
		}
		s.open++
	}
	return types.ActionPause
}

func (s *stream) answered(i, size, trailers int) {
	s.open--
	body, err := proxywasm.GetHttpCallResponseBody(0, size)
	if err != nil {
		body = []byte(err.Error())
	}
	sum := ""
	if trailers > 0 {
		t, err := proxywasm.GetHttpCallResponseTrailers()
		if err != nil {
			panic(err)
		}
		sum = t[0][0] + "=" + t[0][1]
	}
	s.said += fmt.Sprintf("%d:%s:%s ", i, body, sum)
	if string(body) == "no" {
		if err := proxywasm.SendHttpResponse(403, nil, []byte(s.said), -1); err != nil {
			panic(err)
		}
		return
	}
	if s.open == 0 {
		if err := proxywasm.AddHttpRequestHeader("x-said", s.said); err != nil {
			panic(err)
		}
		if err := proxywasm.ResumeHttpRequest(); err != nil {
			panic(err)
		}
	}
}

func (s *stream) OnHttpStreamDone() { proxywasm.LogInfof("done with %d open", s.open) }
