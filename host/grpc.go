package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/abi"
)

// A GRPCCaller makes the gRPC calls that guests ask for (proxy_grpc_call and
// proxy_grpc_stream). Its methods are safe for concurrent use.
type GRPCCaller interface {
	// PrepareGRPC looks at a call and finds its upstream. It runs while a VM is locked:
	// it must not block and must not call back. The function that it returns makes the
	// call; it is called once at most, on a goroutine of its own, and returns when the
	// call is over, or, soon, when ctx is done. The error is ErrNoUpstream, or says what
	// about the call cannot be sent; r is the GRPCCaller's unless there is one.
	PrepareGRPC(r *GRPCRequest) (do func(ctx context.Context, c *GRPCCall) GRPCEnd, err error)
}

// A GRPCRequest is a call, or stream, that a guest asks for. Names and values of metadata
// are clean, as CleanField has it, and names in lower case; values of keys that end in
// -bin are as they travel, in base64.
type GRPCRequest struct {
	Plugin   string // who asks
	Upstream string // who is asked

	Authority       string // "": the upstream's own
	Service, Method string // made of letters, digits and the like, without a slash
	Metadata        []abi.Pair
	Timeout         time.Duration // for all of it; 0: none
	Stream          bool          // messages in both directions, as many as there are; else one in each
}

// A GRPCEnd is how a call has ended.
type GRPCEnd struct {
	Outcome CallOutcome
	Code    uint32 // status of gRPC
	Message string // that goes with it; what proxy_get_status tells
	Trailer []abi.Pair
}

// Statuses of gRPC that the host itself ends calls with (gRPC, "Status codes and their
// use in gRPC").
const (
	grpcResourceExhausted = 8
	grpcInternal          = 13
)

// Kinds of calls, in the low two bits of their ids, as in the reference host.
const (
	httpKind       = 0
	grpcCallKind   = 1
	grpcStreamKind = 2
	callKinds      = 4
)

// A GRPCCall is a call or stream that is under way, as its GRPCCaller sees it. Next and
// Wake are for the goroutine that sends, Head, Message and Hold for the one that receives,
// which may be the same.
type GRPCCall struct {
	// Immutable.
	v        *vm
	id       uint32
	base     *rootContext // which is told of what comes
	upstream string
	stream   bool
	cancel   context.CancelFunc
	wake     chan struct{} // has room for one

	held atomic.Int64 // bytes that count in Plugin.callBytes

	// Owned by who receives.
	messages int
	message  []byte // of a call that is no stream

	// Owned by who sends.
	sending int // bytes of the message that Next has handed out

	mu sync.Mutex
	// Guarded by mu, which is below the VM's lock.
	queue  [][]byte // messages that wait to be sent
	queued int      // bytes of these
	closed bool     // no more follow
	abort  *GRPCEnd // how the host has ended it; nil: it has not
}

// Next returns the next message to be sent; ok is false if there is none at the moment.
// end means that nothing follows: behind the message, or at all. The message may be used
// until the next call.
func (c *GRPCCall) Next() (message []byte, ok, end bool) {
	c.v.p.freeGRPC(c, c.sending)
	c.sending = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		message, ok = c.queue[0], true
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.queued -= len(message)
		c.sending = grpcSize(message)
	}
	return message, ok, c.closed && len(c.queue) == 0
}

// Wake is told when there may be something new for Next.
func (c *GRPCCall) Wake() <-chan struct{} { return c.wake }

// grpcSize is what a message costs that is held.
func grpcSize(m []byte) int { return len(m) + pairOverhead }

// push queues a message, nil: none, and with end closes the guest's side. False: it is
// closed already. A guest that sends faster than the upstream takes has no way to hear of
// it: beyond the limit its stream is ended.
func (c *GRPCCall) push(m []byte, end bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.abort != nil:
		return true // the guest is about to hear of it
	case c.closed:
		return false
	case m != nil && (c.queued > 0 && c.queued+len(m) > maxGRPCQueued || !c.v.p.holdGRPC(c, grpcSize(m))):
		c.abortLocked(grpcResourceExhausted, "too much waits to be sent")
		return true
	case m != nil:
		c.queue = append(c.queue, m)
		c.queued += len(m)
	}
	c.closed = c.closed || end
	c.wakeUp()
	return true
}

func (c *GRPCCall) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// abortLocked ends c with a status, of which the guest hears as if the server had ended it.
func (c *GRPCCall) abortLocked(code uint32, message string) {
	if c.abort == nil {
		c.abort = &GRPCEnd{Outcome: CallReset, Code: code, Message: message}
	}
	c.queue, c.queued, c.closed = nil, 0, true
	c.cancel()
}

// Hold counts n bytes of an answer that are held for c until Free is told; false: they
// must not be.
func (c *GRPCCall) Hold(n int) bool { return c.v.p.holdGRPC(c, n) }

// Free takes back what Hold has counted.
func (c *GRPCCall) Free(n int) { c.v.p.freeGRPC(c, n) }

// Head tells the guest of the head of the answer, which c keeps; a call that is no stream
// is not told. False: nobody wants the rest.
func (c *GRPCCall) Head(fields []abi.Pair) bool {
	if !c.stream {
		return true
	}
	return c.tell(CallGRPCReceiveInitialMetadata, len(fields), &grpcView{head: pairMap{fields}})
}

// Message tells the guest of a message, which is borrowed, and returns when it has been
// told. False: nobody wants the rest.
func (c *GRPCCall) Message(m []byte) bool {
	c.messages++
	if c.stream {
		return c.tell(CallGRPCReceive, len(m), &grpcView{message: m, told: true})
	}
	if c.messages > 1 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.abortLocked(grpcInternal, "more than one message came for a call that has one")
		return false
	}
	if !c.Hold(len(m)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.abortLocked(grpcResourceExhausted, "the plugin's calls hold too much")
		return false
	}
	c.message = append([]byte(nil), m...)
	return true
}

