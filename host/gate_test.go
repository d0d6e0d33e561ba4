package host_test

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
)

// gateGuest asks for the gate that its configuration is, in on_configure and in
// on_request_headers, and stores the status at 1024. It has one counter.
const gateGuest = `(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "wproxy.counter.v1.gate")
  (data (i32.const 560) "admitted")
  (data (i32.const 570) "level")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32) (i32.const 65536))
  (func $gate
    (drop (call $define (i32.const 0) (i32.const 560) (i32.const 8) (i32.const 616)))
    (drop (call $define (i32.const 1) (i32.const 570) (i32.const 5) (i32.const 616)))
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 60000) (i32.const 600) (i32.const 604)))
    (i32.store (i32.const 1024) (call $foreign (i32.const 512) (i32.const 22)
      (i32.load (i32.const 600)) (i32.load (i32.const 604)) (i32.const 608) (i32.const 612))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $gate) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $gate) (i32.const 0)))`

func gateRecord() abi.GateRecord {
	return abi.GateRecord{
		Interval: 1e9, Burst: 2, Cost: 1, Metric: 1, Key: []abi.GatePart{{Text: "k"}},
		Fields: []abi.GateField{{Name: "x", Value: []abi.GatePart{{Text: "a "}, {Kind: abi.GateFull}}}},
	}
}

func window(g *abi.GateRecord) { g.Slots, g.Fields = 17, nil }

func exempt(g *abi.GateRecord) {
	g.Exempt, g.ExemptMetric = []abi.GatePart{{Kind: abi.GateHas, Text: "x"}}, 1
}

// refuses has a gate refuse for want of tokens.
func refuses(change func(*abi.GateRefusal)) func(*abi.GateRecord) {
	return func(g *abi.GateRecord) {
		g.Refusals = []abi.GateRefusal{{
			Why: abi.GateLimited, Status: 429, Metric: 1, Details: "limited", Verdict: "any text\n", Body: "no",
			Fields: []abi.GateField{{Name: "retry-after", Value: []abi.GatePart{{Kind: abi.GateRetry, Bits: 1}}}},
		}}
		change(&g.Refusals[0])
	}
}

