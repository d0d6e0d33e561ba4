package host

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"sync/atomic"
	"time"

	"wproxy/abi"
)

// A Caller makes the HTTP calls that guests ask for (proxy_http_call). Its methods are
// safe for concurrent use.
type Caller interface {
	// Prepare looks at a call, which is the Caller's from then on, and finds its
	// upstream. It runs while a VM is locked: it must not block and must not call
	// back. The function that it returns makes the call; it is called once at most,
	// on a goroutine of its own, and returns when the answer is whole, the call has
	// failed, or, soon, when ctx is done. The error is ErrNoUpstream, or says what
	// about the request cannot be sent.
	Prepare(r *CallRequest) (do func(ctx context.Context) CallResponse, err error)
}

// ErrNoUpstream is returned by a Caller that knows no upstream of the name.
var ErrNoUpstream = errors.New("host: there is no such upstream")

// A CallRequest is an HTTP request that a guest asks for. Names and values of fields
// are clean, as CleanField has it, and names in lower case; pseudo fields are not among
// them, and neither is host.
type CallRequest struct {
	Plugin   string // who asks
	Upstream string // who is asked

	Method, Path      string // as the guest wrote them
	Scheme, Authority string // the same; may be ""

	Fields   []abi.Pair
	Body     []byte
	Trailers []abi.Pair
	Timeout  time.Duration // for all of it; more than 0

	// Room is asked before n more bytes of the answer's body are held; false: the
	// answer is too large, CallReset. It is set once the call is accepted, and may be
	// asked on any goroutine, one at a time.
	Room func(n int) bool
	// HeadRoom is the same for a head, or trailers, of the answer, of so many fields
	// with so many bytes of names and values.
	HeadRoom func(fields, bytes int) bool
}

// size is what a call holds, in bytes.
func (r *CallRequest) size() int {
	return len(r.Method) + len(r.Path) + len(r.Scheme) + len(r.Authority) + len(r.Body) + pairBytes(r.Fields) + pairBytes(r.Trailers)
}

// pairBytes is what fields cost that are held.
func pairBytes(pairs []abi.Pair) int {
	n := len(pairs) * pairOverhead
	for i := range pairs {
		n += len(pairs[i].Name) + len(pairs[i].Value)
	}
	return n
}

// A CallOutcome is what has become of a call; a label of bounded cardinality.
type CallOutcome string

// Outcomes.
const (
	CallAnswered    CallOutcome = "answered"    // whatever the status
	CallUnavailable CallOutcome = "unavailable" // no answer had begun: the guest sees a 503
	CallTimeout     CallOutcome = "timeout"     // no answer had begun in time: the guest sees a 504
	CallReset       CallOutcome = "reset"       // the answer was cut short, or is too large
	CallCanceled    CallOutcome = "canceled"    // who asked is gone: the guest hears nothing
	CallRefused     CallOutcome = "refused"     // not sent: more than a limit allows
)

// A CallResponse is what a Caller returns: an answer, or why there is none.
type CallResponse struct {
	Outcome CallOutcome
	Reason  string // of a failure, a short stable name; what proxy_get_status tells

	// Of an answer.
	Status   int
	Fields   []abi.Pair // names in lower case
	Body     []byte
	Trailers []abi.Pair
}

// An httpCall is a call that is under way.
type httpCall struct {
	// Immutable.
	id       uint32
	base     *rootContext // which is told of the answer
	upstream string
	cancel   context.CancelFunc

	held   atomic.Int64 // bytes that count in Plugin.callBytes
	answer int          // of these, the answer's body; owned by Room's caller
}

// A callAnswer is an answer while its callback runs.
type callAnswer struct {
	head, trailers pairMap
	body           []byte
	code           uint32 // what proxy_get_status tells
	message        string
}

