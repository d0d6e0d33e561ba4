package host_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// countersOf calls a function with a record and returns the status and the record as it was
// left.
func countersOf(t *testing.T, name string, record []byte, key string) (abi.Status, []byte) {
	t.Helper()
	const mark = "//mark//" // in front of the key, to find it
	p := newCall(t, v021, "proxy_call_foreign_function", "iiiiii>i", name, string(record)+mark+key, out(0), out(4))
	status, mem, _ := p.run(t, newStream(), options{plugin: host.PluginOptions{Grants: []string{host.GrantCounters}}})
	at := bytes.Index(mem, []byte(mark)) - len(record)
	return status, bytes.Clone(mem[at : at+len(record)])
}

func TestAddCounter(t *testing.T) {
	t.Parallel()
	r := abi.NewAddRecord(10, 1e9)
	r.SetCount(0, 2)
	r.SetCount(2, 3)
	r.SetStreak(4)
	status, got := countersOf(t, abi.ForeignAddCounter, r, "key")
	if want := (abi.AddResult{Added: true, Sums: [3]int64{2, 0, 3}, Streak: 4}); status != abi.StatusOK || abi.AddRecord(got).Result() != want {
		t.Errorf("%v, %+v, want %+v", status, abi.AddRecord(got).Result(), want)
	}
	r.SetLimit(1)
	if status, got = countersOf(t, abi.ForeignAddCounter, r, "key"); status != abi.StatusOK || abi.AddRecord(got).Result().Added {
		t.Errorf("over the limit: %v, %+v", status, abi.AddRecord(got).Result())
	}
	r.SetLimit(-1)
	for name, record := range map[string][]byte{
		"no slots": abi.NewAddRecord(0, 1), "too many slots": abi.NewAddRecord(65, 1), "no width": abi.NewAddRecord(1, 0), "a limit below 0": r,
	} {
		if status, _ := countersOf(t, abi.ForeignAddCounter, record, "key"); status != abi.StatusBadArgument {
			t.Errorf("%s: %v", name, status)
		}
	}
}

func TestChargeCounter(t *testing.T) {
	t.Parallel()
	status, got := countersOf(t, abi.ForeignChargeCounter, abi.NewTakeRecord(1e9, 2, 7), "key")
	if r := abi.TakeRecord(got).Result(); status != abi.StatusOK || r.Admitted || r.Remaining != 0 || r.Full != 7e9 {
		t.Errorf("%v, %+v", status, r)
	}
	for name, record := range map[string][]byte{
		"a cost below 0": abi.NewTakeRecord(1e9, 2, -1), "too much": abi.NewTakeRecord(1e9, 2, 1<<40), "no interval": abi.NewTakeRecord(0, 2, 1),
	} {
		if status, _ := countersOf(t, abi.ForeignChargeCounter, record, "key"); status != abi.StatusBadArgument {
			t.Errorf("%s: %v", name, status)
		}
	}
}

func TestLeaseRecord(t *testing.T) {
	t.Parallel()
	lease := func(op abi.LeaseOp, places, forget int64) []byte {
		r := abi.NewLeaseRecord(places, forget)
		r.SetOp(op)
		return r
	}
	for name, tt := range map[string]struct {
		record []byte
		want   abi.Status
	}{
		"a place": {lease(abi.LeaseTake, 1, 1), abi.StatusOK}, "keep none": {lease(abi.LeaseKeep, 1, 1), abi.StatusNotFound},
		"give none back": {lease(abi.LeaseBack, 1, 1), abi.StatusNotFound}, "another op": {lease(3, 1, 1), abi.StatusBadArgument},
		"never forgotten": {lease(abi.LeaseTake, 1, 0), abi.StatusBadArgument}, "less than no places": {lease(abi.LeaseTake, -1, 1), abi.StatusBadArgument},
	} {
		if status, _ := countersOf(t, abi.ForeignLeaseCounter, tt.record, "key"); status != tt.want {
			t.Errorf("%s: %v, want %v", name, status, tt.want)
		}
	}
}

// holder takes one of three places in on_request_headers, whose outcome it leaves in memory,
// and traps in on_response_headers.
func holder() (m *wasmtest.Module, at int32) {
	m = wasmtest.NewGuest()
	f := m.Env("proxy_call_foreign_function", "iiiiii>i")
	record := string(abi.NewAcquireRecord(3)) + "key"
	p := m.Str(record)
	at = m.Slot(8)
	m.Headers("request", call(f, m.Str(abi.ForeignAcquireCounter), p, i32(at), i32(at+4)), drop(), i32(0))
	m.Headers("response", wasmtest.Unreachable(), i32(0))
	return m, at
}

