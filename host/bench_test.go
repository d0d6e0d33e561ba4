package host_test

import (
	"testing"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// benchGuest reads in on_request_headers, edits in on_request_body, and uses shared
// data and a metric in on_response_headers. Its allocator always hands out the same
// address.
func benchGuest() *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.Unexport("proxy_on_memory_allocate")
	m.Func("proxy_on_memory_allocate", "i>i", i32(wasmtest.PageSize))
	o := m.Slot(16)
	get := m.Env("proxy_get_header_map_value", "iiiii>i")
	set := m.Env("proxy_replace_header_map_value", "iiiii>i")
	prop := m.Env("proxy_get_property", "iiii>i")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	pairs := m.Env("proxy_get_header_map_pairs", "iii>i")
	sget := m.Env("proxy_get_shared_data", "iiiii>i")
	sset := m.Env("proxy_set_shared_data", "iiiii>i")
	define := m.Env("proxy_define_metric", "iiii>i")
	inc := m.Env("proxy_increment_metric", "iI>i")
	m.Func("proxy_on_configure", "ii>i", call(define, i32(0), m.Str("n"), i32(o)), drop(), i32(1))
	m.Headers("request",
		call(get, i32(0), m.Str("Accept"), i32(o), i32(o+4)), drop(),
		call(prop, m.Str("request\x00path"), i32(o), i32(o+4)), drop(),
		call(buffer, i32(0), i32(0), i32(99), i32(o), i32(o+4)), drop(),
		i32(0))
	m.Trailers("request", call(pairs, i32(0), i32(o), i32(o+4)), drop(), i32(0))
	m.Body("request", call(set, i32(0), m.Str("accept"), m.Str("b")), drop(), i32(0))
	m.Headers("response",
		call(sset, m.Str("key"), m.Str("0123456789abcdef"), i32(0)), drop(),
		call(sget, m.Str("key"), i32(o), i32(o+4), i32(o+8)), drop(),
		call(inc, i32(1), i64(1)), drop(),
		i32(0))
	m.Func("proxy_on_done", "i>i", i32(1))
	m.Func("proxy_on_log", "i")
	m.Func("proxy_on_delete", "i")
	return m
}

func BenchmarkCallback(b *testing.B) {
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(b.Context(), benchGuest().Bytes(), host.PluginOptions{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	root, err := p.NewRoot(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	var c host.Context
	st := newStream()
	if err := root.Open(&c, st); err != nil {
		b.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"three reads":              func() error { _, err := c.RequestHeaders(1, false); return err },
		"all headers":              func() error { _, err := c.RequestTrailers(1); return err },
		"one edit":                 func() error { _, err := c.RequestBody(1, false); return err },
		"shared data and a metric": func() error { _, err := c.ResponseHeaders(1, false); return err },
		"open, three reads, finish ": func() error {
			_ = c.Finish(nil)
			_ = root.Open(&c, st)
			_, err := c.RequestHeaders(1, false)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	_ = c.Finish(nil)
}
