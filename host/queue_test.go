package host_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// queueGuest registers the queue "q" in on_configure if its configuration is not empty.
// on_queue_ready logs "ready" and takes one item, which it logs. A request puts what
// poke has left at its text into the queue that it resolves.
const queueGuest = `(module
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "q" "receiver" "ready")
  (global $heap (mut i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32)
    (if (i32.gt_u (i32.add (global.get $heap) (local.get $n)) (i32.const 130000)) (then (global.set $heap (i32.const 65536))))
    (global.set $heap (i32.add (global.get $heap) (local.get $n)))
    (i32.sub (global.get $heap) (local.get $n)))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (if (local.get 1) (then (drop (call $register (i32.const 512) (i32.const 1) (i32.const 600)))))
    (i32.const 1))
  (func (export "proxy_on_queue_ready") (param $root i32) (param $token i32)
    (drop (call $log (i32.const 2) (i32.const 521) (i32.const 5)))
    (if (i32.eqz (call $dequeue (local.get $token) (i32.const 604) (i32.const 608)))
      (then (drop (call $log (i32.const 2) (i32.load (i32.const 604)) (i32.load (i32.const 608)))))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (call $resolve (i32.const 513) (i32.const 8) (i32.const 512) (i32.const 1) (i32.const 612)))
      (then (i32.store (i32.const 1024) (call $enqueue (i32.load (i32.const 612)) (i32.load (i32.const 1032)) (i32.load (i32.const 1040)))))
      (else (i32.store (i32.const 1024) (i32.const 99))))
    (i32.const 0)))`

// A plugin of its own, with a root.
type side struct {
	t    *testing.T
	p    *host.Plugin
	root *host.Root
}

func newSide(t *testing.T, h *host.Host, src, name, vmID, config string, instances int) *side {
	t.Helper()
	p, err := h.Load(t.Context(), assemble(t, src), host.PluginOptions{Name: name, VMID: vmID, Instances: instances, Grants: allGrants})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(t.Context(), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return &side{t, p, root}
}

// put sends an item and returns the status of its last call.
func (s *side) put(item string) abi.Status {
	s.t.Helper()
	(&guestCall{args: []any{item}}).poke(s.p)
	var c host.Context
	if err := s.root.Open(&c, newStream()); err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.RequestHeaders(1, true); err != nil {
		s.t.Fatal(err)
	}
	_ = c.Finish(nil)
	return abi.Status(binary.LittleEndian.Uint32(s.p.Peek()[atStatus:]))
}

func newTestHost(t *testing.T, o host.HostOptions) (*host.Host, *recorder) {
	t.Helper()
	log := &recorder{}
	o.Log = log.log
	h, err := host.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h, log
}

// A queue from one plugin to another, of another vm_id: a call of on_queue_ready for each
// item, after the call that brought it.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := newTestHost(t, host.HostOptions{})
		sender := newSide(t, h, queueGuest, "sender", "", "", 1)
		if got := sender.put("early"); got != 99 {
			t.Errorf("enqueue without a queue: %v", got)
		}
		receiver := newSide(t, h, queueGuest, "receiver", "", "x", 1)
		for _, item := range []string{"one", "", "three"} {
			if got := sender.put(item); got != abi.StatusOK {
				t.Errorf("enqueue %q: %v", item, got)
			}
		}
		synctest.Wait()
		wantLines(t, log.lines(true), "ready", "one", "ready", "", "ready", "three")
		if got := receiver.p.Stats().QueueBytes; got != 0 {
			t.Errorf("QueueBytes = %d in an empty queue", got)
		}

		// It outlives a reload: the consumer is the one that registered last.
		next, err := receiver.p.NewRoot(t.Context(), []byte("y"))
		if err != nil {
			t.Fatal(err)
		}
		receiver.root.Close()
		before := len(log.lines(true))
		sender.put("four")
		synctest.Wait()
		wantLines(t, log.lines(true)[before:], "ready", "four")

		// And goes with the last plugin of its vm_id.
		next.Close()
		sender.put("nobody")
		synctest.Wait()
		receiver.p.Close()
		synctest.Wait()
		if got := sender.put("gone"); got != 99 {
			t.Errorf("enqueue into a queue whose plugin has gone: %v", got)
		}
		newSide(t, h, queueGuest, "receiver", "", "x", 1)
		before = len(log.lines(true))
		sender.put("new")
		synctest.Wait()
		wantLines(t, log.lines(true)[before:], "ready", "new")
	})
}

