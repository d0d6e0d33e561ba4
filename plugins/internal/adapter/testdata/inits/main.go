// Inits is a plugin for the adapter's tests that calls SetVMContext in init, and whose
// streams the adapter keeps: it has HTTP contexts only and makes no calls.
package main

import (
	"strconv"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

var ready = func() bool {
	proxywasm.LogInfo("package variables are initialised")
	return true
}()

func init() { proxywasm.SetVMContext(&vm{}) }

func main() {}

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct{ types.DefaultPluginContext }

func (*plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{id: id} }

// stream answers with the id it was made with, and notes in which order it was called.
type stream struct {
	types.DefaultHttpContext
	id    uint32
	calls string
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	s.calls += "h"
	proxywasm.AddHttpRequestHeader("x-id", strconv.Itoa(int(s.id)))
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(int, bool) types.Action {
	s.calls += "b"
	return types.ActionContinue
}

func (s *stream) OnHttpRequestTrailers(int) types.Action {
	s.calls += "t"
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(int, bool) types.Action {
	s.calls += "H"
	proxywasm.AddHttpResponseHeader("x-id", strconv.Itoa(int(s.id)))
	proxywasm.AddHttpResponseHeader("x-calls", s.calls)
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(int, bool) types.Action {
	s.calls += "B"
	return types.ActionContinue
}

func (s *stream) OnHttpResponseTrailers(int) types.Action {
	s.calls += "T"
	return types.ActionContinue
}

func (s *stream) OnHttpStreamDone() { proxywasm.LogInfo("done " + s.calls) }
