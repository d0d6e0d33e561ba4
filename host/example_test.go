package host_test

import (
	"context"
	"fmt"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A plugin adds a header to a request.
func Example() {
	m := wasmtest.NewGuest() // stands for os.ReadFile("plugin.wasm")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	m.Headers("request", wasmtest.Call(add, wasmtest.I32(0), m.Str("X-Seen"), m.Str("yes")), wasmtest.Drop(), wasmtest.I32(0))

	h, err := host.NewHost(host.HostOptions{Log: func(e host.LogEntry) { fmt.Println(e.Message) }})
	if err != nil {
		panic(err)
	}
	defer h.Close()
	plugin, err := h.Load(context.Background(), m.Bytes(), host.PluginOptions{Name: "seen"})
	if err != nil {
		panic(err)
	}
	root, err := plugin.NewRoot(context.Background(), []byte(`{"setting": 1}`))
	if err != nil {
		panic(err)
	}

	stream := newStream() // one exchange
	var c host.Context
	if err := root.Open(&c, stream); err != nil {
		panic(err)
	}
	action, err := c.RequestHeaders(stream.Map(abi.MapRequestHeaders).Len(), true)
	value, _ := stream.Map(abi.MapRequestHeaders).Get("x-seen")
	fmt.Println(action, err, value)
	_ = c.Finish(nil)

	root.Close()   // the guest is told
	plugin.Close() // and freed
	// Output: Continue <nil> yes
}
