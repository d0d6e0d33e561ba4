package wasmfilter

import (
	"sync"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
)

// OnError says what happens to an exchange whose plugin has failed: trapped, or
// without a VM.
type OnError uint8

const (
	// OnErrorClose answers 503 with reason plugin_failed:NAME, or resets the
	// exchange when the answer's head has gone out.
	OnErrorClose OnError = iota
	// OnErrorOpen goes on without the plugin.
	OnErrorOpen
)

// Options say how a plugin takes part in exchanges. The zero value works.
type Options struct {
	OnError OnError

	// BodyBuffer is the most bytes of a body that a paused message may hold
	// back; a request beyond it is answered 413 with reason
	// request_payload_too_large:NAME, a response 502 with
	// response_payload_too_large:NAME. 0 means 1 MiB.
	BodyBuffer int

	// Pause is the longest time that one pause may last; beyond it the answer is
	// 504 with reason plugin_timeout:NAME. 0 means until the exchange's
	// deadline.
	Pause time.Duration

	// NoReroute switches off that an edit of the request head has the route
	// matched again once the last filter has let go of it. The property
	// clear_route_cache does the same for one exchange.
	NoReroute bool

	// Objects is where the plugin may store messages; nil: nowhere.
	Objects *objects.Store
}

// A Factory makes the filters of one plugin with one configuration.
type Factory struct {
	name  string
	calls host.Callbacks
	hold  bool // Pause in a headers callback holds the head only

	orders bool        // there is a gate, a watch, or passes and misses: requests may go past the guest
	gate   gate        // nil: none
	watch  *host.Watch // nil: none

	o    Options
	open func(f *Filter) error // binds f.guest; replaced in tests
	warn func(message string)  // Plugin.Warn; replaced in tests
	pool sync.Pool             // *Filter

	standing []standingEdits      // of answers
	space    *objects.Space       // nil: none
	lookup   *host.StandingLookup // nil: none was ordered
	passes   bool                 // it lets requests by, and there is nothing else in front of the guest
	models   models               // that were said under it
	seen     *seen                // what guests have answered under it; nil: there is no order
	now      func() time.Time

	standingRequests []standingEdits
}

var _ filter.Factory = (*Factory)(nil)

// New returns the factory for the plugin configured as r. r stays the caller's: it
// must not be closed before the last exchange that uses the factory has ended.
func New(r *host.Root, o Options) *Factory {
	p := r.Plugin()
	x := newFactory(p.Name(), r.Callbacks(), o)
	x.warn = p.Warn
	x.standingRequests, x.standing = standingOf(r.StandingEdits())
	if o.Objects != nil {
		x.space = o.Objects.Space(p.VMID())
		if x.lookup = r.StandingLookup(); x.lookup != nil {
			x.seen = newSeen()
		}
	}
	if g := r.Gate(); g != nil && x.calls.RequestHeaders {
		x.gate, x.orders = g, true
	}
	if w := r.Watch(); w != nil && x.calls.RequestHeaders && x.calls.ResponseHeaders {
		x.watch, x.orders = w, true
	}
	if l := x.lookup; l != nil && l.Passes() && !x.orders && !x.stands() && x.calls.RequestHeaders && x.calls.ResponseHeaders {
		x.passes, x.orders = true, true
	}
	x.hold = p.HeadersPause() == host.HeadersPauseHold
	x.open = func(f *Filter) error {
		f.guest = &f.context
		return r.Open(&f.context, &f.stream)
	}
	return x
}

func newFactory(name string, calls host.Callbacks, o Options) *Factory {
	if o.BodyBuffer <= 0 {
		o.BodyBuffer = defaultBodyBuffer
	}
	x := &Factory{name: name, calls: calls, o: o, now: time.Now}
	x.pool.New = func() any { return x.newFilter() }
	return x
}

// Name returns the plugin's name in the configuration.
func (x *Factory) Name() string { return x.name }

// New returns the filter of one exchange, which goes back to the factory when it
// is closed. It never fails: a plugin without a live VM is found out about, and
// OnError applied, when the guest is first needed.
func (x *Factory) New(e *filter.Exchange) (filter.Filter, error) {
	f, ok := x.pool.Get().(*Filter)
	if !ok {
		f = x.newFilter()
	}
	f.x = e
	if x.stands() {
		f.nonce = ""
	}
	return f, nil
}

// wantsRequest and wantsResponse report whether the guest exports a callback of
// that direction.
func (x *Factory) wantsRequest() bool {
	return x.calls.RequestHeaders || x.calls.RequestBody || x.calls.RequestTrailers
}

func (x *Factory) wantsResponse() bool {
	return x.calls.ResponseHeaders || x.calls.ResponseBody || x.calls.ResponseTrailers
}

// stands reports whether there are standing edits.
func (x *Factory) stands() bool { return len(x.standing)+len(x.standingRequests) > 0 }

// pluginError is an error of this plugin as the engine answers it.
func (x *Factory) pluginError(status int, reason string, err error) *exchange.Error {
	return &exchange.Error{
		Op: "plugin " + x.name, Side: exchange.Internal, Retry: exchange.RetryNever,
		Status: status, Reason: reason, Err: err,
	}
}
