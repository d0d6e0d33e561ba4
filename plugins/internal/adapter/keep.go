//go:build wasip1

package adapter

import _ "unsafe" // for go:linkname

// sdkHost has the method names and parameters of the SDK's internal interface
// ProxyWasmHost. An interface's method table is ordered by name, so a value of this
// type has the layout of a value of that one. `plugin build` compares the SDK's
// declaration with this one before it builds.
type sdkHost interface {
	ProxyLog(uint32, *byte, int) uint32
	ProxySetProperty(*byte, int, *byte, int) uint32
	ProxyGetProperty(*byte, int, **byte, *int) uint32
	ProxySendLocalResponse(uint32, *byte, int, *byte, int, *byte, int, int32) uint32
	ProxyGetSharedData(*byte, int, **byte, *int, *uint32) uint32
	ProxySetSharedData(*byte, int, *byte, int, uint32) uint32
	ProxyRegisterSharedQueue(*byte, int, *uint32) uint32
	ProxyResolveSharedQueue(*byte, int, *byte, int, *uint32) uint32
	ProxyDequeueSharedQueue(uint32, **byte, *int) uint32
	ProxyEnqueueSharedQueue(uint32, *byte, int) uint32
	ProxyGetHeaderMapValue(uint32, *byte, int, **byte, *int) uint32
	ProxyAddHeaderMapValue(uint32, *byte, int, *byte, int) uint32
	ProxyReplaceHeaderMapValue(uint32, *byte, int, *byte, int) uint32
	ProxyContinueStream(uint32) uint32
	ProxyCloseStream(uint32) uint32
	ProxyRemoveHeaderMapValue(uint32, *byte, int) uint32
	ProxyGetHeaderMapPairs(uint32, **byte, *int) uint32
	ProxySetHeaderMapPairs(uint32, *byte, int) uint32
	ProxyGetBufferBytes(uint32, int, int, **byte, *int) uint32
	ProxySetBufferBytes(uint32, int, int, *byte, int) uint32
	ProxyHttpCall(*byte, int, *byte, int, *byte, int, *byte, int, uint32, *uint32) uint32
	ProxyCallForeignFunction(*byte, int, *byte, int, **byte, *int) uint32
	ProxySetTickPeriodMilliseconds(uint32) uint32
	ProxySetEffectiveContext(uint32) uint32
	ProxyDone() uint32
	ProxyDefineMetric(uint32, *byte, int, *uint32) uint32
	ProxyIncrementMetric(uint32, int64) uint32
	ProxyRecordMetric(uint32, uint64) uint32
	ProxyGetMetric(uint32, *uint64) uint32
}

//go:linkname registerHost github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.RegisterMockWasmHost
func registerHost(sdkHost) (release func())

//go:linkname pluginMain main.main
func pluginMain()

// started reports whether the plugin's main has been run.
var started bool

// init gives the SDK its host before the plugin's own package variables and init
// functions run: they may log, or call SetVMContext. The SDK's mutex stays
// taken on purpose: this host is the only one.
func init() {
	registerHost(&guestHost{})
	if never {
		keep(&guestHost{})
	}
}

// start runs the plugin's main, once: a c-shared module runs init functions only, and
// plugins call SetVMContext in main. (In init is just as well: main is then
// mostly empty.) It is called by the export `main`, for hosts that call it, and by the
// first callbacks for those that do not.
func start() {
	if started {
		return
	}
	started = true
	pluginMain()
}

// never is false, which the compiler must not know: it is a variable.
var never bool

// keep calls every method through the interface. It is never executed. The linker
// drops methods that no interface call in sight can reach, and it does not see
// that the SDK's calls, through its own interface type, reach these.
func keep(h sdkHost) {
	h.ProxyLog(0, nil, 0)
	h.ProxySetProperty(nil, 0, nil, 0)
	h.ProxyGetProperty(nil, 0, nil, nil)
	h.ProxySendLocalResponse(0, nil, 0, nil, 0, nil, 0, 0)
	h.ProxyGetSharedData(nil, 0, nil, nil, nil)
	h.ProxySetSharedData(nil, 0, nil, 0, 0)
	h.ProxyRegisterSharedQueue(nil, 0, nil)
	h.ProxyResolveSharedQueue(nil, 0, nil, 0, nil)
	h.ProxyDequeueSharedQueue(0, nil, nil)
	h.ProxyEnqueueSharedQueue(0, nil, 0)
	h.ProxyGetHeaderMapValue(0, nil, 0, nil, nil)
	h.ProxyAddHeaderMapValue(0, nil, 0, nil, 0)
	h.ProxyReplaceHeaderMapValue(0, nil, 0, nil, 0)
	h.ProxyContinueStream(0)
	h.ProxyCloseStream(0)
	h.ProxyRemoveHeaderMapValue(0, nil, 0)
	h.ProxyGetHeaderMapPairs(0, nil, nil)
	h.ProxySetHeaderMapPairs(0, nil, 0)
	h.ProxyGetBufferBytes(0, 0, 0, nil, nil)
	h.ProxySetBufferBytes(0, 0, 0, nil, 0)
	h.ProxyHttpCall(nil, 0, nil, 0, nil, 0, nil, 0, 0, nil)
	h.ProxyCallForeignFunction(nil, 0, nil, 0, nil, nil)
	h.ProxySetTickPeriodMilliseconds(0)
	h.ProxySetEffectiveContext(0)
	h.ProxyDone()
	h.ProxyDefineMetric(0, nil, 0, nil)
	h.ProxyIncrementMetric(0, 0)
	h.ProxyRecordMetric(0, 0)
	h.ProxyGetMetric(0, nil)
}
