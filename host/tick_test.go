package host_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// ticker is a guest that asks for ticks in on_vm_start, logs them, and changes the
// period to what a request says (its number of headers).
func ticker(ms int32) *wasmtest.Module {
	m := wasmtest.NewGuest()
	set := m.Env("proxy_set_tick_period_milliseconds", "i>i")
	m.Func("proxy_on_vm_start", "ii>i", call(set, i32(ms)), drop(), i32(1))
	m.Func("proxy_on_tick", "i", sayID(m, "tick", wasmtest.Local(0)))
	m.Headers("request", call(set, wasmtest.Local(1)))
	return m
}

func TestTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, ticker(10), options{})
		ticks := func() int { return len(s.log.lines(true)) }
		time.Sleep(9 * time.Millisecond)
		synctest.Wait()
		if n := ticks(); n != 0 {
			t.Errorf("%d ticks after 9 ms, want 0", n)
		}
		time.Sleep(92 * time.Millisecond)
		synctest.Wait()
		if n := ticks(); n != 10 {
			t.Errorf("%d ticks after 101 ms, want 10", n)
		}
		c := s.open(newStream())
		change := func(ms int) {
			t.Helper()
			if _, err := c.RequestHeaders(ms, false); err != nil {
				t.Fatal(err)
			}
		}
		change(1000)
		before := ticks()
		time.Sleep(2001 * time.Millisecond)
		synctest.Wait()
		if n := ticks() - before; n != 2 {
			t.Errorf("%d ticks in 2001 ms with a period of 1000, want 2", n)
		}
		change(0)
		before = ticks()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := ticks() - before; n != 0 {
			t.Errorf("%d ticks while off", n)
		}
		change(5)
		time.Sleep(6 * time.Millisecond)
		synctest.Wait()
		if n := ticks() - before; n != 1 {
			t.Errorf("%d ticks after they were on again, want 1", n)
		}
		_ = c.Finish(nil)
		before = ticks()
		s.root.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := ticks() - before; n != 0 {
			t.Errorf("%d ticks of a root that is closed", n)
		}
	})
}

// A tick that traps kills the VM and the new one ticks again.
func TestTickTraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := wasmtest.NewGuest()
		set := m.Env("proxy_set_tick_period_milliseconds", "i>i")
		m.Func("proxy_on_configure", "ii>i", call(set, i32(1000)), drop(), i32(1))
		m.Func("proxy_on_tick", "i", say(m, "tick"), wasmtest.Unreachable())
		m.Headers("request", i32(1))
		s := start(t, m, options{})
		st := newStream()
		c := s.open(st)
		if a, err := c.RequestHeaders(1, false); a != abi.Pause || err != nil {
			t.Fatal(a, err)
		}
		select {
		case <-st.woken: // a paused stream is told
		case <-time.After(2 * time.Second):
			t.Error("the paused stream waits for ever")
		}
		_ = c.Finish(nil)
		time.Sleep(100 * time.Second)
		synctest.Wait()
		// The wait between replacements grows to 30 s: 1 s for the tick each.
		if n := len(s.log.lines(true)); n < 5 || n > 12 {
			t.Errorf("%d ticks, want about 8", n)
		}
	})
}

func TestManualTicks(t *testing.T) {
	now := time.Unix(100, 0)
	s := start(t, ticker(1000), options{host: host.HostOptions{ManualTicks: true, Now: func() time.Time { return now }}})
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {999 * time.Millisecond, 0}, {time.Millisecond, 1}, {0, 0}, {time.Hour, 1}, {0, 0}} {
		now = now.Add(step.after)
		if n := s.plugin.RunTicks(); n != step.want {
			t.Errorf("RunTicks() at %v = %d, want %d", now, n, step.want)
		}
	}
}