// A grpcView is what a guest sees of a call while a callback for it runs.
type grpcView struct {
	head, trailer pairMap
	message       []byte
	told          bool   // there is a message
	last          bool   // and no other follows
	code          uint32 // what proxy_get_status tells
	text          string
}

// tell makes a callback for c, unless the guest does not want to hear of it any more.
func (c *GRPCCall) tell(cb Callback, size int, view *grpcView) bool {
	v := c.v
	v.lock()
	if v.rpcs[c.id] == c {
		v.tellGRPC(c, cb, uint64(size), view)
	}
	wanted := v.rpcs[c.id] == c
	v.unlock()
	return wanted
}

func (v *vm) tellGRPC(c *GRPCCall, cb Callback, arg uint64, view *grpcView) {
	v.rpc = view
	v.call(&c.base.Context, cb, uint64(c.base.id), uint64(c.id), arg)
	v.rpc = nil
}

// startGRPC begins a call for the current context, with its message, or a stream. Nothing of it is told before the outermost callback has
// returned, as that needs mu, which is held.
func (v *vm) startGRPC(r *GRPCRequest, message []byte, do func(context.Context, *GRPCCall) GRPCEnd) (uint32, abi.Status) {
	p := v.p
	kind := uint32(grpcCallKind)
	if r.Stream {
		kind = grpcStreamKind
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &GRPCCall{
		v: v, id: v.newCallID(kind), base: v.current().base, upstream: r.Upstream, stream: r.Stream, cancel: cancel,
		wake: make(chan struct{}, 1), closed: !r.Stream,
	}
	if !r.Stream {
		c.queue, c.queued = [][]byte{message}, len(message)
	}
	if !p.admitGRPC(c, grpcSize(message)+pairBytes(r.Metadata)+len(r.Service)+len(r.Method)) {
		cancel()
		v.warn("a gRPC call was not made: the plugin has too many calls under way, or they hold too much")
		p.tellOutcome(c.upstream, CallRefused)
		return 0, abi.StatusInternalFailure
	}
	if v.rpcs == nil {
		v.rpcs = map[uint32]*GRPCCall{}
	}
	v.rpcs[c.id] = c
	// Ends when do returns, soon after cancel: with the root or the VM.
	if !p.h.spawn(func() { v.runGRPC(ctx, c, do) }) {
		cancel()
		delete(v.rpcs, c.id)
		p.endGRPC(c)
		return 0, abi.StatusInternalFailure
	}
	return c.id, abi.StatusOK
}

// runGRPC makes a call and tells the guest how it has ended.
func (v *vm) runGRPC(ctx context.Context, c *GRPCCall, do func(context.Context, *GRPCCall) GRPCEnd) {
	end := do(ctx, c)
	c.cancel() // frees ctx
	c.mu.Lock()
	if c.abort != nil {
		end = *c.abort
	}
	c.closed = true
	c.mu.Unlock()
	if end.Code == 0 && !c.stream && c.messages == 0 {
		end.Code, end.Message = grpcInternal, "the call went well, and no message came"
	}
	v.lock()
	told := v.rpcs[c.id] == c
	if told {
		v.endGRPC(c, &end)
	}
	v.unlock()
	v.p.endGRPC(c)
	if !told {
		end.Outcome = CallCanceled
	}
	v.p.tellOutcome(c.upstream, end.Outcome)
}

// endGRPC makes the last callbacks of c: for a call its message, or its status; for a
// stream the trailing metadata, which may be empty, and the status.
func (v *vm) endGRPC(c *GRPCCall, end *GRPCEnd) {
	if c.stream {
		v.tellGRPC(c, CallGRPCReceiveTrailingMetadata, uint64(len(end.Trailer)), &grpcView{trailer: pairMap{end.Trailer}})
		if v.rpcs[c.id] != c {
			return // the guest has given it up just now, or died
		}
	}
	delete(v.rpcs, c.id)
	if !c.stream && end.Code == 0 {
		v.tellGRPC(c, CallGRPCReceive, uint64(len(c.message)), &grpcView{message: c.message, told: true, last: true})
		return
	}
	v.tellGRPC(c, CallGRPCClose, uint64(end.Code), &grpcView{code: end.Code, text: end.Message})
}

// cancelGRPC gives up the calls of a root, or with nil all, without telling the guest.
func (v *vm) cancelGRPC(base *rootContext) {
	for id, c := range v.rpcs {
		if base == nil || c.base == base {
			c.cancel()
			delete(v.rpcs, id)
		}
	}
}

// admitGRPC counts a call with n bytes, unless the plugin has too many.
func (p *Plugin) admitGRPC(c *GRPCCall, n int) bool {
	if p.calls.Add(1) > maxCalls {
		p.calls.Add(-1)
		return false
	}
	if !p.holdGRPC(c, n) {
		p.calls.Add(-1)
		return false
	}
	return true
}

// holdGRPC counts n bytes that are held for c; false: they must not be.
func (p *Plugin) holdGRPC(c *GRPCCall, n int) bool {
	if p.callBytes.Add(int64(n)) > maxCallBytes {
		p.callBytes.Add(int64(-n))
		return false
	}
	c.held.Add(int64(n))
	return true
}

func (p *Plugin) freeGRPC(c *GRPCCall, n int) {
	c.held.Add(int64(-n))
	p.callBytes.Add(int64(-n))
}

// endGRPC takes back what was counted for c.
func (p *Plugin) endGRPC(c *GRPCCall) {
	p.callBytes.Add(-c.held.Load())
	p.calls.Add(-1)
}
