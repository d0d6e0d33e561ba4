package main

import (
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"

	wt "wproxy/host/wasmtest"
)

// TestWasmLogBehind: a plugin behind the cache that is told of nothing but the end of an exchange has the status of a
// hit, whose head is the cache's own and has gone by then.
func TestWasmLogBehind(t *testing.T) {
	m := wt.NewGuest()
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	record := m.Env(abi.ImportRecordMetric, "iI>i")
	property := m.Env(abi.ImportGetProperty, "iiii>i")
	id, at, size := m.Slot(4), m.Slot(4), m.Slot(4)
	m.Func("proxy_on_configure", "ii>i", wt.Call(define, wt.I32(1), m.Str("status"), wt.I32(id)), wt.Drop(), wt.I32(1))
	m.Func("proxy_on_log", "i>", wt.IfElse(
		wt.Call(property, m.Str(abi.JoinPath("response", "code")), wt.I32(at), wt.I32(size)), // 0: there it is
		wt.Seq(wt.Call(record, wt.Load32(wt.I32(id)), wt.I64(0)), wt.Drop()),
		wt.Seq(wt.Call(record, wt.Load32(wt.I32(id)), wt.Seq(wt.Load32(wt.Load32(wt.I32(at))), wt.Raw(0xad))), wt.Drop()))) // i64.extend_i32_u
	runWasm(t, `{}`, plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		logs := p.Load(m.Bytes(), plugintest.Options{Name: "logs", Grants: []string{host.GrantMetrics}})
		for i, status := range []int{203, 500, 500} { // of the upstream, which is asked once
			s := plugintest.Chain{p, logs}.Do(plugintest.Request{}, plugintest.Response{
				Status: status, Fields: plugintest.Fields("cache-control", "max-age=60"), Body: []byte("x"),
			})
			if c := s.Client(); c.Status != 203 || (s.Upstream().Method != "") != (i == 0) {
				t.Fatalf("exchange %d: got %+v, the upstream %+v", i, c, s.Upstream())
			}
			if n, ok := logs.Metric("status"); !ok || n != 203 {
				t.Errorf("exchange %d: the log has %d, want 203", i, n)
			}
		}
	})
}