// resumer pauses streams and resumes the one with id 2 in a tick.
func TestEffectiveContext(t *testing.T) {
	now := time.Unix(100, 0)
	m := wasmtest.NewGuest()
	set := m.Env("proxy_set_tick_period_milliseconds", "i>i")
	effective := m.Env("proxy_set_effective_context", "i>i")
	resume := m.Env("proxy_continue_stream", "i>i")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	m.Func("proxy_on_configure", "ii>i", call(set, i32(1)), drop(), i32(1))
	m.Headers("request", i32(1))
	m.Func("proxy_on_tick", "i",
		call(resume, i32(0)), drop(), // on the root: nothing
		call(effective, i32(2)), drop(),
		call(add, i32(0), m.Str("x-tick"), m.Str("1")), drop(),
		call(resume, i32(0)), drop())
	s := start(t, m, options{host: host.HostOptions{ManualTicks: true, Now: func() time.Time { return now }}})
	one, two := newStream(), newStream()
	c1, c2 := s.open(one), s.open(two)
	for _, c := range []*host.Context{c1, c2} {
		if a, err := c.RequestHeaders(1, true); a != abi.Pause || err != nil {
			t.Fatal(a, err)
		}
	}
	now = now.Add(time.Second)
	s.plugin.RunTicks()
	if got := strings.Join(one.events, ","); got != "resume Request" || !strings.Contains(one.maps[0].String(), "x-tick=1") {
		t.Errorf("stream 2: events %q, headers %v", got, one.maps[0])
	}
	if len(two.events) != 0 || strings.Contains(two.maps[0].String(), "x-tick") {
		t.Errorf("stream 3: events %q, headers %v", two.events, two.maps[0])
	}
	_ = c1.Finish(nil)
	_ = c2.Finish(nil)
	now = now.Add(time.Second)
	if n := s.plugin.RunTicks(); n != 1 || len(one.events) != 1 { // stream 2 is gone: status 2, still on the root
		t.Errorf("a stream that has ended was resumed: %q", one.events)
	}
}

// A guest that looks at a body from outside of the direction's callbacks gets a copy.
func TestForeignBodyIsCopied(t *testing.T) {
	now := time.Unix(100, 0)
	m := wasmtest.NewGuest()
	set := m.Env("proxy_set_tick_period_milliseconds", "i>i")
	effective := m.Env("proxy_set_effective_context", "i>i")
	get := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	read := wasmtest.Seq(call(get, i32(0), i32(0), i32(100), i32(m.Slot(4)), i32(m.Slot(4))), drop())
	m.Func("proxy_on_configure", "ii>i", call(set, i32(1)), drop(), i32(1))
	m.Body("request", call(effective, i32(2)), drop(), read, i32(1)) // its own, or another's
	m.Body("response", read, i32(0))
	m.Func("proxy_on_tick", "i", call(effective, i32(2)), drop(), read)
	s := start(t, m, options{host: host.HostOptions{ManualTicks: true, Now: func() time.Time { return now }}})
	one := newStream()
	c1, c2 := s.open(one), s.open(newStream())
	steps := []struct {
		name   string
		do     func()
		copies int
	}{
		{"its own callback", func() { _, _ = c1.RequestBody(10, false) }, 0},
		{"another stream's callback", func() { _, _ = c2.RequestBody(10, false) }, 1},
		{"a tick", func() { now = now.Add(time.Second); s.plugin.RunTicks() }, 1},
		{"the other direction", func() { _, _ = c1.ResponseBody(10, false) }, 1},
	}
	for _, step := range steps {
		b := one.buffers[abi.BufferRequestBody]
		b.copies = 0
		step.do()
		if b.copies != step.copies {
			t.Errorf("%s: %d copies, want %d", step.name, b.copies, step.copies)
		}
	}
	_ = c1.Finish(nil)
	_ = c2.Finish(nil)
}

// delayer puts off the end of streams; proxy_done comes from on_request_headers of
// a later stream whose number of headers is the id.
func delayer() *wasmtest.Module {
	m := wasmtest.NewGuest()
	effective := m.Env("proxy_set_effective_context", "i>i")
	done := m.Env("proxy_done", ">i")
	m.Headers("request",
		wasmtest.If(wasmtest.GtU(wasmtest.Local(1), i32(0)),
			call(effective, wasmtest.Local(1)), drop(), sayID(m, "done answers", call(done)), say(m, "returning")),
		i32(0))
	m.Func("proxy_on_done", "i>i", sayID(m, "done", wasmtest.Local(0)), i32(0))
	m.Func("proxy_on_log", "i", sayID(m, "log", wasmtest.Local(0)))
	m.Func("proxy_on_delete", "i", sayID(m, "delete", wasmtest.Local(0)))
	return m
}

func TestDelayedDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, delayer(), options{})
		kept := newStream()
		keep := func() host.Stream { return kept }
		c := s.open(newStream())
		run := func(headers int) {
			t.Helper()
			if _, err := c.RequestHeaders(headers, true); err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(keep); err != nil {
				t.Fatal(err)
			}
			if err := s.root.Open(c, newStream()); err != nil {
				t.Fatal(err)
			}
		}
		run(0) // 2
		run(0) // 3
		run(3) // 4: ends 3
		run(3) // 5: nothing to end
		wantLines(t, s.log.lines(true), "done 2", "done 3",
			"done answers 0", "returning", "log 3", "delete 3", "done 4",
			"done answers 1", "returning", "done 5") // 3 is gone: proxy_done acts on 5 itself
		_ = c.Finish(nil)
		s.root.Close() // is drained when 2, 4 and 5 have ended
		time.Sleep(host.DelayedDone - time.Millisecond)
		synctest.Wait()
		before := len(s.log.lines(true))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		lines := s.log.lines(true)[before:]
		if !slices.Equal(lines, []string{"log 2", "delete 2", "log 4", "delete 4", "log 5", "delete 5", "done 1"}) {
			t.Errorf("after %v: %q", host.DelayedDone, lines)
		}
		time.Sleep(host.DelayedDone)
		synctest.Wait()
		if lines := s.log.lines(true); lines[len(lines)-1] != "delete 1" {
			t.Errorf("the root was not deleted: %q", lines)
		}
	})
}

// A sized stream says how much it holds.
type sized struct {
	*fakeStream
	size int
}

func (s sized) Size() int { return s.size }

// The oldest streams that wait for proxy_done end when all hold too much.
func TestDelayedDoneBytes(t *testing.T) {
	s := start(t, delayer(), options{})
	c := s.open(newStream())
	run := func(headers, size int) {
		t.Helper()
		if _, err := c.RequestHeaders(headers, true); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(func() host.Stream { return sized{newStream(), size} }); err != nil {
			t.Fatal(err)
		}
		if err := s.root.Open(c, newStream()); err != nil {
			t.Fatal(err)
		}
	}
	const half = host.MaxDelayedBytes / 2
	want := []string{}
	next := func(lines ...string) {
		t.Helper()
		want = append(want, lines...)
		wantLines(t, s.log.lines(true), want...)
	}
	run(0, half) // 2
	run(0, half) // 3
	next("done 2", "done 3")
	run(0, 1) // 4
	next("done 4", "log 2", "delete 2")
	run(3, half-1) // 5 ends 3: there is room
	next("done answers 0", "returning", "log 3", "delete 3", "done 5")
	run(0, half) // 6
	next("done 6")
	run(0, 2*half+1) // 7: too much by itself
	next("done 7", "log 4", "delete 4", "log 5", "delete 5", "log 6", "delete 6", "log 7", "delete 7")
	if !s.log.contains(false, "hold too much") {
		t.Error("the limit is not reported")
	}
	_ = c.Finish(nil)
}

// Without a copy of the stream, and above the limit, the end is not put off.
func TestDelayedDoneBounds(t *testing.T) {
	s := start(t, delayer(), options{})
	c := s.open(newStream())
	end := func(keep func() host.Stream) {
		t.Helper()
		if _, err := c.RequestHeaders(0, true); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(keep); err != nil {
			t.Fatal(err)
		}
		if err := s.root.Open(c, newStream()); err != nil {
			t.Fatal(err)
		}
	}
	end(nil)
	end(func() host.Stream { return nil })
	wantLines(t, s.log.lines(true), "done 2", "log 2", "delete 2", "done 3", "log 3", "delete 3")
	for range host.MaxDelayedDone {
		end(func() host.Stream { return newStream() })
	}
	if s.log.contains(false, "proxy_done") {
		t.Errorf("the limit is too low: %q", s.log.lines(false))
	}
	end(func() host.Stream { return newStream() })
	if !s.log.contains(false, "proxy_done") {
		t.Errorf("the limit is not reported")
	}
	_ = c.Finish(nil)
}
