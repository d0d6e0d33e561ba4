package wasmfilter

import (
	"sync"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
)

// guest is a stream context: what Filter asks of *host.Context, and of the fakes in
// tests.
type guest interface {
	RequestHeaders(n int, end bool) (abi.Action, error)
	RequestBody(n int, end bool) (abi.Action, error)
	RequestTrailers(n int) (abi.Action, error)
	ResponseHeaders(n int, end bool) (abi.Action, error)
	ResponseBody(n int, end bool) (abi.Action, error)
	ResponseTrailers(n int) (abi.Action, error)
	Finish(keep func() host.Stream) error
	GuestCost() (took time.Duration, fuel int64)
}

// A Filter is a plugin's part in one exchange. It is pooled: everything that an
// exchange needs is inside, and reset when it is closed.
type Filter struct {
	// What an exchange that goes past the guest touches is here, and in the first words of the
	// two directions: with many exchanges under way all of it has left the cache by the time
	// that it is needed.
	factory *Factory         // immutable
	x       *filter.Exchange // set by New, cleared by Close
	passing
	passage // of the request, if the factory passes any

	req  direction[*exchange.Request]
	resp direction[*exchange.Response]

	keep func() host.Stream // f.snapshot, made once

	// calls makes the calls into the guest one at a time, as host.Context
	// wants it: the two directions run on two goroutines when a request body is
	// still on its way. It is between the direction locks and the VM lock.
	calls   sync.Mutex
	guest   guest        // guarded by calls; nil until opened
	context host.Context // the memory of guest

	requestEdits editor[*exchange.Request] // of messages that the guest is not called for
	edits        editor[*exchange.Response]
	nonce        string // of the exchange; "" until it is needed, as New leaves it. Guarded by Exchange.Mu
	texts        texts  // guarded by Exchange.Mu

	stream stream
	maps   headerMaps

	// Of stored messages (objects.go, keep.go).
	fill      *objects.Fill  // of the response; guarded by resp.mu
	gathering gathering      // of the response, before there is a fill
	reading   reading        // owned by who passes the answer on
	ownReader objects.Reader // of the response that is being stored
	own       serving        // of the answer; owned by whom stored.serving makes the owner
	alone     alone          // owned by the request direction
	packRoom  []byte         // where what is stored of a response is put together; owned by who is in that direction

	refusing *refusing          // of the request, by a gate; nil: it has not been needed yet
	left     *exchange.Response // immutable: what the last answer in a head of the filter's own has left of it

	marks
	stored

	noted [filter.PhaseEnd + 1]int // what Exchange.NoteCall knows the groups of callbacks by; guarded by calls
}

// marks is what a guest has asked for and what has become of the plugin. Guarded
// by Exchange.Mu.
type marks struct {
	reply   *host.Reply        // to be sent
	replied bool               // a reply was asked for; further ones are ignored
	refused bool               // it is a gate's: the guest knows nothing of it, but standing edits are made of it
	outrun  bool               // the answer is somebody else's: reply waits for it to come by
	sent    *exchange.Response // head of the reply that was sent
	won     bool               // it has become the answer
	abort   string             // reason for a reset that is to be made; "": none
	aborted bool               // the reset has been made

	failed error // the plugin has failed: callbacks are not made any more
	gaveUp bool  // and has ended the exchange for it: the answer is not its business

	dirty     bool // the guest has edited the request head
	reroute   bool // the guest has asked for it
	noReroute bool // the guest has switched it off

	verdict string
	limits  [2]int // body buffer limits that the guest has set, by direction; 0: none

	// What properties tell about the upstream: written by the engine before
	// the response head arrives, copied then, since another goroutine may write
	// it again.
	outcome filter.Outcome
	route   *filter.Route
	status  int
	reason  string
	final   bool // the record is final
}

func (x *Factory) newFilter() *Filter {
	f := &Filter{factory: x}
	f.keep = f.snapshot
	f.edits.f, f.edits.d = f, &f.resp
	f.requestEdits.f, f.requestEdits.d = f, &f.req
	f.stream.f = f
	f.req.init(f, abi.StreamRequest)
	f.resp.init(f, abi.StreamResponse)
	f.maps.init(f)
	f.reading.wake = make(chan struct{}, 1)
	return f
}

// Request implements filter.Filter. A guest without request callbacks is not in
// the way of requests.
func (f *Filter) Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request] {
	x := f.factory
	switch {
	case x.wantsRequest():
		f.req.next = next
		return &f.req
	case len(x.standingRequests) > 0:
		f.requestEdits.next = next
		return &f.requestEdits
	}
	return next
}

