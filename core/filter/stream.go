package filter

import "wproxy/core/exchange"

// A Streamer is an [Engine] for filters that keep answers: it lets them answer with what
// they have, go on reading an answer that its client does not wait for, and ask
// for one that no client has asked for.
type Streamer interface {
	// Stream is Answer for an answer that is pushed piece by piece: it claims the
	// exchange's one answer and calls p.Push on the calling goroutine. head is shown to
	// others as the answer; reason is as in Answer, and may be "" for an answer that is not
	// wproxy's own.
	Stream(from Filter, head *exchange.Response, reason string, p Pusher) error

	// MayFill reports whether Fill would be true. A filter that asks at the response's head can keep
	// it until there is more of it, and call Fill then, or not at all: the response stays the
	// client's, and ends with it. If it is true f is told as with Fill, before the client is
	// answered instead.
	MayFill(f Filling) bool

	// Fill has the response that is on its way be read to its end, at the upstream's
	// speed, whether or not the client stays: it is the filter's from here on, which
	// passes it to the client on a goroutine of its own and calls Filled when that has
	// ended. f is told when nothing more will come. False if the exchange cannot
	// do that: its request is still being sent.
	Fill(f Filling) bool
	Filled()

	// Refresh begins an exchange of the same route with a copy of the request, from
	// from's request side on. It has no client, and Exchange.Refresh set. It does not
	// wait. False if there are too many.
	Refresh(from Filter) bool
}

// A Pusher pushes an answer into a sink.
type Pusher interface {
	Push(to exchange.Sink[*exchange.Response]) error
}

// A Filling is told that nothing more of a response will come, once or more; err is nil if it
// has ended as it should.
type Filling interface{ Cut(err error) }