// Items that wait for a consumer are told to the next one, and settings that are refused
// do not take the queue away.
func TestQueueConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := newTestHost(t, host.HostOptions{})
		src := strings.Replace(queueGuest, "(i32.const 1))\n  (func (export \"proxy_on_queue_ready\")",
			"(i32.ne (local.get 1) (i32.const 3)))\n  (func (export \"proxy_on_queue_ready\")", 1)
		receiver := newSide(t, h, src, "receiver", "", "x", 1)
		sender := newSide(t, h, queueGuest, "sender", "", "", 1)
		if _, err := receiver.p.NewRoot(t.Context(), []byte("bad")); err == nil {
			t.Fatal("settings of 3 bytes were not refused")
		}
		sender.put("one")
		synctest.Wait()
		wantLines(t, log.lines(true), "ready", "one")

		keep := newSide(t, h, queueGuest, "keeper", "receiver", "", 1) // keeps the vm_id
		receiver.root.Close()
		receiver.p.Close()
		sender.put("two")
		sender.put("three")
		synctest.Wait()
		wantLines(t, log.lines(true)[2:])
		if got := keep.p.Stats().QueueBytes; got == 0 {
			t.Errorf("QueueBytes = %d with two items in a queue", got)
		}
		newSide(t, h, queueGuest, "receiver", "", "x", 1)
		synctest.Wait()
		wantLines(t, log.lines(true)[2:], "ready", "two", "ready", "three")
	})
}

// Nobody is called on a goroutine of the host with ManualTicks.
func TestRunQueues(t *testing.T) {
	h, log := newTestHost(t, host.HostOptions{ManualTicks: true})
	receiver := newSide(t, h, queueGuest, "receiver", "", "x", 1)
	sender := newSide(t, h, queueGuest, "sender", "", "", 1)
	sender.put("one")
	sender.put("two")
	if n := sender.p.RunQueues(); n != 0 || len(log.lines(true)) != 0 {
		t.Errorf("RunQueues() of the sender = %d, logged %q", n, log.lines(true))
	}
	if n := receiver.p.RunQueues(); n != 2 {
		t.Errorf("RunQueues() = %d, want 2", n)
	}
	wantLines(t, log.lines(true), "ready", "one", "ready", "two")
	if n := receiver.p.RunQueues(); n != 0 {
		t.Errorf("RunQueues() = %d for nothing", n)
	}
}

// Queues are bounded in items, in bytes and in number; a guest cannot use the token of a
// queue that nobody of its vm_id has asked for.
func TestQueueBounds(t *testing.T) {
	h, log := newTestHost(t, host.HostOptions{ManualTicks: true})
	receiver := newSide(t, h, queueGuest, "receiver", "", "x", 1)
	sender := newSide(t, h, queueGuest, "sender", "", "", 1)
	big := strings.Repeat("x", 1<<20)
	n := 0
	for sender.put(big) == abi.StatusOK {
		n++
	}
	if n != host.MaxQueueBytes>>20-1 { // what an item costs beside its bytes is counted
		t.Errorf("%d items of 1 MiB, want %d", n, host.MaxQueueBytes>>20-1)
	}
	if got := sender.put("x"); got != abi.StatusOK {
		t.Errorf("a small item behind a large one that found no room: %v", got)
	}
	if got := receiver.p.Stats().QueueFull; got != 1 {
		t.Errorf("QueueFull = %d, want 1", got)
	}
	if !log.contains(false, "queue is full") {
		t.Errorf("the host logged %q", log.lines(false))
	}

	const many = `(module
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 0))
  (func (export "proxy_on_request_headers") (param i32) (param $n i32) (param $e i32) (result i32)
    (i32.store (i32.const 512) (local.get $n))
    (if (local.get $e)
      (then (i32.store (i32.const 1024) (call $register (i32.const 512) (i32.const 4) (i32.const 600))))
      (else (i32.store (i32.const 1024) (call $enqueue (local.get $n) (i32.const 512) (i32.const 1)))))
    (i32.const 0)))`
	other := newSide(t, h, many, "other", "", "", 1)
	call := func(n int, end bool) abi.Status {
		var c host.Context
		if err := other.root.Open(&c, newStream()); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Finish(nil) }()
		if _, err := c.RequestHeaders(n, end); err != nil {
			t.Fatal(err)
		}
		return abi.Status(binary.LittleEndian.Uint32(other.p.Peek()[atStatus:]))
	}
	if got := call(1, false); got != abi.StatusNotFound { // the receiver's
		t.Errorf("enqueue by a guessed token: %v", got)
	}
	for i := range host.MaxQueues + 1 {
		want := abi.StatusOK
		if i == host.MaxQueues {
			want = abi.StatusInternalFailure
		}
		if got := call(i, true); got != want {
			t.Fatalf("register queue %d: %v, want %v", i, got, want)
		}
	}
	if got := call(0, true); got != abi.StatusOK {
		t.Errorf("register a queue again: %v", got)
	}
	token := int(binary.LittleEndian.Uint32(other.p.Peek()[600:]))
	for i := range host.MaxQueueItems + 1 {
		want := abi.StatusOK
		if i == host.MaxQueueItems {
			want = abi.StatusInternalFailure
		}
		if got := call(token, false); got != want {
			t.Fatalf("item %d: %v, want %v", i, got, want)
		}
	}
}