// Response implements filter.Filter. A guest with request callbacks needs to know
// how far the answer has come, even if it does not look at it.
func (f *Filter) Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response] {
	x := f.factory
	switch {
	case x.wantsRequest() || x.wantsResponse():
		f.resp.next = next
		return &f.resp
	case len(x.standing) > 0:
		f.edits.next = next
		return &f.edits
	}
	return next
}

var _ filter.BodyInspector = (*Filter)(nil)

// InspectsRequestBody implements filter.BodyInspector.
func (f *Filter) InspectsRequestBody() bool { return f.factory.calls.RequestBody }

// openGuest opens the stream context, once.
func (f *Filter) openGuest() error {
	f.calls.Lock()
	defer f.calls.Unlock()
	if f.guest != nil {
		return nil
	}
	err := f.factory.open(f)
	if err != nil {
		f.guest = nil
	}
	return err
}

// seen reports whether the response callbacks of this plugin are made: it has
// seen the request, has no callbacks that should have, or the answer is one that
// core made before any filter saw the request (abi.md 5.1, config.md); or the guest is to be
// told of the answer alone.
func (f *Filter) seen() bool {
	f.calls.Lock()
	opened := f.guest != nil
	f.calls.Unlock()
	return opened || f.told.Load() || !f.factory.wantsRequest() || !f.x.RequestRun()
}

// noteLocked copies what properties tell about the answer.
func (f *Filter) noteLocked() {
	x := f.x
	f.outcome, f.route, f.reason = x.Upstream, x.Route, x.Reason
	switch {
	case f.resp.stage == stageHere:
		f.status = f.resp.head.Status
	case x.Response != nil:
		f.status = x.Response.Status
	}
}

// onlyEnd reports whether the end of the exchange is the first that the guest hears of
// it, having had no callback for what came before (abi.md 4.4). An exchange whose
// request did not get as far as a plugin that would have seen it is none of its
// business.
func (f *Filter) onlyEnd() bool {
	if f.guest != nil || !f.factory.calls.End || f.factory.wantsRequest() {
		return false
	}
	f.x.Mu.Lock()
	answered := f.x.Response != nil
	f.x.Mu.Unlock()
	return answered || f.x.RequestRun()
}

// Close implements filter.Filter: on_done, on_log, on_delete.
func (f *Filter) Close(error) {
	switch {
	case f.past.Load() && !f.told.Load():
		f.closePast()
		return
	case f.edited(): // there was nothing else to do
		f.x.Quiesce()
		f.logStood()
		f.x, f.edits.next, f.requestEdits.next, f.stood = nil, nil, nil, false
		f.factory.pool.Put(f)
		return
	}
	x := f.x
	if !f.shut { // else it was refused, and nothing was looked for
		f.closeObjects()
	}
	x.Quiesce()
	if f.onlyEnd() {
		_ = f.openGuest() // one that is closed is not told
	}
	if f.guest == nil {
		f.logStood()
	}
	if f.guest != nil {
		x.Mu.Lock()
		f.final = true
		f.noteLocked()
		if f.req.trailer == nil { // they went past
			f.req.trailer = x.RequestTrailer
		}
		if f.resp.trailer == nil {
			f.resp.trailer = x.ResponseTrailer
		}
		x.Mu.Unlock()
		began := f.beginCall()
		// The host has logged it; the exchange is over and cannot fail any more.
		_ = f.guest.Finish(f.keep)
		f.endCall(filter.PhaseEnd, began)
		took, _ := f.guest.GuestCost()
		x.Mu.Lock()
		x.Verdicts = append(x.Verdicts, filter.Verdict{Plugin: f.factory.name, Verdict: f.verdict, Took: took})
		x.Mu.Unlock()
	}
	if f.shut {
		f.factory.gate.Leave(f.bucket)
	}
	f.leaveHead()
	f.reset()
	f.factory.pool.Put(f)
}

// edited reports whether the filter was in use for standing edits alone.
func (f *Filter) edited() bool {
	return (f.edits.next != nil || f.requestEdits.next != nil) && f.req.next == nil && f.resp.next == nil && !f.factory.calls.End
}

// logStood has the plugin in the access log if the host did alone what it has ordered ahead.
func (f *Filter) logStood() {
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.stood {
		f.x.Verdicts = append(f.x.Verdicts, filter.Verdict{Plugin: f.factory.name, Verdict: f.verdict})
	}
}

// reset prepares for another exchange.
func (f *Filter) reset() {
	f.x, f.guest, f.edits.next, f.requestEdits.next = nil, nil, nil, nil
	f.passing.reset()
	f.leavePassage()
	f.marks, f.stored = marks{}, stored{deletes: f.deletes.empty(), looks: f.looks.empty()}
	f.noted = [len(f.noted)]int{}
	f.reading.reset()
	if f.refusing != nil {
		f.refusing.head.Reset()
	}
	f.req.reset()
	f.resp.reset()
	f.maps.reset()
}