func TestGateRefused(t *testing.T) {
	t.Parallel()
	both := []string{host.GrantCounters, host.GrantMetrics}
	for name, tt := range map[string]struct {
		change func(*abi.GateRecord)
		grants []string
		want   abi.Status
	}{
		"fine":                {nil, both, abi.StatusOK},
		"no counters":         {nil, []string{host.GrantMetrics}, abi.StatusInternalFailure},
		"no metrics":          {nil, []string{host.GrantCounters}, abi.StatusBadArgument},
		"none needed":         {func(g *abi.GateRecord) { g.Metric = 0 }, []string{host.GrantCounters}, abi.StatusOK},
		"no such metric":      {func(g *abi.GateRecord) { g.Metric = 9 }, both, abi.StatusBadArgument},
		"a gauge":             {func(g *abi.GateRecord) { g.Metric = 2 }, both, abi.StatusBadArgument},
		"no interval":         {func(g *abi.GateRecord) { g.Interval = 0 }, both, abi.StatusBadArgument},
		"too large a bucket":  {func(g *abi.GateRecord) { g.Burst = 1 << 62 }, both, abi.StatusBadArgument},
		"nothing taken":       {func(g *abi.GateRecord) { g.Cost = 0 }, both, abi.StatusBadArgument},
		"less than nothing":   {func(g *abi.GateRecord) { g.Cost = -1 }, both, abi.StatusBadArgument},
		"more than there is":  {func(g *abi.GateRecord) { g.Cost = 3 }, both, abi.StatusBadArgument},
		"an upper-case name":  {func(g *abi.GateRecord) { g.Fields[0].Name = "X" }, both, abi.StatusBadArgument},
		"a pseudo field":      {func(g *abi.GateRecord) { g.Fields[0].Name = ":status" }, both, abi.StatusBadArgument},
		"no name":             {func(g *abi.GateRecord) { g.Fields[0].Name = "" }, both, abi.StatusBadArgument},
		"the length":          {func(g *abi.GateRecord) { g.Fields[0].Name = "content-length" }, both, abi.StatusBadArgument},
		"the connection":      {func(g *abi.GateRecord) { g.Fields[0].Name = "transfer-encoding" }, both, abi.StatusBadArgument},
		"another line":        {func(g *abi.GateRecord) { g.Fields[0].Value[0].Text = "a\r\nb: c" }, both, abi.StatusBadArgument},
		"a space in front":    {func(g *abi.GateRecord) { g.Fields[0].Value[0].Text = " a" }, both, abi.StatusBadArgument},
		"a reserve":           {func(g *abi.GateRecord) { g.Reserve = 1 }, both, abi.StatusOK},
		"too large a reserve": {func(g *abi.GateRecord) { g.Reserve = 2 }, both, abi.StatusBadArgument},
		"less than none":      {func(g *abi.GateRecord) { g.Reserve = -1 }, both, abi.StatusBadArgument},
		"places":              {func(g *abi.GateRecord) { g.Places = 5 }, both, abi.StatusOK},
		"places alone":        {func(g *abi.GateRecord) { *g = abi.GateRecord{Places: 5, Metric: 1} }, both, abi.StatusOK},
		"tokens of places":    {func(g *abi.GateRecord) { *g = abi.GateRecord{Places: 5, Fields: gateRecord().Fields} }, both, abi.StatusBadArgument},
		"less than no places": {func(g *abi.GateRecord) { g.Places = -1 }, both, abi.StatusBadArgument},
		"a reserve of none":   {func(g *abi.GateRecord) { *g = abi.GateRecord{Places: 5, Reserve: 1} }, both, abi.StatusBadArgument},
		"a window":            {window, both, abi.StatusOK},
		"too many slots":      {func(g *abi.GateRecord) { window(g); g.Slots = 65 }, both, abi.StatusBadArgument},
		"a slot of no width":  {func(g *abi.GateRecord) { window(g); g.Interval = 0 }, both, abi.StatusBadArgument},
		"an endless window":   {func(g *abi.GateRecord) { window(g); g.Interval = 1 << 62 }, both, abi.StatusBadArgument},
		"more than a count":   {func(g *abi.GateRecord) { window(g); g.Burst, g.Cost = 1<<40, 1<<32 }, both, abi.StatusBadArgument},
		"a window's reserve":  {func(g *abi.GateRecord) { window(g); g.Reserve = 1 }, both, abi.StatusBadArgument},
		"a window is full":    {func(g *abi.GateRecord) { window(g); g.Fields = gateRecord().Fields }, both, abi.StatusBadArgument},
		"parts of the head": {func(g *abi.GateRecord) {
			g.Key = []abi.GatePart{{Kind: abi.GateHeader, Text: "x"}, {Kind: abi.GatePath}, {Kind: abi.GateQuery, Text: "q"}}
		}, both, abi.StatusOK},
		"no field's name":      {func(g *abi.GateRecord) { g.Key[0] = abi.GatePart{Kind: abi.GateHeader, Text: "X"} }, both, abi.StatusBadArgument},
		"exemptions":           {exempt, both, abi.StatusOK},
		"exemptions, no grant": {func(g *abi.GateRecord) { exempt(g); g.Metric = 0 }, []string{host.GrantCounters}, abi.StatusBadArgument},
		"a gauge of exempt":    {func(g *abi.GateRecord) { exempt(g); g.ExemptMetric = 2 }, both, abi.StatusBadArgument},
		"no condition":         {func(g *abi.GateRecord) { g.Exempt = []abi.GatePart{{Kind: abi.GateIs, Text: "x"}} }, both, abi.StatusBadArgument},
		"too much is read": {func(g *abi.GateRecord) {
			exempt(g)
			g.Key = slices.Repeat([]abi.GatePart{{Kind: abi.GatePath}}, abi.MaxGateReads)
		}, both, abi.StatusBadArgument},
		"a refusal":              {refuses(func(*abi.GateRefusal) {}), both, abi.StatusOK},
		"a gauge of refusals":    {refuses(func(r *abi.GateRefusal) { r.Metric = 2 }), both, abi.StatusBadArgument},
		"refused with 199":       {refuses(func(r *abi.GateRefusal) { r.Status = 199 }), both, abi.StatusBadArgument},
		"refused with 600":       {refuses(func(r *abi.GateRefusal) { r.Status = 600 }), both, abi.StatusBadArgument},
		"two words":              {refuses(func(r *abi.GateRefusal) { r.Details = "two words" }), both, abi.StatusBadArgument},
		"not UTF-8":              {refuses(func(r *abi.GateRefusal) { r.Details = "\xff" }), both, abi.StatusBadArgument},
		"a refusal's length":     {refuses(func(r *abi.GateRefusal) { r.Fields[0].Name = "content-length" }), both, abi.StatusBadArgument},
		"a refusal's connection": {refuses(func(r *abi.GateRefusal) { r.Fields[0].Name = "connection" }), both, abi.StatusBadArgument},
		"a refusal's lines":      {refuses(func(r *abi.GateRefusal) { r.Fields[0].Value[0] = abi.GatePart{Text: "a\nb"} }), both, abi.StatusBadArgument},
		"a report":               {refuses(func(r *abi.GateRefusal) { *r = abi.GateRefusal{Why: abi.GateLimited, Verdict: "v", Metric: 1} }), both, abi.StatusOK},
		"a report with a body":   {refuses(func(r *abi.GateRefusal) { *r = abi.GateRefusal{Why: abi.GateLimited, Body: "b"} }), both, abi.StatusBadArgument},
		"a report with details":  {refuses(func(r *abi.GateRefusal) { *r = abi.GateRefusal{Why: abi.GateLimited, Details: "d"} }), both, abi.StatusBadArgument},
		"a report with lines":    {refuses(func(r *abi.GateRefusal) { r.Status, r.Details, r.Body = 0, "", "" }), both, abi.StatusBadArgument},
		"crowded without places": {refuses(func(r *abi.GateRefusal) { r.Why, r.Fields = abi.GateCrowded, nil }), both, abi.StatusBadArgument},
		"crowded for a time": {func(g *abi.GateRecord) {
			refuses(func(r *abi.GateRefusal) { r.Why = abi.GateCrowded })(g)
			g.Places = 1
		}, both, abi.StatusBadArgument},
		"crowded": {func(g *abi.GateRecord) {
			refuses(func(r *abi.GateRefusal) { r.Why, r.Fields = abi.GateCrowded, nil })(g)
			g.Places = 1
		}, both, abi.StatusOK},
		"limited by places": {func(g *abi.GateRecord) {
			*g = abi.GateRecord{Places: 5}
			refuses(func(*abi.GateRefusal) {})(g)
		}, both, abi.StatusBadArgument},
		"keyless": {refuses(func(r *abi.GateRefusal) { r.Why, r.Fields = abi.GateKeyless, nil }), both, abi.StatusOK},
		"keyless with another key": {func(g *abi.GateRecord) {
			refuses(func(r *abi.GateRefusal) { r.Why, r.Fields = abi.GateKeyless, nil })(g)
			g.Missing = []abi.GatePart{{Text: "m"}}
		}, both, abi.StatusBadArgument},
		"full of a window, refused": {func(g *abi.GateRecord) {
			window(g)
			refuses(func(r *abi.GateRefusal) { r.Fields[0].Value[0].Kind, r.Fields[0].Value[0].Bits = abi.GateFull, 0 })(g)
		}, both, abi.StatusBadArgument},
		"a key part too many": {func(g *abi.GateRecord) { g.Key[0].Text = strings.Repeat("k", abi.MaxGateKey+1) }, both, abi.StatusBadArgument},
	} {
		r := gateRecord()
		if tt.change != nil {
			tt.change(&r)
		}
		s := startWasm(t, assemble(t, gateGuest), options{config: string(abi.AppendGate(nil, &r)), plugin: host.PluginOptions{Grants: tt.grants}})
		if got := abi.Status(s.plugin.Peek()[1024]); got != tt.want || (s.root.Gate() != nil) != (tt.want == abi.StatusOK) {
			t.Errorf("%s: status %v, a gate: %t, want %v", name, got, s.root.Gate() != nil, tt.want)
		}
		// In a stream's callback it is too late, and nothing changes.
		before := s.root.Gate()
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil || s.root.Gate() != before || s.plugin.Peek()[1024] == byte(abi.StatusOK) {
			t.Errorf("%s, in a stream: %v, status %d", name, err, s.plugin.Peek()[1024])
		}
		_ = c.Finish(nil)
	}
}

