package exchange

import (
	"errors"
	"strconv"
)

// Code says why a stream is reset. Codecs map it to their own wire codes.
type Code uint8

const (
	// CodeCancel means that the exchange is no longer wanted.
	CodeCancel Code = iota
	// CodeInternal means that wproxy failed.
	CodeInternal
	// CodeNoError means that the answer is complete, the rest of the request is not needed.
	CodeNoError
	// CodeTimeout means that a deadline passed.
	CodeTimeout
	// CodeRefused means that the request was not processed at all.
	CodeRefused
	// CodeIncomplete means that the client will never send the rest of its
	// request. Only a GoneNotifier uses it.
	CodeIncomplete
)

// Side says where an exchange failed.
type Side uint8

const (
	// Internal is in wproxy itself or one of its plugins.
	Internal Side = iota
	// ClientSide is on the connection to the client.
	ClientSide
	// UpstreamSide is on the connection to the upstream.
	UpstreamSide
)

// Retry says whether the same request may be sent again after an error.
type Retry uint8

const (
	// RetryNever means no: bytes of an answer were seen, or the request may have had effects.
	RetryNever Retry = iota
	// RetryIfReused means only if the connection had served an exchange before, so
	// that the error may be the upstream's idle timeout; idempotent requests only.
	RetryIfReused
	// RetryAlways means yes: the upstream has not seen one byte of the request, or says
	// that it has not looked at it.
	RetryAlways
)

// ReasonGoAway is the Reason, with RetryAlways, of a request that was sent on a
// connection which the other side was about to close, and which it has not looked at
// (GOAWAY, RFC 9113 6.8). That is the end of the connection's life, and says nothing of
// the server: it is to be sent on another one.
const ReasonGoAway = "goaway"

// An Error is why an exchange failed.
type Error struct {
	Op     string // what was being done: "dial", "read head", "write body", ...
	Side   Side
	Retry  Retry
	Status int    // the status to answer with if no head has been sent; 0: none
	Reason string // stable machine-readable name, e.g. "conflicting_length": metric label, log field
	Err    error  // the cause; may be nil
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Op
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Status != 0 {
		s += " (" + strconv.Itoa(e.Status) + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrAnswered is returned by a sink, and by Feed, when the exchange has been
// answered by somebody else, so that the rest of the message is not wanted.
// It is not a failure.
var ErrAnswered = errors.New("exchange: already answered")

// ErrReset is the cause of errors from a stream on which Reset was called.
var ErrReset = errors.New("exchange: stream was reset")

// ErrClientGone is the cause of a connection's context (context.Cause) when the
// client has gone while its answer was due: status 499 in the log.
var ErrClientGone = errors.New("exchange: client has gone")
