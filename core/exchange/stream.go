package exchange

import "context"

// Head is the head of a message: a request line or status line, and fields.
type Head interface{ *Request | *Response }

// A Sink consumes one message: Head, then Data any number of times, then at
// most one Trailer. The call made with end set is the last; Trailer is always
// the last. A Response message may be preceded by heads with a 1xx status
// (101 is a final head, never preceded by nothing else: see Upgrade below).
//
// Calls never overlap, but may come from different goroutines. p belongs to the
// caller again when the call returns; h stays valid until the Handler has
// returned. Data(nil, false) means: flush, nothing more is at hand; pass on
// what is held for coalescing. A feeder calls it before it blocks on its wire.
// The last call returns only when the sink is done with the message: passed
// on, answered, or given up. After an error the message is dead and the caller
// must not call again.
//
// Upgrade: a request that asks for one (Request.Upgrade != "") is pushed with
// end=false. After a 101 response head, Data in both directions are tunnel
// bytes. At any other final status the feeder ends the request message with
// Data(nil, true).
type Sink[H Head] interface {
	Head(h H, end bool) error
	Data(p []byte, end bool) error
	Trailer(f *Fields) error
}

// Detacher is optionally implemented by a Sink that a filter returned. The
// engine reads it once after that sink's Head has returned nil; true means that
// Data and Trailer may be handed straight to the sink behind it.
type Detacher interface{ Detached() bool }

// Piper is optionally implemented by a Sink that can take bytes of a body out of a pipe of
// the kernel, which spares copying them. A codec asks when Head has returned nil.
type Piper interface {
	// Pipes reports whether DataPipe may be called from here to the end of the message,
	// instead of Data or in turn with it.
	Pipes() bool

	// DataPipe is Data for the next n bytes of a pipe, whose reading end fd is. After an
	// error some may be left in it.
	DataPipe(fd, n int, end bool) error
}

// A Stream is one side of an exchange as a codec presents it: In is the
// message it reads from the wire, Out the one it writes to the wire.
type Stream[In, Out Head] interface {
	Sink[Out]

	// Feed reads the incoming message and pushes it into dst. It returns nil
	// once the message has ended, and otherwise an *Error: the codec's own, or
	// whatever dst returned, unchanged.
	Feed(dst Sink[In]) error

	// Reset gives up both messages. It may be called from any goroutine and
	// more than once; only the first call has an effect. Calls into the stream
	// that are blocked return soon with an *Error.
	Reset(Code)
}

type (
	// Client is the stream towards the client: requests come in, responses go out.
	Client = Stream[*Request, *Response]
	// Upstream is the stream towards an upstream: responses come in, requests go out.
	Upstream = Stream[*Response, *Request]
)

// A Handler serves one exchange and returns when it is over. ctx is done when
// the client has gone (architecture, rule 11); it may be one context for the
// whole connection. Nothing may touch c after the Handler has returned.
type Handler func(ctx context.Context, c Client)
