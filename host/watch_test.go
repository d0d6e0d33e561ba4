package host_test

import (
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
)

// watchGuest is gateGuest with a watch: its configuration, asked for in on_configure and in
// on_request_headers, and the status at 1024.
var watchGuest = strings.NewReplacer(
	"wproxy.counter.v1.gate", "wproxy.counter.v1.watch", "(i32.const 22)", "(i32.const 23)",
	`(func (export "proxy_on_request_headers")`,
	`(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_request_headers")`,
).Replace(gateGuest)

func watchRecord() abi.WatchRecord {
	return abi.WatchRecord{Metric: 1, Slots: 10, Width: 1e9, Key: []abi.GatePart{{Kind: abi.WatchRoute}}}
}

func TestWatchRefused(t *testing.T) {
	t.Parallel()
	all := []string{host.GrantCounters, host.GrantSharedData, host.GrantMetrics}
	for name, tt := range map[string]struct {
		change func(*abi.WatchRecord)
		grants []string
		guest  string
		want   abi.Status
	}{
		"fine":              {nil, all, watchGuest, abi.StatusOK},
		"no counters":       {nil, []string{host.GrantSharedData, host.GrantMetrics}, watchGuest, abi.StatusInternalFailure},
		"no shared data":    {nil, []string{host.GrantCounters, host.GrantMetrics}, watchGuest, abi.StatusInternalFailure},
		"no metrics":        {nil, all[:2], watchGuest, abi.StatusBadArgument},
		"none needed":       {func(w *abi.WatchRecord) { w.Metric = 0 }, all[:2], watchGuest, abi.StatusOK},
		"no such metric":    {func(w *abi.WatchRecord) { w.Metric = 9 }, all, watchGuest, abi.StatusBadArgument},
		"a gauge":           {func(w *abi.WatchRecord) { w.Metric = 2 }, all, watchGuest, abi.StatusBadArgument},
		"no slots":          {func(w *abi.WatchRecord) { w.Slots = 0 }, all, watchGuest, abi.StatusBadArgument},
		"too many slots":    {func(w *abi.WatchRecord) { w.Slots = 65 }, all, watchGuest, abi.StatusBadArgument},
		"no width":          {func(w *abi.WatchRecord) { w.Width = 0 }, all, watchGuest, abi.StatusBadArgument},
		"too large a width": {func(w *abi.WatchRecord) { w.Width = 1 << 62 }, all, watchGuest, abi.StatusBadArgument},
		"too long a key":    {func(w *abi.WatchRecord) { w.Key[0] = abi.GatePart{Text: strings.Repeat("k", abi.MaxGateKey+1)} }, all, watchGuest, abi.StatusBadArgument},
		"no answers":        {nil, all, strings.Replace(watchGuest, "proxy_on_response_headers", "other", 1), abi.StatusBadArgument},
	} {
		r := watchRecord()
		if tt.change != nil {
			tt.change(&r)
		}
		s := startWasm(t, assemble(t, tt.guest), options{config: string(abi.AppendWatch(nil, &r)), plugin: host.PluginOptions{Grants: tt.grants}})
		if got := abi.Status(s.plugin.Peek()[1024]); got != tt.want || (s.root.Watch() != nil) != (tt.want == abi.StatusOK) {
			t.Errorf("%s: status %v, a watch: %t, want %v", name, got, s.root.Watch() != nil, tt.want)
		}
		// In a stream's callback it is too late, and nothing changes.
		before := s.root.Watch()
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil || s.root.Watch() != before || s.plugin.Peek()[1024] == byte(abi.StatusOK) {
			t.Errorf("%s, in a stream: %v, status %d", name, err, s.plugin.Peek()[1024])
		}
		_ = c.Finish(nil)
	}
}

// TestWatchOtherHost: a host may be told to be without.
func TestWatchOtherHost(t *testing.T) {
	t.Parallel()
	r := watchRecord()
	s := startWasm(t, assemble(t, watchGuest), options{
		config: string(abi.AppendWatch(nil, &r)), host: host.HostOptions{Without: []string{abi.ForeignWatch}},
		plugin: host.PluginOptions{Grants: []string{host.GrantCounters, host.GrantSharedData, host.GrantMetrics}},
	})
	if got := abi.Status(s.plugin.Peek()[1024]); got != abi.StatusNotFound || s.root.Watch() != nil {
		t.Errorf("status %v, a watch: %t", got, s.root.Watch() != nil)
	}
}

// TestWatchOfManyVMs: other VMs, which say the same, do not replace the watch.
func TestWatchOfManyVMs(t *testing.T) {
	t.Parallel()
	r := watchRecord()
	s := startWasm(t, assemble(t, watchGuest), options{
		config: string(abi.AppendWatch(nil, &r)),
		plugin: host.PluginOptions{Grants: []string{host.GrantCounters, host.GrantSharedData, host.GrantMetrics}},
	})
	first := s.root.Watch()
	other, err := s.plugin.NewRoot(t.Context(), []byte("nothing")) // starts a VM with both roots
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s.root.Watch() != first || first == nil || other.Watch() != nil {
		t.Errorf("the watch is another one, or is somebody else's")
	}
}