// An allocator that has nothing leaves the item in the queue.
func TestDequeueWithoutMemory(t *testing.T) {
	src := strings.Replace(queueGuest, `(export "malloc") (param $n i32) (result i32)`,
		`(export "malloc") (param $n i32) (result i32) (if (i32.load (i32.const 700)) (then (return (i32.const 0))))`, 1)
	h, log := newTestHost(t, host.HostOptions{ManualTicks: true})
	receiver := newSide(t, h, src, "receiver", "", "x", 1)
	sender := newSide(t, h, queueGuest, "sender", "", "", 1)
	sender.put("one")
	sender.put("two")
	receiver.p.Poke(700, []byte{1})
	if n := receiver.p.RunQueues(); n != 2 {
		t.Fatalf("RunQueues() = %d", n)
	}
	wantLines(t, log.lines(true), "ready", "ready")
	receiver.p.Poke(700, []byte{0})
	sender.put("three")
	receiver.p.RunQueues()
	wantLines(t, log.lines(true)[2:], "ready", "one")
}

// A guest that is called for a queue that it feeds itself has others run beside it, and
// its host can be closed.
func TestQueueFeedsItself(t *testing.T) {
	src := strings.Replace(queueGuest, `(drop (call $log (i32.const 2) (i32.const 521) (i32.const 5)))`,
		`(drop (call $enqueue (local.get $token) (i32.const 512) (i32.const 1)))`, 1)
	src = strings.ReplaceAll(src, `(drop (call $log (i32.const 2) (i32.load (i32.const 604)) (i32.load (i32.const 608))))`, "")
	h, _ := newTestHost(t, host.HostOptions{})
	receiver := newSide(t, h, src, "receiver", "", "x", 1)
	sender := newSide(t, h, queueGuest, "sender", "", "", 1)
	sender.put("start")
	deadline := time.Now().Add(100 * time.Millisecond)
	n := 0
	for time.Now().Before(deadline) {
		receiver.put("more") // the same VM
		n++
	}
	if n < 10 {
		t.Errorf("%d streams ran beside the queue", n)
	}
}

// Several VMs put items into a queue and several take them out: each item arrives
// once, while its consumers change.
func TestQueueHammer(t *testing.T) {
	const senders, items = 3, 250 // below the burst of log lines of one VM
	h, log := newTestHost(t, host.HostOptions{})
	src := strings.Replace(queueGuest, `(drop (call $log (i32.const 2) (i32.const 521) (i32.const 5)))`, "", 1)
	receiver := newSide(t, h, src, "receiver", "", "x", 3)
	var wg sync.WaitGroup
	for i := range senders {
		sender := newSide(t, h, queueGuest, fmt.Sprint("sender", i), "", "", 1)
		wg.Go(func() {
			for n := range items {
				if got := sender.put(fmt.Sprintf("%d %03d", i, n)); got != abi.StatusOK {
					t.Errorf("sender %d, item %d: %v", i, n, got)
				}
			}
		})
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for { // roots come and go, and with them consumers
			r, err := receiver.p.NewRoot(t.Context(), []byte{byte('a' + rand.IntN(26))})
			if err != nil {
				t.Error(err)
				return
			}
			r.Close()
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	wg.Wait()
	close(stop)
	churn.Wait()
	var got []string
	for range 3000 {
		got = log.lines(true)
		if len(got) >= senders*items {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	sorted := slices.Sorted(slices.Values(got))
	if len(got) != senders*items || len(slices.Compact(sorted)) != len(got) {
		t.Errorf("%d items arrived, %d of them different, want %d", len(got), len(slices.Compact(sorted)), senders*items)
	}
}

// Whatever the order of calls, a queue gives out what was put in, first in first out.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 0, 3, 1, 1, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		q := host.NewQueue()
		var want []string
		for i, op := range ops {
			if op%3 == 0 {
				item, status := q.Pop()
				switch {
				case len(want) == 0 && status != abi.StatusEmpty, len(want) > 0 && (status != abi.StatusOK || item != want[0]):
					t.Fatalf("step %d: %q, %v, want %q", i, item, status, want)
				case len(want) > 0 && op%2 == 0:
					q.Unpop(item)
				case len(want) > 0:
					want = want[1:]
				}
				continue
			}
			item := fmt.Sprint(i, op)
			if status := q.Push(item); status != abi.StatusOK {
				t.Fatal(status)
			}
			want = append(want, item)
		}
		bytes := 0
		for _, w := range want {
			bytes += len(w) + host.QueueOverhead
		}
		if q.Bytes() != int64(bytes) {
			t.Errorf("%d bytes, want %d", q.Bytes(), bytes)
		}
	})
}