// TestGateOtherHost: a host may be told to be without.
func TestGateOtherHost(t *testing.T) {
	t.Parallel()
	r := gateRecord()
	s := startWasm(t, assemble(t, gateGuest), options{
		config: string(abi.AppendGate(nil, &r)), host: host.HostOptions{Without: []string{abi.ForeignGate}},
		plugin: host.PluginOptions{Grants: []string{host.GrantCounters, host.GrantMetrics}},
	})
	if got := abi.Status(s.plugin.Peek()[1024]); got != abi.StatusNotFound || s.root.Gate() != nil {
		t.Errorf("status %v, a gate: %t", got, s.root.Gate() != nil)
	}
}

// TestGateOfManyVMs: other VMs, which say the same, do not replace the gate.
func TestGateOfManyVMs(t *testing.T) {
	t.Parallel()
	r := gateRecord()
	s := startWasm(t, assemble(t, gateGuest), options{
		config: string(abi.AppendGate(nil, &r)), plugin: host.PluginOptions{Grants: []string{host.GrantCounters, host.GrantMetrics}},
	})
	first := s.root.Gate()
	other, err := s.plugin.NewRoot(t.Context(), []byte("nothing")) // starts a VM with both roots
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s.root.Gate() != first || first == nil || other.Gate() != nil {
		t.Errorf("the gate is another one, or is somebody else's")
	}
}
