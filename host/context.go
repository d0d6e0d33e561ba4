package host

import (
	"time"

	"wproxy/abi"
)

// A Context is the guest's view of one stream. Memory for it belongs to the
// caller, typically inside the filter that handles the exchange. Its methods may be
// called from any goroutine, but one at a time, from Open to Finish; each locks the
// VM, calls the guest and unlocks. A callback that the guest does not export
// answers abi.Continue at once.
//
// After an error no callback is made for this stream any more. The errors are:
// *TrapError when the VM has died, in this callback or in one of another stream;
// *ClosedError when the host is closing; *NoVMError when no VM is alive at the
// moment.
//
// A Stream that implements Failer is told when its VM dies in between.
type Context struct{}

// A Failer is a Stream that wants to hear at once that its VM has died while no
// callback of its own was running; a stream that a guest has paused would wait for
// ever otherwise. Failed obeys the rules of Stream: it marks and wakes, and does
// not block or call back.
type Failer interface{ Failed(err error) }

// RequestHeaders calls on_request_headers. n is the number of header lines, pseudo
// headers included; end means that neither body nor trailers follow.
func (c *Context) RequestHeaders(n int, end bool) (abi.Action, error) { panic("todo") }

// RequestBody calls on_request_body. n is the number of bytes that the body buffer
// holds; end marks the last call of the message.
func (c *Context) RequestBody(n int, end bool) (abi.Action, error) { panic("todo") }

// RequestTrailers calls on_request_trailers. n is the number of trailer lines.
func (c *Context) RequestTrailers(n int) (abi.Action, error) { panic("todo") }

// ResponseHeaders calls on_response_headers, see RequestHeaders.
func (c *Context) ResponseHeaders(n int, end bool) (abi.Action, error) { panic("todo") }

// ResponseBody calls on_response_body, see RequestBody.
func (c *Context) ResponseBody(n int, end bool) (abi.Action, error) { panic("todo") }

// ResponseTrailers calls on_response_trailers, see RequestTrailers.
func (c *Context) ResponseTrailers(n int) (abi.Action, error) { panic("todo") }

// Finish ends the stream: on_done, on_log, on_delete. It is called exactly once for
// each Open, also after an error and when no callback was made. The Stream is used
// until Finish returns, with one exception: a guest may put off the end
// (on_done returns false, proxy_done comes later; capped in time and number).
// Then keep is called, under the VM's lock, for a Stream that stays valid on its own
// (a copy of the heads), and that one is used from then on. With keep nil the end
// is not put off. c may be opened again afterwards.
//
// The error is a *TrapError if the guest died in one of these calls; everything
// else there is to know about a VM that is gone already is not repeated.
func (c *Context) Finish(keep func() Stream) error { panic("todo") }

// GuestTime returns the time spent in callbacks of this stream so far. It stays
// readable after Finish, until the next Open.
func (c *Context) GuestTime() time.Duration { panic("todo") }