// taken returns how many places the record in a guest's memory tells of.
func taken(t *testing.T, mem []byte) (got bool, n int64) {
	t.Helper()
	at := bytes.Index(mem, append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, mem[0:0]...)) // places
	for ; at >= 0; at++ {
		if i := bytes.Index(mem[at:], []byte("key")); i == 16 {
			return abi.AcquireRecord(mem[at-8 : at+16]).Result()
		}
		next := bytes.Index(mem[at+1:], []byte{3, 0, 0, 0, 0, 0, 0, 0})
		if next < 0 {
			break
		}
		at += next
	}
	t.Fatal("the record is not in the guest's memory")
	return false, 0
}

// TestAcquire: a place is the stream's until it ends, or its VM has died.
func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := holder()
		s := start(t, m, options{plugin: host.PluginOptions{
			Instances: 2, Grants: []string{host.GrantCounters}, RestartMin: time.Millisecond,
		}})
		open := func() (*host.Context, bool, int64) {
			c := s.open(newStream())
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Fatal(err)
			}
			got, n := taken(t, c.Memory())
			return c, got, n
		}
		var held []*host.Context
		for i := range 5 {
			c, got, n := open()
			if got != (i < 3) || n != int64(min(i+1, 3)) {
				t.Errorf("stream %d: %t, %d", i, got, n)
			}
			if got {
				held = append(held, c)
			} else {
				_ = c.Finish(nil)
			}
		}
		if err := held[0].Finish(nil); err != nil {
			t.Error(err)
		}
		c, got, n := open()
		if !got || n != 3 {
			t.Errorf("after one has ended: %t, %d", got, n)
		}
		var te *host.TrapError
		if _, err := c.ResponseHeaders(1, true); !errors.As(err, &te) {
			t.Fatalf("%v, want a trap", err)
		}
		synctest.Wait()
		// All of the VM's streams have given theirs back, though none has been finished.
		_, got, n = open()
		if !got || n >= 3 {
			t.Errorf("after a VM has died: %t, %d", got, n)
		}
		_ = c.Finish(nil)
		for _, h := range held[1:] {
			_ = h.Finish(nil)
		}
		synctest.Wait()
		if _, got, n = open(); !got || n != 2 {
			t.Errorf("at the end: %t, %d, want those two that are open", got, n)
		}
	})
}

// picked is what a guest has asked a fakeStream for.
type picked struct {
	name  string
	side  abi.StreamType
	delay time.Duration
	late  bool // it comes too late
}

func (s *fakeStream) SelectUpstream(name string) bool {
	s.picked.name = name
	return !s.picked.late
}

func (s *fakeStream) ResumeAfter(side abi.StreamType, d time.Duration) bool {
	s.picked.side, s.picked.delay = side, d
	return !s.picked.late
}

func TestSelectUpstream(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		late bool
		want abi.Status
	}{{"b", false, abi.StatusOK}, {"b", true, abi.StatusBadArgument}, {"c", false, abi.StatusInternalFailure}, {"", false, abi.StatusBadArgument}} {
		p := newCall(t, v021, "proxy_call_foreign_function", "iiiiii>i", abi.ForeignSelectUpstream, tt.name, out(0), out(4))
		st := newStream()
		st.picked.late = tt.late
		status, _, _ := p.run(t, st, options{plugin: host.PluginOptions{Grants: []string{host.GrantUpstream + "b"}}})
		if status != tt.want || status == abi.StatusOK && st.picked.name != tt.name {
			t.Errorf("%+v: %v, selected %q", tt, status, st.picked.name)
		}
	}
}

func TestResumeAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		late bool
		want abi.Status
	}{
		{string(abi.AppendResumeAfter(nil, abi.StreamResponse, 1500)), false, abi.StatusOK},
		{string(abi.AppendResumeAfter(nil, abi.StreamResponse, 1500)), true, abi.StatusBadArgument},
		{string(abi.AppendResumeAfter(nil, 2, 1500)), false, abi.StatusBadArgument},
		{"short", false, abi.StatusBadArgument},
	} {
		p := newCall(t, v021, "proxy_call_foreign_function", "iiiiii>i", abi.ForeignResumeAfter, tt.args, out(0), out(4))
		st := newStream()
		st.picked.late = tt.late
		status, _, _ := p.run(t, st, options{plugin: host.PluginOptions{Grants: []string{}}})
		if status != tt.want || status == abi.StatusOK && (st.picked.side != abi.StreamResponse || st.picked.delay != 1500*time.Millisecond) {
			t.Errorf("%q: %v, %v %v", tt.args, status, st.picked.side, st.picked.delay)
		}
	}
}