// sendCall sends a call for the current context. It is not answered before the
// outermost callback has returned, as that needs mu, which is held.
func (v *vm) sendCall(r *CallRequest) (uint32, abi.Status) {
	p := v.p
	do, err := p.h.o.Caller.Prepare(r)
	switch {
	case errors.Is(err, ErrNoUpstream):
		v.warnOnce("call to an unknown upstream", "an HTTP call to "+strconv.Quote(cutLine(r.Upstream, maxNameBytes))+" was not made: there is no such upstream")
		return 0, abi.StatusBadArgument
	case err != nil:
		v.warnOnce("call that cannot be sent", "an HTTP call was not made: "+cutLine(err.Error(), maxNameBytes))
		return 0, abi.StatusBadArgument
	case !p.grants.has(GrantCall + r.Upstream):
		v.notGranted("proxy_http_call to the upstream "+r.Upstream, GrantCall+r.Upstream) // one of the configuration
		return 0, abi.StatusInternalFailure
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &httpCall{id: v.newCallID(httpKind), base: v.current().base, upstream: r.Upstream, cancel: cancel}
	if !p.admitCall(c, r) {
		cancel()
		v.warn("an HTTP call was not made: the plugin has too many under way, or they hold too much")
		p.tellOutcome(c.upstream, CallRefused)
		return 0, abi.StatusInternalFailure
	}
	r.Room = func(n int) bool { return p.callRoom(c, n) }
	r.HeadRoom = func(fields, bytes int) bool { return p.holdCall(c, fields*pairOverhead+bytes) }
	if v.calls == nil {
		v.calls = map[uint32]*httpCall{}
	}
	v.calls[c.id] = c
	// Ends when do returns, soon after cancel: with the root or the VM.
	if !p.h.spawn(func() { v.runCall(ctx, c, do) }) {
		cancel()
		delete(v.calls, c.id)
		p.releaseCall(c)
		return 0, abi.StatusInternalFailure
	}
	return c.id, abi.StatusOK
}

// newCallID returns an id that no call under way has. The low two bits tell the kinds
// of calls apart, as in the reference host.
func (v *vm) newCallID(kind uint32) uint32 {
	for {
		v.lastCall += callKinds
		if id := v.lastCall | kind; v.lastCall != 0 && v.calls[id] == nil && v.rpcs[id] == nil {
			return id
		}
	}
}

// admitCall counts a call, unless the plugin has too many.
func (p *Plugin) admitCall(c *httpCall, r *CallRequest) bool {
	if p.calls.Add(1) > maxCalls {
		p.calls.Add(-1)
		return false
	}
	if !p.holdCall(c, r.size()) {
		p.calls.Add(-1)
		return false
	}
	return true
}

// holdCall counts n bytes that are held for c; false: they must not be.
func (p *Plugin) holdCall(c *httpCall, n int) bool {
	if p.callBytes.Add(int64(n)) > maxCallBytes {
		p.callBytes.Add(int64(-n))
		return false
	}
	c.held.Add(int64(n))
	return true
}

// callRoom is CallRequest.Room.
func (p *Plugin) callRoom(c *httpCall, n int) bool {
	if n > maxCallAnswer-c.answer || !p.holdCall(c, n) {
		return false
	}
	c.answer += n
	return true
}

// releaseCall takes back what admitCall and holdCall have counted.
func (p *Plugin) releaseCall(c *httpCall) {
	p.callBytes.Add(-c.held.Load())
	p.calls.Add(-1)
}

func (p *Plugin) tellOutcome(upstream string, o CallOutcome) {
	if p.o.OnCallout != nil {
		p.o.OnCallout(upstream, o)
	}
}

// runCall makes a call and tells the guest of the answer.
func (v *vm) runCall(ctx context.Context, c *httpCall, do func(context.Context) CallResponse) {
	resp := do(ctx)
	c.cancel() // frees ctx
	v.lock()
	told := v.calls[c.id] == c
	if told {
		delete(v.calls, c.id)
		a := resp.show()
		v.answer = a
		v.call(&c.base.Context, CallHTTPCallResponse, uint64(c.base.id), uint64(c.id),
			uint64(len(a.head.pairs)), uint64(len(a.body)), uint64(len(a.trailers.pairs)))
		v.answer = nil
	}
	v.unlock()
	v.p.releaseCall(c)
	if !told {
		resp.Outcome = CallCanceled
	}
	v.p.tellOutcome(c.upstream, resp.Outcome)
}

// cancelCalls gives up the calls of a root, or with nil all, without telling the guest.
func (v *vm) cancelCalls(base *rootContext) {
	for id, c := range v.calls {
		if base == nil || c.base == base {
			c.cancel()
			delete(v.calls, id)
		}
	}
}

// show makes of r what the guest sees. A call that has failed before its answer began
// looks as if a proxy had answered: that is what the reference host does, whose router
// makes the call, and what plugins that were tested on it look for. Where an answer had
// begun there is nothing to see but the status of the call.
func (r *CallResponse) show() *callAnswer {
	switch r.Outcome {
	case CallAnswered:
		a := &callAnswer{body: r.Body, trailers: pairMap{r.Trailers}}
		a.head.pairs = append([]abi.Pair{{Name: ":status", Value: strconv.Itoa(r.Status)}}, r.Fields...)
		return a
	case CallUnavailable:
		return r.own("503", "upstream connect error or disconnect/reset before headers. reset reason: "+r.Reason)
	case CallTimeout:
		return r.own("504", "upstream request timeout")
	default:
		return &callAnswer{code: uint32(abi.StatusBrokenConnection), message: r.Reason}
	}
}

// own makes an answer of wproxy's own.
func (r *CallResponse) own(status, text string) *callAnswer {
	return &callAnswer{
		head: pairMap{[]abi.Pair{
			{Name: ":status", Value: status},
			{Name: "content-length", Value: strconv.Itoa(len(text))},
			{Name: "content-type", Value: "text/plain"},
		}},
		body: []byte(text),
		code: uint32(abi.StatusBrokenConnection), message: r.Reason,
	}
}

// pairMap is a Map that can be read.
type pairMap struct{ pairs []abi.Pair }

// Len implements Map.
func (m *pairMap) Len() int { return len(m.pairs) }

// Get implements Map.
func (m *pairMap) Get(name string) (string, bool) {
	for i := range m.pairs {
		if m.pairs[i].Name == name {
			return m.pairs[i].Value, true
		}
	}
	return "", false
}

// Set implements Map.
func (m *pairMap) Set(string, string) bool { return false }

// Add implements Map.
func (m *pairMap) Add(string, string) bool { return false }

// Remove implements Map.
func (m *pairMap) Remove(string) bool { return false }

// Replace implements Map.
func (m *pairMap) Replace([]abi.Pair) bool { return false }

// All implements Map.
func (m *pairMap) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range m.pairs {
			if !yield(m.pairs[i].Name, m.pairs[i].Value) {
				return
			}
		}
	}
}
