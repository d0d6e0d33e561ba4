package h1

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// A Watcher notices connections whose other end has gone, with one goroutine
// for all of them. One per process is enough. A nil Watcher notices nothing.
type Watcher struct {
	epoll *os.File
	raw   syscall.RawConn
	done  chan struct{} // closed when the goroutine has ended

	mu sync.Mutex
	// Guarded by mu.
	slots []slot
	free  int32 // first free slot + 1; 0: none

	control control
}

// A control is a call of epoll_ctl(2). It is made again and again without allocating.
type control struct {
	mu sync.Mutex
	// Guarded by mu.
	op    int
	fd    int
	event syscall.EpollEvent
	err   error
	inner func(epfd uintptr) // made once, like outer
	outer func(fd uintptr)
}

// A slot is a connection being watched. Its generation tells events of the
// connection from late ones of an earlier one.
type slot struct {
	w    watched
	gen  uint32
	next int32 // next free slot + 1
}

// A watched is told things once per event and on the Watcher's goroutine.
type watched interface {
	// otherEndGone: the other end has closed (FIN), or the connection is dead.
	otherEndGone(dead bool)
	// readable: a read would not wait. It is called where wakeOnBytes asks for it, and
	// sometimes where it does so no more.
	readable()
}

// A watchID names a slot and its generation; 0: not watched.
type watchID uint64

// NewWatcher starts a Watcher. On systems without epoll it returns one that
// notices nothing.
func NewWatcher() (*Watcher, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Non-blocking, so that os.File puts it into the runtime's poller: the
	// goroutine waits there and no thread is blocked.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(fd))
	}
	w := &Watcher{epoll: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if w.raw, err = w.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(err, w.epoll.Close())
	}
	w.control.inner = w.callControl
	w.control.outer = func(fd uintptr) {
		w.control.fd = int(fd)
		if err := w.raw.Control(w.control.inner); err != nil {
			w.control.err = err // closed
		}
	}
	go w.run() // ends with Close, which waits
	return w, nil
}

// Close ends the goroutine and waits for it.
func (w *Watcher) Close() error {
	if w == nil {
		return nil
	}
	err := w.epoll.Close()
	<-w.done
	return err
}

// add watches the socket behind raw until it is closed. It stores the name of
// the watch in *dst before t can be told anything; 0 if there is no watch.
func (w *Watcher) add(raw syscall.RawConn, t watched, dst *watchID) {
	if w == nil || raw == nil {
		return
	}
	id := w.take(t, dst)
	if w.set(raw, syscall.EPOLL_CTL_ADD, id, syscall.EPOLLRDHUP) != nil {
		w.remove(id) // closed already, or out of watches: it goes unwatched
		*dst = 0
	}
}

// wakeOnBytes says whether the one that is watched as id, through raw, is told of what there is
// to read; false: it cannot be. What has come before is told, too.
func (w *Watcher) wakeOnBytes(raw syscall.RawConn, id watchID, on bool) bool {
	events := uint32(syscall.EPOLLRDHUP)
	if on {
		events |= syscall.EPOLLIN
	}
	return w.set(raw, syscall.EPOLL_CTL_MOD, id, events) == nil
}

// set has the socket behind raw watched as id for events.
func (w *Watcher) set(raw syscall.RawConn, op int, id watchID, events uint32) error {
	c := &w.control
	c.mu.Lock()
	defer c.mu.Unlock()
	c.op, c.err = op, nil
	c.event = syscall.EpollEvent{Events: events | edgeTriggered, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	if err := raw.Control(c.outer); err != nil {
		return err
	}
	return c.err
}

// callControl is called with control.mu held.
func (w *Watcher) callControl(epfd uintptr) {
	c := &w.control
	c.err = syscall.EpollCtl(int(epfd), c.op, c.fd, &c.event)
}

// edgeTriggered is EPOLLET, whose constant in package syscall has the wrong sign.
const edgeTriggered = 1 << 31

func (w *Watcher) take(t watched, dst *watchID) watchID {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.free - 1
	if i < 0 {
		i = int32(len(w.slots))
		w.slots = append(w.slots, slot{gen: 1})
	}
	s := &w.slots[i]
	w.free, s.next, s.w = s.next, 0, t
	*dst = watchID(s.gen)<<32 | watchID(uint32(i))
	return *dst
}

// remove forgets a connection. The kernel forgets its socket when it is closed.
func (w *Watcher) remove(id watchID) {
	if id == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := int32(uint32(id))
	s := &w.slots[i]
	s.w, s.next = nil, w.free
	if s.gen++; s.gen == 0 {
		s.gen = 1
	}
	w.free = i + 1
}

func (w *Watcher) run() {
	defer close(w.done)
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0) // fails with EINTR only
			return n > 0
		})
		if err != nil {
			return // closed
		}
		for _, ev := range events[:n] {
			w.tell(ev)
		}
	}
}

func (w *Watcher) tell(ev syscall.EpollEvent) {
	i, gen := ev.Fd, uint32(ev.Pad)
	w.mu.Lock()
	var t watched
	if s := &w.slots[i]; s.gen == gen {
		t = s.w
	}
	w.mu.Unlock()
	if t == nil {
		return
	}
	if ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		t.otherEndGone(ev.Events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0)
	}
	if ev.Events&(syscall.EPOLLIN|syscall.EPOLLERR|syscall.EPOLLHUP) != 0 { // a FIN is read, too
		t.readable()
	}
}
