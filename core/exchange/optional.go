package exchange

import "time"

// Optional interfaces of a [Stream]. The engine looks for each at most once per
// exchange; a codec that lacks one still works, less precisely.

// A Deadliner moves the point in time after which its blocked calls fail with
// an *Error of reason "timeout". The zero time takes the limit away. It applies
// to Feed and to the Sink calls, on top of the codec's own timeouts between bytes;
// tunnels (after 101) are not subject to it. Setting it is cheap: no timer is
// touched until a call is about to block. It must not be called while a call into
// the stream is running.
type Deadliner interface{ SetDeadline(t time.Time) }

// A TunnelIdler bounds how long neither side of a tunnel may say anything: d; 0
// is the codec's default, negative is for ever. It is called on both sides of an
// exchange, at most once and before the client's stream gets the 101. Feed of an
// upstream's stream, in whose Head that happens, goes by it from there on.
type TunnelIdler interface{ SetTunnelIdle(d time.Duration) }

// A Starter tells when the first byte of the request head was read.
type Starter interface{ Started() time.Time }

// A Resetter gives up an exchange; every Stream is one.
type Resetter interface{ Reset(c Code) }

// A GoneNotifier resets another stream when the client has gone (architecture,
// rule 11), without the allocation and the goroutine that watching the context
// would cost. r is reset with CodeCancel, on a goroutine of the codec, and at once
// if the client has gone already. There is one r at a time; nil takes it back, and
// once the call that ends the response message has returned, or the Handler
// has, r is not touched any more.
//
// While Feed is in a call of its sink, r may also be reset with CodeIncomplete,
// more than once: the client has closed before the end of its request and Feed,
// as soon as that call returns, will say so. Whoever holds the request back
// need not do so any longer; the client may still read an answer.
type GoneNotifier interface{ ResetWhenGone(r Resetter) }

// A Releaser lets a codec use an upstream's stream, and the response heads that
// came from it, for another exchange. The engine calls Release, if the stream has
// it, at the very end of its Handler, after the last look at such a head. Not
// calling it is correct and leaves them to the garbage collector. Until then,
// calls on a stream whose messages have ended are harmless, Reset above all.
type Releaser interface{ Release() }

// A Retractor takes back what was begun of an answer, if not one byte of it has
// gone out: then, and only then, it reports true, and another head may follow.
// It is called when the response message has failed and nobody is writing it.
type Retractor interface{ Retract() bool }
